"""Reductions: means, sums, extrema, argmax and softmax, in the order that the reference evaluator defines."""

import math
from collections.abc import Callable, Mapping

from tvm import relax, te, tirx

from tvm_bnn import arithmetic
from tvm_bnn.lower.anchors import Anchor
from tvm_bnn.lower.index import Scalar
from tvm_bnn.lower.layout import padded_channels, words
from tvm_bnn.lower.reader import Reader
from tvm_bnn.lower.scalar import is_larger, is_smaller
from tvm_bnn.lower.words import has_words, word
from tvm_bnn.relay_passes.rewriter import dtype_of, op_name, shape_of


def plane_sum(reader: Reader, data: relax.Expr):
    """Sum over each plane of [N, C, H, W]: along each row in order, then over the rows in order.

    Rows are independent, so that threads can share them without changing a bit of the result.
    """
    batch, channels, height, width = shape_of(data)
    padded = padded_channels(channels)
    kx, ky = reader.reduce_axis(width, "kx"), reader.reduce_axis(height, "ky")
    rows = reader.compute(
        (batch, height, padded), lambda n, y, c: te.sum(reader.element(data, (n, c, y, kx.var)), axis=kx), "rows"
    )
    return reader.compute((batch, padded), lambda n, c: te.sum(rows(n, ky.var, c), axis=ky), "acc")


def _axes(call: relax.Call, rank: int) -> list[int]:
    axes = call.attrs.axis
    if axes is None:
        return list(range(rank))
    return sorted(int(a) % rank for a in axes)


def _stored_elements(reader: Reader, stage, shape: tuple[int, ...]):
    """A stage as a function of its index; readers of channels behind the last one are sent to that."""
    return lambda *index: stage(*(reader.inside(i, extent) for i, extent in zip(index, shape, strict=True)))


def last_channels(
    reader: Reader, shape: tuple[int, ...], element, name: str, padded: bool = True, ranks: tuple[int, ...] = (2, 4)
):
    """A stage indexed logically but stored channels-last, so that its last axis is the vector axis.

    ranks : those that are stored so; a stage of another rank is stored as it is indexed.
    padded : whether ``element`` may be asked for channels behind the last one. Only then is the channel axis padded;
    otherwise readers of padded channels are sent to the last one.
    """
    if len(shape) not in ranks:
        stage = reader.compute(shape or (1,), lambda *i: element(*(i if shape else ())), name)
        elements = _stored_elements(reader, stage, shape or (1,))
        return lambda *index: elements(*(index or (0,)))
    stored = (shape[0], *shape[2:], padded_channels(shape[1]) if padded else shape[1])
    stage = reader.compute(stored, lambda n, *i: element(n, i[-1], *i[:-1]), name)
    return lambda n, c, *pixel: stage(n, *pixel, reader.inside(c, stored[-1]))


def summed_bits(call: relax.Call, definition: Mapping[relax.Var, relax.Expr]) -> relax.Expr | None:
    """The bool tensor [N, C, H, W] of whose channels a call sums ones, as [N, 1, H, W]; None where it does not.

    definition : what variables are bound to.
    """
    cast = definition.get(call.args[0]) if isinstance(call.args[0], relax.Var) else None
    if op_name(call) != "relax.sum" or not call.attrs.keepdims:
        return None
    if cast is None or op_name(cast) != "relax.astype":
        return None
    bits = cast.args[0]
    is_sum = dtype_of(bits) == "bool" and len(shape_of(bits)) == 4 and _axes(call, 4) == [1]
    return bits if is_sum and shape_of(bits)[1] < 1 << 24 else None


def _count_of_bits(reader: Reader, call: relax.Call, bits: relax.Expr) -> Anchor:
    """Ones among the channels of stored bits: exact, so in any order."""
    batch, channels, height, width = shape_of(bits)
    position = reader.reduce_axis(words(channels), "word")

    def count(n, y, x):
        return te.sum(tirx.popcount(word(reader, bits, (n, y, x), position.var)), axis=position)

    acc = reader.compute((batch, height, width), count, "acc")
    return Anchor(lambda i: acc(i[0], i[2], i[3]).astype(dtype_of(call)), "reduce")


def reduce(reader: Reader, call: relax.Call, target) -> Anchor:
    """mean, sum, max or min over given axes."""
    data, keep = call.args[0], bool(call.attrs.keepdims)
    shape = shape_of(data)
    bits = summed_bits(call, reader.partition.definition)
    if bits is not None and has_words(reader, bits):
        return _count_of_bits(reader, call, bits)
    axes = _axes(call, len(shape))
    kind = op_name(call)
    count = tirx.const(float(math.prod(shape[a] for a in axes)), "float32")
    if axes == [2, 3] and len(shape) == 4 and kind in ("relax.mean", "relax.sum") and dtype_of(call) == "float32":
        total = plane_sum(reader, data)
        return Anchor(lambda i: total(i[0], i[1]) / count if kind == "relax.mean" else total(i[0], i[1]), "plane_sum")
    reducer = {"relax.mean": te.sum, "relax.sum": te.sum, "relax.max": te.max, "relax.min": te.min}[kind]
    value = lambda index: reader.element(data, index)  # noqa: E731
    left = list(range(len(shape)))
    for axis in reversed(axes):  # one axis at a time, the last first: the defined order of a sum
        value = _reduce_axis(reader, value, shape, left, axis, reducer, last=axis == axes[0])
        left.remove(axis)

    def element(index):
        kept = tuple(index[a] for a in left) if keep else tuple(index)
        return value(kept) / count if kind == "relax.mean" else value(kept)

    return Anchor(element, "reduce")


def _reduce_axis(reader: Reader, value, shape: tuple[int, ...], left: list[int], axis: int, reducer, last: bool):
    """A stage that reduces one axis of ``value`` (a function of the indices of the axes in left)."""
    position = left.index(axis)
    rest = tuple(shape[a] for a in left if a != axis)
    k = reader.reduce_axis(shape[axis], "k")

    def accumulate(*index):
        return reducer(value((*index[:position], k.var, *index[position:])), axis=k)

    if not last:
        stage = reader.compute(rest, accumulate, f"rows_{axis}")
        elements = _stored_elements(reader, stage, rest)
        return lambda index: elements(*index)
    kept = [a for a in left if a != axis]
    are_channels = len(kept) > 1 and kept[1] == 1
    # what is left of a map when a row or a column is summed up: readers pack bits along its channels
    ranks = (2, 3, 4) if are_channels else (2, 4)
    channels_last = last_channels(reader, rest, accumulate, "acc", padded=are_channels, ranks=ranks)
    return lambda index: channels_last(*index)


def argmax(reader: Reader, call: relax.Call, target) -> Anchor:
    """Index of the first maximum along one axis, or of all elements; the first NaN goes before all."""
    return _first(reader, call, is_larger, -math.inf, te.min_value)


def argmin(reader: Reader, call: relax.Call, target) -> Anchor:
    """The same of the first minimum."""
    return _first(reader, call, is_smaller, math.inf, te.max_value)


def _first(reader: Reader, call: relax.Call, goes_before: Callable, bound: float, integer_bound: Callable) -> Anchor:
    """Position of the element that goes before all others, and is the first of its equals.

    bound, integer_bound : what every number, every integer of a type, at least equals.
    """
    data = call.args[0]
    shape, dtype = shape_of(data), dtype_of(data)
    axes = list(range(len(shape))) if call.attrs.axis is None else [int(call.attrs.axis) % len(shape)]
    keep = bool(call.attrs.keepdims)
    k = reader.reduce_axis(math.prod(shape[a] for a in axes), "k")

    def combine(best, other):
        better = goes_before(other[1], best[1])
        return tirx.Select(better, other[0], best[0]), tirx.Select(better, other[1], best[1])

    def identity(index_type, value_type):
        is_float = str(value_type).startswith("float")
        return tirx.const(0, index_type), tirx.const(bound, value_type) if is_float else integer_bound(value_type)

    first_of = te.comm_reducer(combine, identity, name="first_of")
    kept = [a for a in range(len(shape)) if a not in axes]
    spatial = tuple(shape[a] for a in kept) or (1,)

    def accumulate(*index):
        place = {**dict(zip(kept, index, strict=False)), **_numbered(k.var, {a: shape[a] for a in axes})}
        value = reader.element(data, tuple(place[a] for a in range(len(shape))))
        return first_of((k.var, value.astype(dtype)), axis=k)

    index_stage, _ = reader.compute(spatial, accumulate, "acc")
    first = _stored_elements(reader, index_stage, spatial)

    def element(i):
        position = tuple(i[a] for a in kept) if keep else tuple(i)
        return first(*(position or (0,))).astype(dtype_of(call))

    return Anchor(element, "reduce")


def _numbered(number, extents: dict[int, int]) -> dict[int, Scalar]:
    """The place along each axis of an element that is given by its number, the last axis first."""
    if len(extents) == 1:
        return dict.fromkeys(extents, number)
    places, step = {}, 1
    for axis, extent in reversed(extents.items()):
        places[axis] = number // step % extent
        step *= extent
    return places


def softmax(reader: Reader, call: relax.Call, target) -> Anchor:
    """exp(x - max) over its sum along one axis, summed in order."""
    data = call.args[0]
    shape = shape_of(data)
    axis = int(call.attrs.axis) % len(shape)
    spatial = tuple(extent for a, extent in enumerate(shape) if a != axis)

    def along(reducer, value, name):
        k = reader.reduce_axis(shape[axis], "k")
        return reader.compute(spatial, lambda *i: reducer(value((*i[:axis], k.var, *i[axis:])), axis=k), name)

    peak = along(te.max, lambda i: reader.element(data, i), "peak")
    rest = lambda i: (*i[:axis], *i[axis + 1 :])  # noqa: E731
    powers = reader.compute(shape, lambda *i: arithmetic.exp(reader.element(data, i) - peak(*rest(i))), "powers")
    total = along(te.sum, lambda i: powers(*i), "acc")
    power, sums = _stored_elements(reader, powers, shape), _stored_elements(reader, total, spatial)

    def element(i):
        return power(*i) / sums(*rest(i))

    return Anchor(element, "reduce")
