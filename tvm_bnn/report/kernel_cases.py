"""The rows of the suite `kernels`: each a small Relax module with one kernel to measure, and the same in float.

Maps are written HxWxC. Of a binary convolution's row the input is a map of bits, and the result either bits (behind
a threshold a filter) or float with a scale, a shift and a residual, as in a residual block.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import tvm
from torch import Tensor, nn
from tvm import relax

from tvm_bnn import ops
from tvm_bnn.frontend import import_program
from tvm_bnn.lower import module as lowering
from tvm_bnn.lower.anchors import upsampled_conv
from tvm_bnn.nn import BinaryConv2d, ParallelUpsample, ThresholdSign, WeightedMerge
from tvm_bnn.relay_passes import partition
from tvm_bnn.relay_passes.convert_binary import Decisions
from tvm_bnn.relay_passes.pipeline import optimize
from tvm_bnn.relay_passes.rewriter import bindings_of, op_name

Map = tuple[int, int, int]
#: Without it, a convolution behind nearest upsampling computes every pixel by itself.
UPSAMPLED_READ_AS_VIEW = (upsampled_conv, "MOST_PARTS", 0)
#: Without it, each branch is a kernel of its own.
BRANCHES_APART = (partition, "MOST_SUMMANDS", 1)
_kernels = lowering._kernels
#: Without it, a resize stores the large map, and its signs are a kernel of their own.
RESIZE_APART = (
    lowering,
    "_kernels",
    lambda target: replace(_kernels(target), take_members=lambda call: op_name(call) != "relax.image.resize2d"),
)
F32 = 4


@dataclass(frozen=True)
class Layer:
    """Geometry of a convolution: `size` of its input (H, W, C), zero padding that keeps the size at stride 1."""

    size: Map
    filters: int
    kernel: int = 3
    stride: int = 1
    dilation: int = 1

    @property
    def padding(self) -> int:
        """On each side."""
        return self.kernel // 2 * self.dilation

    @property
    def out(self) -> Map:
        """The result (H, W, C)."""
        height, width = ((extent - 1) // self.stride + 1 for extent in self.size[:2])
        return height, width, self.filters

    @property
    def macs(self) -> int:
        """Multiply-accumulates, padded taps included."""
        height, width, filters = self.out
        return height * width * filters * self.size[2] * self.kernel**2

    @property
    def valid_taps(self) -> float:
        """Share of the taps that lie inside the map."""
        return float(np.prod([self._valid(extent) for extent in self.size[:2]]))

    def _valid(self, extent: int) -> float:
        starts = np.arange((extent - 1) // self.stride + 1)[:, None] * self.stride - self.padding
        taps = starts + np.arange(self.kernel)[None] * self.dilation
        return float(np.mean((taps >= 0) & (taps < extent)))


@dataclass(frozen=True)
class Built:
    """A row's module.

    value : names of the bindings whose kernels are measured; None for the whole module.
    data : arguments of `main`.
    """

    module: tvm.IRModule
    value: list[str] | None
    data: list[np.ndarray]


@dataclass(frozen=True)
class Kernel:
    """One kernel to measure.

    build : () -> its module, seeded.
    twin : () -> the same layer in float and its inputs, for peers; None where there is none to compare with.
    binary_macs, float_macs : of one call, padded taps included.
    twin_macs : float multiply-accumulates of the twin, where its operations are to be counted beside ours.
    maps : bytes of each float map that is read or written.
    valid_taps : share of taps inside the map, of a convolution.
    layer, residual : of a binary convolution, for peers that have one; whether its result is float.
    unfused : (module, name, stand-in) without which the kernel is made of operators as they are, to compare with.
    """

    name: str
    build: Callable[[], Built]
    twin: Callable[[], tuple[nn.Module, tuple[Tensor, ...]]] | None = None
    binary_macs: int = 0
    float_macs: int = 0
    twin_macs: int = 0
    maps: tuple[int, ...] = field(default=())
    valid_taps: float | None = None
    layer: Layer | None = None
    residual: bool = False
    unfused: tuple[Any, str, Any] | None = None


def _built(body: Callable[..., tuple[relax.Var, ...]], *shapes: tuple[int, ...]) -> Built:
    """`main` of float arguments; body(emit, rng, *arguments) gives the values to measure, and the result last."""
    rng = np.random.default_rng(0)
    builder = relax.BlockBuilder()
    arguments = [relax.Var(f"x{i}", relax.TensorType(shape, "float32")) for i, shape in enumerate(shapes)]
    with builder.function("main", arguments):
        with builder.dataflow():
            *values, result = body(builder.emit, rng, *arguments)
            output = builder.emit_output(result)
        builder.emit_func_output(output)
    data = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    return Built(builder.get(), [value.name for value in values], data)


def _signs(rng: np.random.Generator, *shape: int) -> relax.Expr:
    return relax.const(rng.random(shape) < 0.5)


def _floats(rng: np.random.Generator, *shape: int) -> relax.Expr:
    return relax.const(rng.standard_normal(shape).astype(np.float32))


def _positive(emit: Any, x: relax.Expr) -> relax.Var:
    return emit(relax.op.greater_equal(x, relax.const(np.float32(0))))


def _bconv(emit: Any, bits: relax.Expr, layer: Layer, rng: np.random.Generator) -> relax.Var:
    geometry = ops.BConv2DAttrs(
        strides=(layer.stride,) * 2, padding=(layer.padding,) * 4, dilation=(layer.dilation,) * 2
    )
    return emit(ops.bconv2d(bits, _signs(rng, layer.filters, layer.size[2], layer.kernel, layer.kernel), geometry))


def _scaled(emit: Any, x: relax.Expr, filters: int, rng: np.random.Generator) -> relax.Var:
    return emit(ops.affine(x, _floats(rng, 1, filters, 1, 1), _floats(rng, 1, filters, 1, 1)))


def _channels_second(emit: Any, x: relax.Expr) -> relax.Var:
    """An argument that lies in memory as a map between kernels does."""
    return emit(relax.op.permute_dims(x, [0, 3, 1, 2]))


def _nchw(size: Map, batch: int = 1) -> tuple[int, int, int, int]:
    height, width, channels = size
    return batch, channels, height, width


def _bytes(size: Map) -> int:
    return int(np.prod(size)) * F32


def _text(size: Map) -> str:
    return "x".join(map(str, size))


def _named(kind: str, size: Map, batch: int, result: str) -> str:
    return f"{kind}-{_text(size)}-{f'batch{batch}-' if batch > 1 else ''}{result}"


def _input(size: Map, batch: int = 1) -> Tensor:
    return torch.randn(_nchw(size, batch), generator=torch.Generator().manual_seed(0))


class Residual(nn.Module):
    """A float convolution, its folded batch normalisation being the bias, plus a residual."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.conv = _float_conv(layer)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """The sum."""
        return self.conv(x) + residual


def _float_conv(layer: Layer) -> nn.Conv2d:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Conv2d(
            layer.size[2], layer.filters, layer.kernel, layer.stride, layer.padding, dilation=layer.dilation
        )


def to_bits(layer: Layer, kind: str, batch: int = 1) -> Kernel:
    """Bits -> bits; its float twin ends with ReLU."""

    def body(emit: Any, rng: np.random.Generator, x: relax.Var) -> tuple[relax.Var, relax.Var]:
        integer = _bconv(emit, _positive(emit, x), layer, rng)
        lowest = relax.const(rng.integers(-9, 9, (1, layer.filters, 1, 1)).astype(np.int32))
        span = relax.const(np.full((1, layer.filters, 1, 1), 2**31 - 1, np.uint32))
        bits = emit(ops.interval(integer, lowest, span))
        return bits, bits

    return Kernel(
        _named(kind, layer.size, batch, "bits"),
        lambda: _built(body, _nchw(layer.size, batch)),
        lambda: (nn.Sequential(_float_conv(layer), nn.ReLU()), (_input(layer.size, batch),)),
        binary_macs=batch * layer.macs,
        valid_taps=layer.valid_taps,
        layer=layer,
    )


def to_float(layer: Layer, kind: str, residual: bool = True, batch: int = 1) -> Kernel:
    """Bits -> float: scale, shift, plus a residual if there is one."""

    def body(emit: Any, rng: np.random.Generator, x: relax.Var, *others: relax.Var) -> tuple[relax.Var, relax.Var]:
        total = _scaled(emit, _bconv(emit, _positive(emit, x), layer, rng), layer.filters, rng)
        for y in others:
            total = emit(relax.op.add(total, _channels_second(emit, y)))
        return total, total

    def twin() -> tuple[nn.Module, tuple[Tensor, ...]]:
        inputs = _input(layer.size, batch), _input(layer.out, batch)
        return (Residual(layer), inputs) if residual else (_float_conv(layer), inputs[:1])

    maps = 2 if residual else 1
    return Kernel(
        _named(kind, layer.size, batch, "float"),
        lambda: _built(body, _nchw(layer.size, batch), *([(batch, *layer.out)] if residual else [])),
        twin,
        binary_macs=batch * layer.macs,
        maps=(batch * _bytes(layer.out),) * maps,
        valid_taps=layer.valid_taps,
        layer=layer,
        residual=residual,
    )


def packing(size: Map, channels_last: bool) -> Kernel:
    """x >= 0 of a float map, whose channels are last (as between kernels) or first (as PyTorch's arguments)."""
    shape = (1, *size) if channels_last else _nchw(size)

    def body(emit: Any, rng: np.random.Generator, x: relax.Var) -> tuple[relax.Var, relax.Var]:
        data = _channels_second(emit, x) if channels_last else x
        bits = _positive(emit, data)
        # bits are words only for a reader of words
        layer = Layer(size, 32, kernel=1)
        return bits, _scaled(emit, _bconv(emit, bits, layer, rng), 32, rng)

    order = "nhwc" if channels_last else "nchw"
    return Kernel(f"pack-{order}-{_text(size)}", lambda: _built(body, shape), maps=(_bytes(size),))


def stem(layer: Layer) -> Kernel:
    """A float convolution of an image, with scale, shift and ReLU."""

    def body(emit: Any, rng: np.random.Generator, x: relax.Var) -> tuple[relax.Var, relax.Var]:
        weight = _floats(rng, layer.filters, layer.size[2], layer.kernel, layer.kernel)
        conv = emit(relax.op.nn.conv2d(x, weight, strides=(layer.stride,) * 2, padding=(layer.padding,) * 2))
        value = emit(relax.op.nn.relu(_scaled(emit, conv, layer.filters, rng)))
        return value, value

    return Kernel(
        f"stem{layer.kernel}x{layer.kernel}-{_text(layer.size)}",
        lambda: _built(body, _nchw(layer.size)),
        lambda: (nn.Sequential(_float_conv(layer), nn.ReLU()), (_input(layer.size),)),
        float_macs=layer.macs,
        maps=(_bytes(layer.size), _bytes(layer.out)),
        valid_taps=layer.valid_taps,
    )


def _upsampled(emit: Any, x: relax.Expr, large: Map) -> relax.Var:
    """Bilinear; x has its channels last."""
    return emit(
        relax.op.image.resize2d(
            _channels_second(emit, x), large[:2], layout="NCHW", method="linear",
            coordinate_transformation_mode="half_pixel",
        )
    )  # fmt: skip


def resize(size: Map, scale: int) -> Kernel:
    """Bilinear upsampling of a float map with channels last."""
    height, width, channels = size
    large = (height * scale, width * scale, channels)

    def body(emit: Any, rng: np.random.Generator, x: relax.Var) -> tuple[relax.Var, relax.Var]:
        value = _upsampled(emit, x, large)
        return value, value

    return Kernel(
        f"resize-x{scale}-{_text(size)}",
        lambda: _built(body, (1, *size)),
        lambda: (nn.Upsample(scale_factor=scale, mode="bilinear"), (_input(size),)),
        maps=(_bytes(size), _bytes(large)),
    )


def resize_to_bits(size: Map, scale: int) -> Kernel:
    """Signs of a bilinear upsampling: the large map itself is read by nobody."""
    height, width, channels = size
    large = (height * scale, width * scale, channels)

    def body(emit: Any, rng: np.random.Generator, x: relax.Var) -> tuple[relax.Var, ...]:
        resized = _upsampled(emit, x, large)
        bits = _positive(emit, resized)
        return resized, bits, _scaled(emit, _bconv(emit, bits, Layer(large, 32, kernel=1), rng), 32, rng)

    return Kernel(
        f"resize-x{scale}-{_text(size)}-bits",
        lambda: _built(body, (1, *size)),
        lambda: (nn.Sequential(nn.Upsample(scale_factor=scale, mode="bilinear"), nn.ReLU()), (_input(size),)),
        maps=(_bytes(size),),
        unfused=RESIZE_APART,
    )


def _doubling(kernel: int) -> tuple[int, int]:
    """Padding and output padding with which a transposed convolution of stride 2 makes maps twice as large."""
    return (kernel - 1) // 2, kernel % 2


class BinaryUpsampling(nn.Module):
    """A transposed convolution of stride 2 between signs."""

    def __init__(self, size: Map, kernel: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        channels = size[2]
        self.weight = nn.Parameter(torch.randn(channels, channels, kernel, kernel, generator=generator).sign())
        self.mixing = nn.Parameter(torch.randn(32, channels, 1, 1, generator=generator).sign())
        self.padding, self.more = _doubling(kernel)

    def forward(self, x: Tensor) -> Tensor:
        """What reads the bits is a 1x1 convolution, which is not measured."""
        data = torch.where(x >= 0, 1.0, -1.0)
        value = nn.functional.conv_transpose2d(
            data, self.weight, stride=2, padding=self.padding, output_padding=self.more
        )
        return nn.functional.conv2d(torch.where(value >= 0.5, 1.0, -1.0), self.mixing)


def transposed(size: Map, kernel: int) -> Kernel:
    """Bits -> bits, twice as large; its float twin is the transposed convolution with ReLU."""
    height, width, channels = size
    padding, more = _doubling(kernel)

    def build() -> Built:
        module = _optimized(BinaryUpsampling(size, kernel), (_input(size),))
        phases = [b.var.name for b in bindings_of(module["main"]) if op_name(b.value) == "bnn.bconv2d"][:-1]
        return Built(module, phases, [_input(size).numpy()])

    def twin() -> tuple[nn.Module, tuple[Tensor, ...]]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            layer = nn.ConvTranspose2d(channels, channels, kernel, 2, padding, more)
        return nn.Sequential(layer, nn.ReLU()), (_input(size),)

    return Kernel(
        f"tconv{kernel}x{kernel}-{_text(size)}-bits",
        build,
        twin,
        binary_macs=height * width * kernel**2 * channels**2,
    )


class NearestUpsampling(nn.Module):
    """A 3x3 convolution of a map of signs behind nearest upsampling, and a threshold a filter."""

    def __init__(self, size: Map, scale: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        channels = size[2]
        self.weight = nn.Parameter(torch.randn(channels, channels, 3, 3, generator=generator).sign())
        self.threshold = nn.Parameter(torch.randint(-9, 9, (1, channels, 1, 1), generator=generator) + 0.5)
        self.mixing = nn.Parameter(torch.randn(32, channels, 1, 1, generator=generator).sign())
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """What reads the bits is a convolution with stride, which is not measured."""
        data = nn.functional.interpolate(torch.where(x >= 0, 1.0, -1.0), scale_factor=self.scale, mode="nearest")
        value = nn.functional.conv2d(data, self.weight, padding=1)
        return nn.functional.conv2d(torch.where(value >= self.threshold, 1.0, -1.0), self.mixing, stride=2)


def nearest(size: Map, scale: int) -> Kernel:
    """Bits -> bits, as many times as high and as wide, by repeating pixels before a 3x3 convolution."""
    height, width, channels = size

    def build() -> Built:
        module = _optimized(NearestUpsampling(size, scale), (_input(size),))
        (sums, _) = (b.var.name for b in bindings_of(module["main"]) if op_name(b.value) == "bnn.bconv2d")
        return Built(module, sums, [_input(size).numpy()])

    layer = Layer((height * scale, width * scale, channels), channels)
    return Kernel(
        f"nearest-x{scale}-{_text(size)}-bits",
        build,
        lambda: (nn.Sequential(nn.Upsample(scale_factor=scale), _float_conv(layer), nn.ReLU()), (_input(size),)),
        binary_macs=layer.macs,
        valid_taps=layer.valid_taps,
        unfused=UPSAMPLED_READ_AS_VIEW,
    )


class ParallelNearest(nn.Module):
    """Merged branches, each 3x3 behind nearest upsampling of a float map's [N, H, W, C] signs, plus the repeated map.

    Each has thresholds of its own; the result is the sum and what a convolution makes of its signs.
    """

    def __init__(self, channels: int, branches: int, scale: int) -> None:
        super().__init__()
        signs = [ThresholdSign(channels) for _ in range(branches)]
        self.signs = nn.ModuleList(signs)
        self.upsample = ParallelUpsample(channels, branches, "nearest", scale)
        self.tail = nn.Sequential(ThresholdSign(channels), BinaryConv2d(channels, 32, 1, 2))
        for weight in (*(sign.threshold for sign in signs), self.upsample.merge.weight):
            nn.init.normal_(weight)
        self.scale = scale

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Neither the packing before nor the convolution behind is measured."""
        data = x.permute(0, 3, 1, 2)
        value = self.upsample([sign(data) for sign in self.signs])
        value = value + nn.functional.interpolate(data, scale_factor=self.scale, mode="nearest")
        return value, self.tail(value)


def nearest_branches(size: Map, count: int, scale: int) -> Kernel:
    """Bits of each branch -> the merged map in float and its bits, as many times as high and as wide."""
    height, width, channels = size
    large = height * scale, width * scale, channels
    inputs = (_input(size).permute(0, 2, 3, 1).contiguous(),)

    def build() -> Built:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module = _optimized(ParallelNearest(channels, count, scale), inputs)
        sums = [b.var.name for b in bindings_of(module["main"]) if op_name(b.value) == "bnn.bconv2d"]
        return Built(module, sums[:count], [each.numpy() for each in inputs])

    return Kernel(
        f"nearest-branches{count}-x{scale}-{_text(size)}",
        build,
        binary_macs=count * Layer(large, channels).macs,
        maps=(_bytes(size), _bytes(large)),
        unfused=UPSAMPLED_READ_AS_VIEW,
    )


#: Kind of merged branches -> dilation of a branch. Those of "atrous" are the rates of Group-Net's BPAC.
DILATIONS: dict[str, Callable[[int], int]] = {
    "same-bits": lambda branch: 1,
    "atrous": lambda branch: 2 + branch,
    "thresholds": lambda branch: 1,
}


class MergedBranches(nn.Module):
    """3x3 convolutions of the signs of a float map [N, H, W, C], added up with learned scalars, then BN and sign.

    kind : "same-bits" (all read the same signs), "atrous" (these with a dilation each, and a frame of +1, as Group-Net
    has it) or "thresholds" (each has thresholds of its own).
    """

    def __init__(self, channels: int, branches: int, kind: str) -> None:
        super().__init__()
        dilations = [DILATIONS[kind](branch) for branch in range(branches)]
        value = 1 if kind == "atrous" else 0
        own = branches if kind == "thresholds" else 1
        signs = [ThresholdSign(channels) for _ in range(own)]
        self.signs = nn.ModuleList(signs)
        self.convs = nn.ModuleList(
            BinaryConv2d(channels, channels, 3, 1, rate, rate, padding_value=value) for rate in dilations
        )
        self.merge = WeightedMerge(branches)
        self.tail = nn.Sequential(nn.BatchNorm2d(channels), ThresholdSign(channels), BinaryConv2d(channels, 32, 3))
        for weight in (*(sign.threshold for sign in signs), self.merge.weight):
            nn.init.normal_(weight)

    def forward(self, x: Tensor) -> Tensor:
        """What reads the bits is a convolution, which is not measured."""
        data = x.permute(0, 3, 1, 2)
        bits = [sign(data) for sign in self.signs]
        bits *= len(self.convs) // len(bits)
        return self.tail(self.merge([conv(each) for conv, each in zip(self.convs, bits, strict=True)]))


def branches(size: Map, count: int, kind: str) -> Kernel:
    """Merged branches, bits -> bits; of those with thresholds of their own, packing the bits is measured as well."""
    inputs = (_input(size).permute(0, 2, 3, 1).contiguous(),)

    def build() -> Built:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module = _optimized(MergedBranches(size[2], count, kind), inputs)
        merged = [b for b in bindings_of(module["main"]) if op_name(b.value) == "bnn.bconv2d"][:-1]
        packed = [b.value.args[0].name for b in merged] if kind == "thresholds" else []
        return Built(module, [*packed, *(b.var.name for b in merged)], [each.numpy() for each in inputs])

    return Kernel(
        f"branches{count}-{kind}-{_text(size)}-bits",
        build,
        binary_macs=count * Layer(size, size[2]).macs,
        maps=(_bytes(size),) if kind == "thresholds" else (),
        unfused=BRANCHES_APART,
    )


def _optimized(model: nn.Module, inputs: tuple[Tensor, ...]) -> tvm.IRModule:
    """A model as the compiler sees it before it lowers."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch's own making
        program = torch.export.export(model.eval(), inputs)
    return optimize(import_program(program).module, Decisions())


class BinaryAttention(nn.Module):
    """Attention with two-level operands and probabilities, of queries, keys, values [B, heads, tokens, width]."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The values that each query attends to, added up."""
        q, k, v = (torch.where(x >= 0, 1.0, -1.0) for x in (q, k, v))
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        return torch.relu(torch.sign(scores - 0.5)) @ v


class SoftmaxAttention(nn.Module):
    """Attention with binary queries and keys, float values and probabilities."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The means of the values, weighted."""
        q, k = (torch.where(x >= 0, 1.0, -1.0) for x in (q, k))
        return nn.functional.scaled_dot_product_attention(q, k, v)


class FloatAttention(nn.Module):
    """The same with real operands and softmax."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The means of the values, weighted."""
        return nn.functional.scaled_dot_product_attention(q, k, v)


def attention(tokens: int, width: int, heads: int, softmax: bool = False) -> Kernel:
    """Attention of every token to every token: packing, scores, threshold or softmax, and the sum of the values."""

    def inputs() -> tuple[Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        first, second, third = (torch.randn(1, heads, tokens, width, generator=generator) for _ in range(3))
        return first, second, third

    def build() -> Built:
        module = _optimized(SoftmaxAttention() if softmax else BinaryAttention(), inputs())
        return Built(module, None, [each.numpy() for each in inputs()])

    products = heads * tokens**2 * width
    return Kernel(
        f"attention-{'softmax-' * softmax}{heads}x{tokens}x{width}",
        build,
        lambda: (FloatAttention(), inputs()),
        binary_macs=products if softmax else 2 * products,
        float_macs=products if softmax else 0,
        maps=(heads * tokens * width * F32,) * 4,
        twin_macs=2 * products,
    )


SQUARE: tuple[Map, ...] = ((56, 56, 64), (28, 28, 128), (14, 14, 256), (7, 7, 512))
WIDE: tuple[Map, ...] = ((128, 256, 64), (64, 128, 128), (32, 64, 256), (16, 32, 512))
_CONVOLUTIONS = (
    *(("bconv3x3", Layer(size, size[2])) for size in SQUARE + WIDE),
    *(("bconv1x1", Layer(size, size[2], kernel=1)) for size in ((28, 28, 128), (64, 128, 128))),
    ("bconv3x3-stride2", Layer((56, 56, 64), 128, stride=2)),
    ("bconv3x3-stride2", Layer((64, 128, 128), 256, stride=2)),
    ("bconv3x3-dilation4", Layer((32, 64, 256), 256, dilation=4)),
    ("bconv3x3-to65", Layer((28, 28, 33), 65)),
)
BRANCHES: tuple[tuple[Map, int, str], ...] = tuple(
    (size, count, kind) for kind in DILATIONS for count in (3, 5) for size in WIDE
)
PACKED: tuple[Map, ...] = ((56, 56, 64), (64, 128, 128), (128, 256, 64), (256, 512, 64))

KERNELS: tuple[Kernel, ...] = (
    *(to_bits(layer, kind) for kind, layer in _CONVOLUTIONS),
    *(to_float(layer, kind) for kind, layer in _CONVOLUTIONS),
    *(packing(size, channels_last=True) for size in PACKED),
    packing((128, 256, 64), channels_last=False),
    *(stem(Layer(size, 64, kernel, 2)) for kernel in (3, 7) for size in ((224, 224, 3), (512, 1024, 3))),
    resize((32, 64, 128), 2),
    resize((64, 128, 19), 8),
    resize_to_bits((64, 128, 64), 2),
    resize_to_bits((128, 256, 128), 2),
    nearest((64, 128, 64), 2),
    nearest((32, 64, 128), 2),
    nearest((32, 64, 64), 4),
    nearest((16, 32, 128), 4),
    nearest_branches((64, 128, 128), 3, 2),
    nearest_branches((32, 64, 128), 3, 2),
    *(transposed((64, 128, 64), kernel) for kernel in (2, 3, 4)),
    *(branches(size, count, kind) for size, count, kind in BRANCHES),
    attention(1024, 64, 4),
    attention(4096, 64, 4),
    attention(4096, 64, 4, softmax=True),
)
