"""Emit: a sum of products of two operands with few levels, as integers and one affine map.

Derivation. With the activation ``x = m(c) + a * sum_j k[j] * f(c) * s[j]`` and the weight
``w = u(o) + d(o)/Q * sum_q t[q]`` (see levels.py; s, t, f in {-1, +1}), over the taps of a window

    sum x*w  =  a * d(o)/Q * sum_j k[j] * sum_q bconv(s[j], f*t[q])
             +  a * u(o)   * sum_j k[j] * bconv(s[j], f)
             +  sum m(c) * w(o, c) .

``bconv`` is ``bnn.bconv2d``, an integer; signs of the step fold into the weights. The second term is one more filter,
shared by all, and is there only where some filter's levels are not +-a. The third is a constant per filter, and, where
zero padding is not one of the levels, per border class: a tap padded with zero has no part in any term. Where the
padded value is a level of every channel, the tap is an ordinary one.

Two activations, ``x = m + a * sum_i k[i]*s[i]`` and ``y = n + b * sum_j l[j]*t[j]``, over K products:

    sum x*y  =  a*b * sum_ij k[i]*l[j] * bmm(s[i], t[j])  +  a*n * sum_i k[i] * sum s[i]  +  b*m * sum_j l[j] * sum t[j]
             +  K*m*n .
"""

from collections.abc import Callable
from dataclasses import replace
from functools import reduce

import numpy as np
from tvm import relax

from tvm_bnn import ops
from tvm_bnn.relay_passes.borders import border_sums
from tvm_bnn.relay_passes.levels import Planes, WeightPlanes
from tvm_bnn.relay_passes.rewriter import shape_of

Emit = Callable[..., relax.Expr]

#: Sums must stay exact as float32.
MOST_TERMS = 1 << 24
#: Pixels of a row that the vectors of a product are cut into: what one thread takes at a time.
MOST_COLUMNS = 64
LEAST_COLUMNS = 8


def terms(planes: Planes, weights: WeightPlanes) -> int:
    """The largest magnitude of the integer sum."""
    return sum(planes.weights) * len(weights.planes) * weights.planes[0][0].size


def per_channel(value: np.ndarray, channels: int, axis: int) -> np.ndarray | None:
    """The values along one axis of an array that varies on no other; None where it varies elsewhere."""
    if value.size not in (1, value.shape[axis]):
        return None
    return np.broadcast_to(value.reshape(-1), (channels,)).astype(np.float64)


def conv_sum(
    emit: Emit,
    call: relax.Call,
    bits: list[relax.Expr],
    planes: Planes,
    weight: np.ndarray,
    weights: WeightPlanes,
    geometry: ops.BConv2DAttrs,
    middle: np.ndarray,
    flip: np.ndarray,
    pad: tuple[int, ...] | None,
) -> relax.Expr:
    """A convolution's float32 result [N, O, H, W]; the last call is left to be bound by the caller.

    bits : the planes, bool [N, C, H, W]. weight : [O, C/groups, KH, KW]; weights : the same in planes.
    middle, flip : [C]. pad : sign of a padded element in each plane, None where padding contributes nothing.
    """
    filters, per_group = weight.shape[:2]
    channel = _channels_of(filters, per_group, geometry.groups)
    signed = flip[channel][:, :, None, None] < 0
    pads = pad or (0,) * len(bits)
    integer = _count(emit, call, bits, planes.weights, [t ^ signed for t in weights.planes], geometry, pads)
    scale = _column(planes.step * weights.step / len(weights.planes))
    constant = middle[channel][:, :, None, None] * weight.astype(np.float64)
    ordinary = pad is not None or not any(geometry.padding) or not middle.any()
    offset = _column(constant.sum(axis=(1, 2, 3)) if ordinary else np.zeros(filters))
    result = ops.affine(integer, scale, offset)
    if weights.middle.any():
        ones = np.ones_like(weights.planes[0]) ^ signed
        shared = ones[:1] if geometry.groups == 1 else ones
        box = _count(emit, call, bits, planes.weights, [shared], geometry, pads)
        numbers = emit(relax.op.astype(box, "float32"), span=call.span)
        spread = emit(relax.op.multiply(numbers, _column(planes.step * weights.middle)), span=call.span)
        result = relax.op.add(emit(result, span=call.span), spread)
    if ordinary:
        return result
    table, rows, columns = border_sums(constant, shape_of(bits[0])[2:], geometry)
    return relax.op.add(emit(result, span=call.span), emit(ops.border_bias(relax.const(table), rows, columns)))


def _channels_of(filters: int, per_group: int, groups: int) -> np.ndarray:
    """Channel of the input that each filter's channel reads: [O, C/groups]."""
    group = np.arange(filters) // (filters // groups)
    return group[:, None] * per_group + np.arange(per_group)[None, :]


def _column(values: np.ndarray) -> relax.Expr:
    return relax.const(values.astype(np.float32).reshape(1, -1, 1, 1))


def _count(
    emit: Emit,
    call: relax.Call,
    bits: list[relax.Expr],
    counts: tuple[int, ...],
    weights: list[np.ndarray],
    geometry: ops.BConv2DAttrs,
    pads: tuple[int, ...],
) -> relax.Expr:
    """sum over planes j, q of counts[j] * bconv(bits[j], weights[q]), int32."""
    pairs = [(j, q) for j in range(len(bits)) for q in range(len(weights))]
    if len(pairs) > 1 and geometry.groups == 1 and set(counts) == {1} and len(set(pads)) == 1:
        # planes that count alike are more channels of one convolution
        stacked = emit(relax.op.concat([bits[j] for j, _ in pairs], 1), span=call.span)
        weight = np.concatenate([weights[q] for _, q in pairs], axis=1)
        attrs = replace(geometry, pad_value=pads[0])
        return emit(ops.bconv2d(stacked, relax.const(weight), attrs, call.span), span=call.span)
    parts = []
    for j, q in pairs:
        attrs = replace(geometry, pad_value=pads[j])
        part = emit(ops.bconv2d(bits[j], relax.const(weights[q]), attrs, call.span), span=call.span)
        if counts[j] != 1:
            part = emit(relax.op.multiply(part, relax.const(counts[j], "int32")), span=call.span)
        parts.append(part)
    return reduce(lambda a, b: emit(relax.op.add(a, b), span=call.span), parts)


def product_sum(emit: Emit, call: relax.Call, left: Planes, right: Planes, turned: bool) -> relax.Expr:
    """A product [..., M, K] x [..., K, N] of activations with one middle and one step each, float32 [..., M, N].

    The left operand becomes the map of ``bnn.bmatmul``, in rows of up to MOST_COLUMNS pixels, and the right one its
    filters; turned : the other way round.
    """
    rows, length = shape_of(call.args[0])[-2:]
    columns = shape_of(call.args[1])[-1]
    batch = int(np.prod(shape_of(call)[:-2]))
    pixels, filters = (columns, rows) if turned else (rows, columns)
    plane = _rows_of_pixels(pixels)

    def bound(expr: relax.Expr) -> relax.Expr:
        return emit(expr, span=call.span)

    def vectors(bits: relax.Expr, count: int, is_left: bool) -> relax.Expr:
        """[batch, K, 1, count], or with two axes of pixels for the map."""
        if is_left:
            flat = bound(relax.op.reshape(bits, (batch, count, length)))
            bits = bound(relax.op.permute_dims(flat, (0, 2, 1)))
        return bound(relax.op.reshape(bits, (batch, length, *((1, count) if is_left == turned else plane))))

    operands = [
        ([vectors(bits, count, planes is left) for bits in planes.bits()], planes)
        for planes, count in ((left, rows), (right, columns))
    ]
    (maps, of_map), (others, of_filters) = reversed(operands) if turned else operands
    (a_step, a_middle), (b_step, b_middle) = (_step_and_middle(planes) for planes in (of_map, of_filters))
    # before the products, so that adding them is part of the products' epilogue
    offsets = [
        *_offsets(bound, maps, of_map, a_step * b_middle, (batch, 1, *plane)),
        *_offsets(bound, others, of_filters, b_step * a_middle, (batch, filters, 1, 1)),
    ]
    parts = []
    for bits, count in zip(maps, of_map.weights, strict=True):
        for other, weight in zip(others, of_filters.weights, strict=True):
            part = bound(ops.bmatmul(bits, other, call.span))
            if count * weight != 1:
                part = bound(relax.op.multiply(part, relax.const(count * weight, "int32")))
            parts.append(part)
    integer = reduce(lambda a, b: bound(relax.op.add(a, b)), parts)
    one = (1, 1, 1, 1)
    scaled = bound(ops.affine(integer, _full(a_step * b_step, one), _full(length * a_middle * b_middle, one)))
    result = reduce(lambda a, b: bound(relax.op.add(a, b)), offsets, scaled)
    apart = bound(relax.op.reshape(result, (batch, filters, pixels)))
    return relax.op.reshape(apart if turned else bound(relax.op.permute_dims(apart, (0, 2, 1))), shape_of(call))


def _step_and_middle(planes: Planes) -> tuple[float, float]:
    return planes.step * float(planes.flip.flat[0]), float(planes.middle.flat[0])


def _offsets(bound: Callable, packed: list, planes: Planes, factor: float, shape: tuple[int, ...]) -> list[relax.Expr]:
    """factor * sum over axis 1 of each plane's signs, in the shape in which a product adds them."""
    if not factor:
        return []
    length = shape_of(packed[0])[1]
    signs = (_sum_of_signs(bound, bits, length, factor * n) for bits, n in zip(packed, planes.weights, strict=True))
    return [bound(relax.op.reshape(total, shape)) for total in signs]


def _rows_of_pixels(count: int) -> tuple[int, int]:
    """Vectors as rows of a map: as long as may be, up to MOST_COLUMNS, one row where that leaves rows too short."""
    width = max(w for w in range(1, MOST_COLUMNS + 1) if count % w == 0)
    return (count // width, width) if width >= LEAST_COLUMNS else (1, count)


def _sum_of_signs(bound: Callable, bits: relax.Expr, length: int, factor: float) -> relax.Expr:
    """factor * sum of the signs along axis 1, which stays with extent 1."""
    ones = bound(relax.op.sum(bound(relax.op.astype(bits, "float32")), 1, keepdims=True))
    one = (1, 1, 1, 1)
    return bound(ops.affine(ones, _full(2 * factor, one), _full(-length * factor, one)))


def _full(value: float, shape: tuple[int, ...]) -> relax.Expr:
    return relax.const(np.full(shape, value, np.float32))
