"""PyTorch operators that TVM's importer refuses, or translates to something else.

Each function takes the importer's builder, the values of other nodes, and a node, and returns its value. What they
refuse is a ValueError, which the importer completes with the operator and the path of its module.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import fx
from tvm import relax

from tvm_bnn.relay_passes.rewriter import dtype_of, shape_of

Values = Mapping[Any, Any]
Converter = Callable[[relax.BlockBuilder, Values, fx.Node], Any]


def argument(node: fx.Node, index: int, name: str, default: Any = None) -> Any:
    """An argument by position or by name."""
    return node.args[index] if len(node.args) > index else node.kwargs.get(name, default)


# --- extremes and products ---------------------------------------------------------------------------------------


def _reduced(operator: Callable[..., relax.Expr]) -> Converter:
    """amax, amin and prod: over some axes, or over all."""

    def convert(builder: relax.BlockBuilder, values: Values, node: fx.Node) -> relax.Var:
        axes = argument(node, 1, "dim")
        axes = [axes] if isinstance(axes, int) else list(axes or [])
        return builder.emit(operator(values[node.args[0]], axes or None, bool(argument(node, 2, "keepdim", False))))

    return convert


def _with_position(value_of: Callable[..., relax.Expr], position_of: Callable[..., relax.Expr]) -> Converter:
    """max and min along an axis: (values, positions); the positions only where somebody reads them."""

    def convert(builder: relax.BlockBuilder, values: Values, node: fx.Node) -> tuple[relax.Var | None, ...]:
        data, axis = values[node.args[0]], argument(node, 1, "dim")
        keep = bool(argument(node, 2, "keepdim", False))
        value = builder.emit(value_of(data, [axis], keep))
        return value, builder.emit(position_of(data, axis, keep)) if _reads(node, 1) else None

    return convert


def _reads(node: fx.Node, index: int) -> bool:
    """Whether one result of a node that has several is read."""
    return any(user.args[1] == index and user.users for user in node.users)


def _adaptive_max_pool2d(builder: relax.BlockBuilder, values: Values, node: fx.Node) -> tuple[relax.Var | None, ...]:
    """Window i of n over a size begins at floor(i * size / n) and ends at ceil((i + 1) * size / n)."""
    if _reads(node, 1):
        raise ValueError("the positions of the maxima are read; only their values are supported")
    data = values[node.args[0]]
    for axis, count in zip((-2, -1), node.meta["val"][0].shape[-2:], strict=True):
        data = _max_of_windows(builder, data, len(shape_of(data)) + axis, count)
    return data, None


def _max_of_windows(builder: relax.BlockBuilder, data: relax.Var, axis: int, count: int) -> relax.Var:
    size = shape_of(data)[axis]
    if count == 1:
        return builder.emit(relax.op.max(data, [axis], True))
    windows = [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
    parts = [
        builder.emit(relax.op.max(builder.emit(relax.op.strided_slice(data, [axis], [begin], [end])), [axis], True))
        for begin, end in windows
    ]
    return builder.emit(relax.op.concat(parts, axis))


# --- signs ------------------------------------------------------------------------------------------------------


def _is_negative(builder: relax.BlockBuilder, data: relax.Expr) -> relax.Var:
    """The sign bit of a float: -0.0 has one, and only its reciprocal tells it from 0."""
    zero = relax.const(0.0, dtype_of(data))
    below = builder.emit(relax.op.less(data, zero))
    is_zero = builder.emit(relax.op.equal(data, zero))
    reciprocal = builder.emit(relax.op.divide(relax.const(1.0, dtype_of(data)), data))
    minus = builder.emit(relax.op.less(reciprocal, zero))
    return builder.emit(relax.op.logical_or(below, builder.emit(relax.op.logical_and(is_zero, minus))))


def _signbit(builder: relax.BlockBuilder, values: Values, node: fx.Node) -> relax.Var:
    return _is_negative(builder, values[node.args[0]])


def _copysign(builder: relax.BlockBuilder, values: Values, node: fx.Node) -> relax.Var:
    """The magnitude of one tensor with the sign of another, or of a number."""
    filled, sign = argument(node, 0, "input"), argument(node, 1, "other")
    uniform = _uniform(filled)
    if uniform is not None and _shape(filled) == _shape(node) == _shape(sign):
        # one number in every element: two levels that a pass can see
        low, high = (relax.const(factor * abs(uniform), dtype_of(values[sign])) for factor in (-1, 1))
        return builder.emit(relax.op.where(_is_negative(builder, values[sign]), low, high))
    magnitude = builder.emit(relax.op.abs(values[filled]))
    if not isinstance(sign, fx.Node):
        return builder.emit(relax.op.negative(magnitude)) if np.signbit(float(sign)) else magnitude
    negative = _is_negative(builder, values[sign])
    return builder.emit(relax.op.where(negative, builder.emit(relax.op.negative(magnitude)), magnitude))


def _uniform(node: fx.Node) -> float | None:
    """The number that fills a tensor such as torch.ones_like(x); None for any other tensor."""
    name = str(getattr(node.target, "overloadpacket", "")).removeprefix("aten.")
    fixed = {"ones_like": 1.0, "zeros_like": 0.0, "ones": 1.0, "zeros": 0.0}
    if name in ("full", "full_like"):
        filling = argument(node, 1, "fill_value")
        return float(filling) if isinstance(filling, int | float) else None
    return fixed.get(name)


def _shape(operand: Any) -> Any:
    return operand.meta["val"].shape if isinstance(operand, fx.Node) else None


# --- masks and indices -------------------------------------------------------------------------------------------


def _index_put(fallback: Callable[[fx.Node], Any]) -> Converter:
    """``x[mask] = number`` is a choice; assignments to positions are TVM's."""

    def convert(builder: relax.BlockBuilder, values: Values, node: fx.Node) -> Any:
        indices, new = argument(node, 1, "indices"), argument(node, 2, "values")
        mask = indices[0] if len(indices) == 1 else None
        if mask is None or mask.meta["val"].dtype != torch.bool:
            return fallback(node)
        data = values[node.args[0]]
        if argument(node, 3, "accumulate", False):
            raise ValueError("it adds to the elements under a mask; write torch.where(mask, x + value, x)")
        if new.meta["val"].numel() != 1:
            raise ValueError("it assigns a tensor to the elements under a mask; write torch.where(mask, value, x)")
        shape = shape_of(values[mask])
        wide = builder.emit(relax.op.reshape(values[mask], (*shape, *(1,) * (len(shape_of(data)) - len(shape)))))
        number = builder.emit(relax.op.reshape(values[new], ()))
        if dtype_of(number) != dtype_of(data):
            number = builder.emit(relax.op.astype(number, dtype_of(data)))
        return builder.emit(relax.op.where(wide, number, data))

    return convert


def _index(fallback: Callable[[fx.Node], Any]) -> Converter:
    """``x[:, :, rows, columns]`` with several tensors of positions behind slices: one take of the flattened axes."""

    def convert(builder: relax.BlockBuilder, values: Values, node: fx.Node) -> Any:
        indices = argument(node, 1, "indices")
        whole = next((axis for axis, index in enumerate(indices) if index is not None), len(indices))
        chosen = indices[whole:]
        if not whole or len(chosen) < 2 or any(index is None for index in chosen):
            return fallback(node)
        data = values[node.args[0]]
        extents = shape_of(data)[whole : whole + len(chosen)]
        before, after = shape_of(data)[:whole], shape_of(data)[whole + len(chosen) :]
        flat = relax.const(0, "int64")
        for index, extent in zip(chosen, extents, strict=True):
            position = builder.emit(relax.op.astype(values[index], "int64"))
            inside = builder.emit(relax.op.floor_mod(position, relax.const(extent, "int64")))
            scaled = builder.emit(relax.op.multiply(flat, relax.const(extent, "int64")))
            flat = builder.emit(relax.op.add(scaled, inside))
        shape = shape_of(flat)
        joined = builder.emit(relax.op.reshape(data, (*before, int(np.prod(extents)), *after)))
        listed = builder.emit(relax.op.reshape(flat, (int(np.prod(shape)),)))
        taken = builder.emit(relax.op.take(joined, listed, axis=whole))
        return builder.emit(relax.op.reshape(taken, (*before, *shape, *after)))

    return convert


# --- resizing ----------------------------------------------------------------------------------------------------


def follows_sizes(node: fx.Node, scales: Any) -> bool:
    """Whether the positions of a resize are those of its sizes; scales : of height and width, None where not given."""
    if argument(node, 2, "align_corners") or not scales or None in scales:
        return True
    before, after = _shape(node.args[0])[2:], _shape(node)[2:]
    return all(abs(b * s - a) < 1e-6 * a for b, a, s in zip(before, after, scales, strict=True))


def _bilinear_aa(fallback: Callable[[fx.Node], Any]) -> Converter:
    """With antialiasing: nothing but bilinear where the map grows."""

    def convert(builder: relax.BlockBuilder, values: Values, node: fx.Node) -> Any:
        before, after = _shape(node.args[0])[2:], _shape(node)[2:]
        if any(a < b for b, a in zip(before, after, strict=True)):
            raise ValueError("antialiasing of a map that shrinks; antialias=False is supported")
        if not follows_sizes(node, node.args[3:5]):
            raise ValueError("a scale that gives no whole size; write size=, or antialias=False")
        return fallback(node)

    return convert


# --- activations and normalisation -------------------------------------------------------------------------------


def _elu(builder: relax.BlockBuilder, values: Values, node: fx.Node) -> relax.Var:
    """elu, celu and selu: ``scale * (x > 0 ? x : alpha * (exp(x * input_scale) - 1))``."""
    data = values[node.args[0]]
    alpha, scale, input_scale = (
        float(argument(node, index, name, 1.0)) for index, name in ((1, "alpha"), (2, "scale"), (3, "input_scale"))
    )

    def number(value: float) -> relax.Expr:
        return relax.const(value, dtype_of(data))

    def times(expr: relax.Expr, factor: float) -> relax.Expr:
        return expr if factor == 1 else builder.emit(relax.op.multiply(expr, number(factor)))

    grown = builder.emit(relax.op.exp(times(data, input_scale)))
    below = times(builder.emit(relax.op.subtract(grown, number(1.0))), alpha * scale)
    positive = builder.emit(relax.op.greater(data, number(0.0)))
    return builder.emit(relax.op.where(positive, times(data, scale), below))


def _native_group_norm(builder: relax.BlockBuilder, values: Values, node: fx.Node) -> tuple[relax.Var | None, ...]:
    """(input, weight, bias, N, C, HxW, groups, eps), weight and bias optional."""
    data = values[node.args[0]]
    channels = shape_of(data)[1]
    gamma, beta = (
        relax.const(np.full(channels, default, np.float32)) if given is None else values[given]
        for given, default in zip(node.args[1:3], (1.0, 0.0), strict=True)
    )
    axes = list(range(2, len(shape_of(data))))
    normalised = relax.op.nn.group_norm(data, gamma, beta, int(node.args[6]), 1, axes, float(node.args[7]))  # type: ignore[arg-type]
    return builder.emit(normalised), None, None


def _native_dropout(builder: relax.BlockBuilder, values: Values, node: fx.Node) -> tuple[relax.Var | None, ...]:
    if argument(node, 2, "train"):
        raise ValueError("it drops values at random, in eval mode too; write F.dropout(x, p, self.training)")
    return values[node.args[0]], None


#: Names of nodes' operators -> what takes the place of TVM's translation.
CONVERTERS: Mapping[str, Converter] = {
    "adaptive_max_pool2d.default": _adaptive_max_pool2d,
    "amax.default": _reduced(relax.op.max),
    "amin.default": _reduced(relax.op.min),
    "copysign.Scalar": _copysign,
    "copysign.Tensor": _copysign,
    "elu.default": _elu,
    "max.dim": _with_position(relax.op.max, relax.op.argmax),
    "min.dim": _with_position(relax.op.min, relax.op.argmin),
    "native_dropout.default": _native_dropout,
    "native_group_norm.default": _native_group_norm,
    "prod.dim_int": _reduced(relax.op.prod),
    "signbit.default": _signbit,
}
#: Likewise, for operators some of whose forms stay TVM's.
EXTENDED: Mapping[str, Callable[[Callable[[fx.Node], Any]], Converter]] = {
    "_upsample_bilinear2d_aa.default": _bilinear_aa,
    "index.Tensor": _index,
    "index_put.default": _index_put,
    "index_put_.default": _index_put,
}
