"""Convert: a convolution or linear layer with two two-level operands becomes ``bnn.bconv2d``.

Derivation. Write the activation as ``x = m + d*s`` with ``s`` in {-1, +1} (``d = (high - low)/2``,
``m = (high + low)/2``) and the weight of filter o as ``w = alpha[o] * v`` with ``v`` in {-1, +1}. Over the taps of
a window

    sum x*w  =  d * alpha[o] * sum s*v  +  m * alpha[o] * sum v .

The first sum is ``bconv2d``, an integer. The second is a constant per filter, and, where zero padding is not one of the
two levels, per border class (which taps fall outside depends only on the row and the column). Padding with a level is
exact as ``s = +-1``; a tap padded with zero is ``s = 0`` and has no part in the second sum.

Declines, with the reason in the layer's record, where an operand is not two-level, a filter has more than one
magnitude, or the padding is neither zero nor a level.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import tvm
from tvm import relax

from tvm_bnn import ops
from tvm_bnn.relay_passes.alphabet import AlphabetAnalysis, Real, TwoLevel
from tvm_bnn.relay_passes.fold_constants import is_constant, value_of
from tvm_bnn.relay_passes.rewriter import DataflowRewriter, op_name, path_of, shape_of


@dataclass
class Layer:
    """What became of one convolution, linear layer or matmul.

    value : name of the Relax variable that holds the layer's result.
    decision : "binary" or "float"; reason says why it stayed float.
    macs : multiply-accumulates of one inference, padded taps included.
    rule : the schedule rule that serves it, filled in by the lowering.
    """

    path: str
    op: str
    shape: str
    macs: int
    value: str
    weights: int = 0
    decision: str = "float"
    reason: str = ""
    rule: str = ""


@dataclass
class Decisions:
    """The records that conversion leaves behind."""

    layers: list[Layer] = field(default_factory=list)
    guessed_signs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _SignWeight:
    bits: np.ndarray
    magnitude: np.ndarray


def sign_weight(weight: np.ndarray) -> _SignWeight | str:
    """Split [O, ...] weights into signs and one magnitude per filter; the reason where that cannot be done."""
    flat = np.abs(weight.reshape(len(weight), -1))
    magnitude = flat[:, 0]
    if np.any(flat != magnitude[:, None]):
        levels = len(np.unique(weight))
        zeros = " (exact zeros among them)" if np.any(weight == 0) else ""
        return f"its weights are not +-one magnitude per filter: {levels} distinct values{zeros}"
    return _SignWeight(weight >= 0, magnitude)


class _Converter(DataflowRewriter):
    def __init__(self, decisions: Decisions, sign_zero: str) -> None:
        super().__init__()
        self.decisions = decisions
        self.analysis = AlphabetAnalysis(self, sign_zero)

    def rewrite(self, call: relax.Call, name: str) -> relax.Expr | None:
        kind = op_name(call)
        if kind == "relax.nn.conv2d":
            return self._conv2d(call, name)
        if kind == "relax.matmul":
            return self._matmul(call, name)
        if kind in ("relax.nn.conv2d_transpose", "relax.nn.conv1d", "relax.nn.conv3d", "relax.nn.attention"):
            layer = self._record(call, name, kind.split(".")[-1], _macs(call))
            layer.reason = f"{layer.op} has no binary form yet"
        return None

    def _record(self, call: relax.Call, name: str, op: str, macs: int) -> Layer:
        shapes = " x ".join("x".join(map(str, shape_of(argument))) for argument in call.args[:2])
        layer = Layer(path_of(call), op, shapes, macs, name)
        if is_constant(call.args[1]):
            layer.weights = int(np.prod(shape_of(call.args[1])))
        self.decisions.layers.append(layer)
        return layer

    def _conv2d(self, call: relax.Call, name: str) -> relax.Expr | None:
        layer = self._record(call, name, "conv2d", _macs(call))
        data, geometry, pad = self._absorb_pad(call.args[0], ops.BConv2DAttrs.from_conv2d(call.attrs))
        operands = self._operands(data, call.args[1], layer)
        if operands is None:
            return None
        alphabet, signs = operands
        levels = {alphabet.high: 1, alphabet.low: -1}
        if pad != 0.0 and pad not in levels:
            layer.decision, layer.reason = "float", f"its input is padded with {pad:g}, which is not one of its levels"
            return None
        return self._binary(call, alphabet, alphabet.bits(), signs, replace(geometry, pad_value=levels.get(pad, 0)))

    def _absorb_pad(
        self, data: relax.Expr, geometry: ops.BConv2DAttrs
    ) -> tuple[relax.Expr, ops.BConv2DAttrs, float]:
        """Take a constant pad node before the convolution into its geometry: (input, geometry, padded value)."""
        pad = self.lookup(data)
        if op_name(pad) != "relax.nn.pad" or str(pad.attrs.pad_mode) != "constant" or any(geometry.padding):
            return data, geometry, 0.0
        before_after = [int(width) for width in pad.attrs.pad_width]
        if any(before_after[:4]) or min(before_after) < 0:
            return data, geometry, 0.0
        top, bottom, left, right = before_after[4:]
        value = float(np.float32(float(pad.attrs.pad_value)))
        return pad.args[0], replace(geometry, padding=(top, left, bottom, right)), value

    def _matmul(self, call: relax.Call, name: str) -> relax.Expr | None:
        data, weight = call.args
        linear = is_constant(weight)
        layer = self._record(call, name, "linear" if linear else "matmul", _macs(call))
        if not linear:
            layer.reason = "a product of two activations has no binary form yet"
            return None
        if len(shape_of(weight)) != 2:
            layer.reason = "the weight is not a matrix"
            return None
        operands = self._operands(data, relax.const(value_of(weight).T.copy()), layer)
        if operands is None:
            return None
        alphabet, signs = operands
        features, outputs = shape_of(weight)
        rows = int(np.prod(shape_of(data)[:-1]))
        bits = self.emit(relax.op.reshape(alphabet.bits(), (rows, features, 1, 1)), span=call.span)
        square = _SignWeight(signs.bits.reshape(outputs, features, 1, 1), signs.magnitude)
        result = self.emit(self._binary(call, alphabet, bits, square, ops.BConv2DAttrs()), span=call.span)
        return relax.op.reshape(result, shape_of(call))

    def _operands(self, data: relax.Expr, weight: relax.Expr, layer: Layer) -> tuple[TwoLevel, _SignWeight] | None:
        if not is_constant(weight):
            layer.reason = "its weights depend on the input"
            return None
        alphabet = self.analysis.of(data)
        signs = sign_weight(value_of(weight))
        if isinstance(alphabet, Real):
            layer.reason = f"its input is not binary: {alphabet.reason}"
        elif isinstance(signs, str):
            layer.reason = signs
        elif alphabet.low == alphabet.high:
            layer.reason = "its input is constant"
        else:
            layer.decision = "binary"
            return alphabet, signs
        return None

    def _binary(
        self, call: relax.Call, alphabet: TwoLevel, bits: relax.Expr, signs: _SignWeight, geometry: ops.BConv2DAttrs
    ) -> relax.Expr:
        step, middle = (alphabet.high - alphabet.low) / 2, (alphabet.high + alphabet.low) / 2
        weight = relax.const(signs.bits)
        integer = self.emit(ops.bconv2d(bits, weight, geometry, call.span), span=call.span)
        filters = len(signs.bits)
        scale = relax.const((step * signs.magnitude.astype(np.float64)).astype(np.float32).reshape(1, filters, 1, 1))
        signed = np.where(signs.bits, 1.0, -1.0) * signs.magnitude.astype(np.float64).reshape(-1, 1, 1, 1)
        offset = relax.const((middle * signed.sum(axis=(1, 2, 3))).astype(np.float32).reshape(1, filters, 1, 1))
        if middle == 0.0 or geometry.pad_value != 0 or not any(geometry.padding):
            return ops.affine(integer, scale, offset)
        scaled = self.emit(ops.affine(integer, scale, relax.const(np.zeros((1, filters, 1, 1), np.float32))))
        table, rows, columns = border_sums(middle * signed, shape_of(bits)[2:], geometry)
        return relax.op.add(scaled, self.emit(ops.border_bias(relax.const(table), rows, columns)))


def border_classes(
    size: int, kernel: int, stride: int, dilation: int, before: int, outputs: int
) -> tuple[list[int], list[np.ndarray]]:
    """Which taps of a one-dimensional window lie inside, per output position.

    Returns the class of each output position and, per class, a mask over the taps.
    """
    taps = np.arange(kernel) * dilation - before
    masks: list[np.ndarray] = []
    classes = []
    for position in range(outputs):
        inside = (position * stride + taps >= 0) & (position * stride + taps < size)
        found = next((i for i, mask in enumerate(masks) if np.array_equal(mask, inside)), None)
        if found is None:
            found = len(masks)
            masks.append(inside)
        classes.append(found)
    return classes, masks


def border_sums(
    weight: np.ndarray, size: tuple[int, ...], geometry: ops.BConv2DAttrs
) -> tuple[np.ndarray, list[int], list[int]]:
    """Sum of [O, C, KH, KW] weights over the taps inside, as [O, row class, column class], and the class lists."""
    kernel = weight.shape[2:]
    rows, columns = geometry.output_size(size[0], size[1], (kernel[0], kernel[1]))
    per_tap = weight.sum(axis=1)
    (row_class, row_masks), (column_class, column_masks) = (
        border_classes(size[axis], kernel[axis], geometry.strides[axis], geometry.dilation[axis], before, count)
        for axis, before, count in ((0, geometry.padding[0], rows), (1, geometry.padding[1], columns))
    )
    table = np.einsum("oyx,ry,cx->orc", per_tap, np.stack(row_masks), np.stack(column_masks))
    return table.astype(np.float32), row_class, column_class


def _macs(call: relax.Call) -> int:
    out = int(np.prod(shape_of(call)))
    if op_name(call) == "relax.matmul":
        return out * shape_of(call.args[0])[-1]
    if op_name(call) == "relax.nn.conv2d_transpose":
        data, weight = shape_of(call.args[0]), shape_of(call.args[1])
        return int(np.prod(data)) * weight[1] * int(np.prod(weight[2:]))
    if op_name(call) == "relax.nn.attention":
        batch, queries, heads, width = shape_of(call.args[0])
        return 2 * batch * heads * queries * shape_of(call.args[1])[1] * width
    return out * int(np.prod(shape_of(call.args[1])[1:]))


@tvm.transform.module_pass(opt_level=0, name="ConvertBinary")
class ConvertBinary:
    """Replace proven pairs by ``bnn.bconv2d``; every candidate leaves a record in ``decisions``.

    decisions : filled while the pass runs.
    sign_zero : what ``torch.sign(0.)`` of a real tensor becomes, "plus" or "minus".
    """

    def __init__(self, decisions: Decisions, sign_zero: str = "plus") -> None:
        self.decisions = decisions
        self.sign_zero = sign_zero

    def transform_module(self, module: tvm.IRModule, _context) -> tvm.IRModule:
        """Rewrite ``main``."""
        converter = _Converter(self.decisions, self.sign_zero)
        rewritten = converter.transform(module)
        self.decisions.guessed_signs.extend(dict.fromkeys(converter.analysis.guessed))
        return rewritten
