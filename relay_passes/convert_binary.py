"""Convert: a layer whose two operands take few levels becomes integer counts of bits and one affine map.

Convolutions, transposed convolutions and linear layers with constant weights become ``bnn.bconv2d``, products of two
activations ``bnn.bmatmul``; binary_sum.py has the algebra, levels.py what can be a sum of planes. A layer that is not
converted keeps its operator, and its record says why.
"""

from dataclasses import dataclass, replace
from math import prod

import numpy as np
import tvm
from tvm import relax

from tvm_bnn import ops
from tvm_bnn.relay_passes.alphabet import AlphabetAnalysis, Real, Steps, module_of
from tvm_bnn.relay_passes.arrangement import is_arrangement
from tvm_bnn.relay_passes.binary_sum import MOST_TERMS, conv_sum, per_channel, product_sum, terms
from tvm_bnn.relay_passes.decisions import Decisions, Layer
from tvm_bnn.relay_passes.elementwise import ELEMENTWISE
from tvm_bnn.relay_passes.fold_constants import is_constant, value_of
from tvm_bnn.relay_passes.levels import Planes, WeightPlanes, planes_of, weight_planes
from tvm_bnn.relay_passes.phases import forward_weight, phase_geometry, phases
from tvm_bnn.relay_passes.readers import operands
from tvm_bnn.relay_passes.rewriter import DataflowRewriter, bindings_of, op_name, shape_of

__all__ = ["ConvertBinary", "Decisions", "Layer"]

#: Segments of channels with different steps that become convolutions of their own.
MOST_SEGMENTS = 8
_DATA_WEIGHTS = (
    "its weights depend on the input",
    "make the weights a function of parameters alone, or apply the scale to the layer's output",
)


@dataclass(frozen=True)
class _Activation:
    """An activation that a layer can read: middle and flip are per channel of the contraction."""

    planes: Planes
    middle: np.ndarray
    flip: np.ndarray
    factor: relax.Expr | None


class _Converter(DataflowRewriter):
    def __init__(self, decisions: Decisions, sign_zero: str) -> None:
        super().__init__()
        self.decisions = decisions
        self.analysis = AlphabetAnalysis(self, sign_zero)
        self.guessed: dict[str, None] = {}
        self.kept: dict[str, None] = {}
        self._read: list[Steps] = []

    def rewrite(self, call: relax.Call, name: str) -> relax.Expr | None:
        self._read = []
        converted = self._convert(call, name)
        if converted is not None:  # else no layer reads what was settled for it
            for steps in self._read:
                self.guessed |= dict.fromkeys(steps.guessed)
                self.kept |= dict.fromkeys(steps.kept)
        return converted

    def _convert(self, call: relax.Call, name: str) -> relax.Expr | None:
        kind = op_name(call)
        if kind == "relax.nn.conv2d":
            return self._conv2d(call, self.decisions.candidate(call, name, "conv2d"))
        if kind == "relax.nn.conv2d_transpose":
            return self._transposed(call, self.decisions.candidate(call, name, "conv2d_transpose"))
        if kind == "relax.matmul":
            linear = is_constant(call.args[1])
            layer = self.decisions.candidate(call, name, "linear" if linear else "matmul")
            return self._linear(call, layer) if linear else self._product(call, layer)
        if kind in ("relax.nn.conv1d", "relax.nn.conv3d", "relax.nn.attention"):
            layer = self.decisions.candidate(call, name, kind.split(".")[-1])
            layer.refuse(f"{layer.op} has no binary form", "write it as conv2d or matmul")
        return None

    # --- operands -------------------------------------------------------------------------------------------------

    def _weights(self, weight: np.ndarray, layer: Layer) -> WeightPlanes | None:
        split = weight_planes(weight)
        if isinstance(split, str):
            layer.refuse(split, "binarise the weights per filter: sign(weight) times one scale a filter")
            return None
        return split

    def _activation(self, data: relax.Expr, axis: int, layer: Layer) -> _Activation | None:
        """The planes of an activation that is summed along an axis; None, with the reason noted, if it has none."""
        alphabet = self.analysis.of(data)
        if isinstance(alphabet, Real):
            layer.refuse(f"its input is not binary: {alphabet.reason}", alphabet.advice or "take the sign of its input")
            return None
        settled = self.analysis.settle(alphabet)
        self._read.append(settled)
        planes = planes_of(settled)
        if isinstance(planes, str):
            layer.refuse(
                f"its input is not binary: {planes}", "give the activation two levels, the same for all channels"
            )
            return None
        channels = shape_of(data)[axis]
        middle, flip = (per_channel(value, channels, axis) for value in (planes.middle, planes.flip))
        if middle is None or flip is None:
            layer.refuse("the levels of its input change over the plane", "scale per channel, or after the layer")
            return None
        if alphabet.factor is not None and shape_of(alphabet.factor)[axis] != 1:
            layer.refuse("its input is scaled by data along the sum", "apply the scale to the layer's output")
            return None
        return _Activation(planes, middle, flip, alphabet.factor)

    def _accept(self, layer: Layer, size: int, planes: int, zeros: int = 0) -> bool:
        """Note that a layer is binary, unless its integer sums, of that size at most, leave what float32 holds."""
        if size >= MOST_TERMS:
            layer.refuse(f"its sums reach {size}, and only those below {MOST_TERMS} are exact in float32")
            return False
        layer.decision, layer.planes = "binary", planes
        if zeros:
            self.decisions.zero_weights.append(layer.path)
        return True

    def _accept_weights(self, layer: Layer, *parts: tuple[Planes, WeightPlanes]) -> bool:
        """The same for a layer with weights, which may be a sum of parts; its planes are then those of the largest."""
        return self._accept(
            layer,
            max(terms(planes, weights) for planes, weights in parts),
            max(len(planes.masks) * len(weights.planes) for planes, weights in parts),
            sum(weights.zeros for _, weights in parts),
        )

    def _scaled(self, result: relax.Expr, factor: relax.Expr | None, call: relax.Call) -> relax.Expr:
        return result if factor is None else relax.op.multiply(self.emit(result, span=call.span), factor)

    # --- convolutions ---------------------------------------------------------------------------------------------

    def _conv2d(self, call: relax.Call, layer: Layer) -> relax.Expr | None:
        if not is_constant(call.args[1]):
            layer.refuse(*_DATA_WEIGHTS)
            return None
        weight = value_of(call.args[1])
        weights = self._weights(weight, layer)
        if weights is None:
            return None
        attrs = ops.BConv2DAttrs.from_conv2d(call.attrs)
        segments = self._segments(call.args[0], attrs)
        if segments is not None:
            return self._sum_of_segments(call, layer, segments, weight, attrs)
        data, geometry, signs = self._absorb_pad(call.args[0], attrs)
        activation = self._activation(data, 1, layer)
        if activation is None or not self._accept_weights(layer, (activation.planes, weights)):
            return None
        return self._convolved(call, activation, weight, weights, geometry, signs)

    def _convolved(
        self,
        call: relax.Call,
        activation: _Activation,
        weight: np.ndarray,
        weights: WeightPlanes,
        geometry: ops.BConv2DAttrs,
        signs: tuple[int, ...] | None,
    ) -> relax.Expr:
        planes = activation.planes
        if signs is None and any(geometry.padding) and activation.middle.any():
            signs = planes.signs_of(0.0)  # then the border needs no table
        result = conv_sum(
            self.emit, call, planes.bits(), planes, weight, weights, geometry, activation.middle, activation.flip, signs
        )
        return self._scaled(result, activation.factor, call)

    def _absorb_pad(
        self, data: relax.Expr, geometry: ops.BConv2DAttrs
    ) -> tuple[relax.Expr, ops.BConv2DAttrs, tuple[int, ...] | None]:
        """Take a constant pad node before the convolution into its geometry, where a padded element has a sign.

        Returns (input, geometry, sign of a padded element in each plane, None for zeros).
        """
        pad = self.lookup(data)
        if op_name(pad) != "relax.nn.pad" or str(pad.attrs.pad_mode) != "constant" or any(geometry.padding):
            return data, geometry, None
        before_after = [int(width) for width in pad.attrs.pad_width]
        if len(before_after) != 8 or any(before_after[:4]) or min(before_after) < 0:
            return data, geometry, None
        top, bottom, left, right = before_after[4:]
        padded = replace(geometry, padding=(top, left, bottom, right))
        value = float(np.float32(float(pad.attrs.pad_value)))
        if value == 0.0:
            return pad.args[0], padded, None
        inner = self.analysis.of(pad.args[0])
        planes = planes_of(self.analysis.settle(inner)) if isinstance(inner, Steps) and inner.factor is None else None
        signs = planes.signs_of(value) if isinstance(planes, Planes) else None
        return (pad.args[0], padded, signs) if signs is not None else (data, geometry, None)

    def _segments(self, data: relax.Expr, geometry: ops.BConv2DAttrs) -> list[relax.Expr] | None:
        """The tensors that the input joins along the channels, where only their levels keep them from being one."""
        joined = self.lookup(data)
        if op_name(joined) != "relax.concat" or int(joined.attrs.axis) % 4 != 1 or geometry.groups != 1:
            return None
        fields = list(joined.args[0].fields)
        if not 1 < len(fields) <= MOST_SEGMENTS or not all(isinstance(self.analysis.of(f), Steps) for f in fields):
            return None
        whole = self.analysis.of(data)
        if isinstance(whole, Steps) and not isinstance(planes_of(self.analysis.settle(whole)), str):
            return None
        return fields

    def _sum_of_segments(
        self,
        call: relax.Call,
        layer: Layer,
        segments: list[relax.Expr],
        weight: np.ndarray,
        geometry: ops.BConv2DAttrs,
    ) -> relax.Expr | None:
        """A convolution of joined tensors is the sum of the convolutions of each."""
        begin, parts = 0, []
        for segment in segments:
            piece = np.ascontiguousarray(weight[:, begin : begin + shape_of(segment)[1]])
            begin += shape_of(segment)[1]
            weights = self._weights(piece, layer)
            activation = self._activation(segment, 1, layer) if weights is not None else None
            if weights is None or activation is None:
                return None
            parts.append((activation, piece, weights))
        if not self._accept_weights(layer, *((activation.planes, weights) for activation, _, weights in parts)):
            return None
        results = [
            self.emit(self._convolved(call, activation, piece, weights, geometry, None), span=call.span)
            for activation, piece, weights in parts
        ]
        total = results[0]
        for result in results[1:-1]:
            total = self.emit(relax.op.add(total, result), span=call.span)
        return relax.op.add(total, results[-1])

    def _transposed(self, call: relax.Call, layer: Layer) -> relax.Expr | None:
        if not is_constant(call.args[1]):
            layer.refuse(*_DATA_WEIGHTS)
            return None
        groups = int(call.attrs.groups)
        weight = forward_weight(value_of(call.args[1]), groups)
        weights = self._weights(weight, layer)
        activation = self._activation(call.args[0], 1, layer) if weights is not None else None
        if weights is None or activation is None:
            return None
        if not self._accept_weights(layer, (activation.planes, weights)):
            return None
        sizes, outputs, kernel = shape_of(call.args[0])[2:], shape_of(call)[2:], weight.shape[2:]
        strides, dilation = ([int(v) for v in values] for values in (call.attrs.strides, call.attrs.dilation))
        padding = [int(call.attrs.padding[axis]) for axis in (0, 1)]
        rows, columns = (
            phases(sizes[axis], outputs[axis], kernel[axis], strides[axis], padding[axis], dilation[axis])
            for axis in (0, 1)
        )
        parts = [
            self._phase(call, activation, weight, weights, row, column, groups) for row in rows for column in columns
        ]
        return self._interleaved(call, parts, (strides[0], strides[1]))

    def _phase(self, call, activation, weight, weights, row, column, groups) -> relax.Expr:
        """The result of one phase; where no tap of the kernel belongs to it, zeros."""
        if not row.taps or not column.taps:
            sizes, strides = shape_of(call)[2:], call.attrs.strides
            counts = [-(-size // int(stride)) for size, stride in zip(sizes, strides, strict=True)]
            return relax.const(np.zeros((*shape_of(call)[:2], *counts), np.float32))
        taken = np.ix_(range(weight.shape[0]), range(weight.shape[1]), row.taps, column.taps)
        part = replace(weights, planes=tuple(plane[taken] for plane in weights.planes))
        geometry = phase_geometry(row, column, groups)
        return self.emit(self._convolved(call, activation, weight[taken], part, geometry, None), span=call.span)

    def _interleaved(self, call: relax.Call, parts: list[relax.Expr], strides: tuple[int, int]) -> relax.Expr:
        """Phase (r, c) becomes rows r, r + s, ... and columns c, c + s, ..."""
        if len(parts) == 1:
            return self.lookup(parts[0])
        batch, filters, height, width = shape_of(call)
        sy, sx = strides
        rows, columns = -(-height // sy), -(-width // sx)
        joined = self.emit(relax.op.concat(parts, 1), span=call.span)
        apart = self.emit(relax.op.reshape(joined, (batch, sy, sx, filters, rows, columns)), span=call.span)
        mixed = self.emit(relax.op.permute_dims(apart, (0, 3, 4, 1, 5, 2)), span=call.span)
        whole = relax.op.reshape(mixed, (batch, filters, rows * sy, columns * sx))
        if (rows * sy, columns * sx) == (height, width):
            return whole
        return relax.op.strided_slice(self.emit(whole, span=call.span), [2, 3], [0, 0], [height, width])

    # --- products -------------------------------------------------------------------------------------------------

    def _linear(self, call: relax.Call, layer: Layer) -> relax.Expr | None:
        data = call.args[0]
        if len(shape_of(call.args[1])) != 2:
            layer.refuse("its weight is not a matrix", "use torch.nn.functional.linear")
            return None
        weight = np.ascontiguousarray(value_of(call.args[1]).T)[:, :, None, None]
        weights = self._weights(weight, layer)
        activation = self._activation(data, -1, layer) if weights is not None else None
        if weights is None or activation is None:
            return None
        if not self._accept_weights(layer, (activation.planes, weights)):
            return None
        features = weight.shape[1]
        rows = int(np.prod(shape_of(data)[:-1]))
        bits = [
            self.emit(relax.op.reshape(plane, (rows, features, 1, 1)), span=call.span)
            for plane in activation.planes.bits()
        ]
        geometry = ops.BConv2DAttrs()
        middle, flip = activation.middle, activation.flip
        flat = conv_sum(self.emit, call, bits, activation.planes, weight, weights, geometry, middle, flip, None)
        result = relax.op.reshape(self.emit(flat, span=call.span), shape_of(call))
        return self._scaled(result, activation.factor, call)

    def _is_made_of_product(self, expr: relax.Expr) -> bool:
        """Whether a value is a product's, rearranged and changed element by element."""
        elements = prod(shape_of(expr))
        while is_arrangement(self.lookup(expr)) or op_name(self.lookup(expr)) in ELEMENTWISE:
            read = [a for a in operands(self.lookup(expr)) if prod(shape_of(a)) == elements]
            if not read:
                return False
            expr = read[0]
        return op_name(self.lookup(expr)) == "bnn.bmatmul"

    def _product(self, call: relax.Call, layer: Layer) -> relax.Expr | None:
        """[..., M, K] x [..., K, N] of two activations; levels are the same for all k."""
        left, right = call.args
        if min(len(shape_of(left)), len(shape_of(right))) < 2 or shape_of(left)[:-2] != shape_of(right)[:-2]:
            layer.refuse("its operands broadcast against each other", "give both the same leading sizes")
            return None
        activations = [self._activation(left, -1, layer)]
        activations += [self._activation(right, -2, layer)] if activations[0] is not None else []
        if any(operand is None for operand in activations):
            return None
        a, b = (operand for operand in activations if operand is not None)
        if any(np.ptp(operand.middle) or np.ptp(operand.flip) for operand in (a, b)):
            layer.refuse("the levels of an operand change along the sum", "use one scale for all channels")
            return None
        size = sum(a.planes.weights) * sum(b.planes.weights) * shape_of(left)[-1]
        if not self._accept(layer, size, len(a.planes.masks) * len(b.planes.masks)):
            return None
        turned = not self._is_made_of_product(left) and self._is_made_of_product(right)
        result = product_sum(self.emit, call, a.planes, b.planes, turned)
        for factor in (a.factor, b.factor):
            result = self._scaled(result, factor, call)
        return result


@tvm.transform.module_pass(opt_level=0, name="ConvertBinary")
class ConvertBinary:
    """Replace proven pairs by counts of bits; every candidate leaves a record in ``decisions``.

    decisions : filled while the pass runs.
    sign_zero : what ``torch.sign(0.)`` of a real tensor becomes: "plus", "minus", or "exact" for a third level.
    """

    def __init__(self, decisions: Decisions, sign_zero: str = "plus") -> None:
        self.decisions = decisions
        self.sign_zero = sign_zero

    def transform_module(self, module: tvm.IRModule, _context) -> tvm.IRModule:
        """Rewrite ``main``."""
        converter = _Converter(self.decisions, self.sign_zero)
        rewritten = converter.transform(module)
        self.decisions.guessed_signs.extend(converter.guessed)
        self.decisions.kept_zeros.extend(converter.kept)
        # layers read comparisons: a sign that is still there has other readers
        left = {module_of(b.value) for b in bindings_of(rewritten["main"]) if op_name(b.value) == "relax.sign"}
        self.decisions.mixed_signs.extend(path for path in converter.guessed if path in left)
        return rewritten
