"""Whole words of bits through views: word j of the channel bits of a pixel, without unpacking anything.

A convolution reads words. Views that move whole pixels (nearest resize, adding and dropping planes of size 1) or whole
words (split and concat of channels at multiples of 32) are read through; any other view has no words, and its bits are
stored by a kernel of their own first. Logic on bits is logic on words, 32 at a time, and so is max-pooling.
"""

import math
from collections.abc import Callable

from tvm import relax, tirx

from tvm_bnn.lower.index import Scalar, split_offset, zero
from tvm_bnn.lower.layout import WORD, Layout, words
from tvm_bnn.lower.reader import Reader
from tvm_bnn.lower.views import nearest_source
from tvm_bnn.relay_passes.arrangement import Arrangement, is_arrangement
from tvm_bnn.relay_passes.hoist_upsample import is_nearest
from tvm_bnn.relay_passes.rewriter import op_name, shape_of

_SAME_BITS = {"relax.reshape", "relax.expand_dims", "relax.squeeze"}
_LOGIC: dict[str, Callable] = {
    "relax.logical_and": lambda a, b: a & b,
    "relax.logical_or": lambda a, b: a | b,
    "relax.logical_xor": lambda a, b: a ^ b,
    "relax.logical_not": lambda a: ~a,
}


def word(reader: Reader, expr: relax.Expr, pixel: tuple, position) -> Scalar | None:
    """Word ``position`` of the channel bits at pixel (n, h, w); None where no whole word can be had."""
    if not isinstance(expr, relax.Var):
        return None
    if expr in reader.word_stages:
        return reader.word_stages[expr](pixel, position)
    if reader.is_member(expr):
        return _logic_word(reader, reader.partition.definition[expr], pixel, position)
    if reader.layout_of.get(expr) is Layout.BITS:
        return _stored_word(reader, expr, pixel, position)
    value = reader.partition.definition.get(expr)
    return None if value is None else _view_word(reader, expr, value, pixel, position)


def _view_word(reader: Reader, var: relax.Var, value: relax.Expr, pixel: tuple, position) -> Scalar | None:
    """A word of a view, where it is a word of what it is a view of."""
    if isinstance(value, relax.Var):
        return word(reader, value, pixel, position)
    if isinstance(value, relax.TupleGetItem):
        return _split_word(reader, value, pixel, position)
    if is_nearest(value):
        n, h, w = pixel
        rows, columns = (nearest_source(value, axis, i) for axis, i in ((2, h), (3, w)))
        return word(reader, value.args[0], (n, rows, columns), position)
    if op_name(value) in _SAME_BITS and _same_channels(var, value.args[0]):
        return word(reader, value.args[0], pixel, position)
    if op_name(value) == "relax.concat" and int(value.attrs.axis) == 1:
        return _concat_word(reader, value, pixel, position)
    return _arranged_word(reader, var, pixel, position) if is_arrangement(value) else None


def _arranged_word(reader: Reader, var: relax.Var, pixel: tuple, position) -> Scalar | None:
    """A word of reshaped and permuted bits, where whole words move."""
    steps, source = [], var
    while is_arrangement(reader.partition.definition.get(source)) and source not in reader.layout_of:
        value = reader.partition.definition[source]
        steps.append((value, shape_of(source)))
        (source,) = value.args[:1]
    shapes = shape_of(source), shape_of(var)
    if any(len(shape) not in (2, 4) or shape[1] % WORD for shape in shapes):
        return None
    (n, c, *plane), (rows, channels, *result) = shapes
    by_words = (n, c // WORD, WORD, *plane)
    order = Arrangement.identity(by_words).reshaped(shapes[0])
    order = None if order is None else order.then_all(steps)
    order = None if order is None else order.reshaped((rows, channels // WORD, WORD, *result))
    if order is None or not order.keeps(2, 2):
        return None
    where = (*pixel[1:], zero(), zero())[: len(result)]  # of views with other planes of size 1
    place = order.place((pixel[0], position, 0, *where))
    if place is None:
        return None
    first, index, _, *rest = (tirx.const(p, "int32") if isinstance(p, int) else p for p in place)
    return word(reader, source, (first, *rest), index)


def has_words(reader: Reader, expr: relax.Expr) -> bool:
    """Whether a value's bits can be had a word at a time."""
    rank = len(shape_of(expr))
    if rank not in (2, 4):
        return False
    pixel = tuple(tirx.Var(name, "int32") for name in ("n", "y", "x")[: rank - 1])
    return word(reader, expr, pixel, tirx.Var("w", "int32")) is not None


def _logic_word(reader: Reader, call: relax.Expr, pixel: tuple, position) -> Scalar | None:
    """A word of a logical operator, from the same words of its operands."""
    if op_name(call) not in _LOGIC:
        return None
    channels = shape_of(call)[1]
    parts = []
    for operand in call.args:
        extents = shape_of(operand)
        if not isinstance(operand, relax.Var) or len(extents) != len(pixel) + 1 or extents[1] != channels:
            return None
        where = tuple(i if extent > 1 else zero() for i, extent in zip(pixel, (extents[0], *extents[2:]), strict=True))
        part = word(reader, operand, where, position)
        if part is None:
            return None
        parts.append(part)
    result = _LOGIC[op_name(call)](*parts)
    if op_name(call) == "relax.logical_not" and channels % WORD:  # bits behind the last channel stay 0
        tail = tirx.const((1 << channels % WORD) - 1, "uint32")
        result = tirx.Select(position < channels // WORD, result, result & tail)
    return result


def _stored_word(reader: Reader, var: relax.Var, pixel: tuple, position) -> Scalar:
    shape = shape_of(var)
    extents = (shape[0], *shape[2:])
    where = [i if extent > 1 else zero() for i, extent in zip(pixel, extents, strict=False)]
    return reader.stored(var)(*where, position)


def _same_channels(*tensors: relax.Expr) -> bool:
    """Whether tensors are [N, C] or [N, C, 1, ...], of the same N and C."""
    shapes = [shape_of(tensor) for tensor in tensors]
    return len({shape[:2] for shape in shapes}) == 1 and all(math.prod(shape[2:]) == 1 for shape in shapes)


def _split_word(reader: Reader, item: relax.TupleGetItem, pixel: tuple, position) -> Scalar | None:
    bound = reader.partition.definition.get(item.tuple_value)
    if bound is None or op_name(bound) != "relax.split":
        return None
    axis, begin = split_offset(bound, item.index)
    if axis != 1 or begin % WORD or shape_of(item)[1] % WORD:
        return None
    return word(reader, bound.args[0], pixel, position + begin // WORD)


def _concat_word(reader: Reader, call: relax.Call, pixel: tuple, position) -> Scalar | None:
    fields = call.args[0].fields
    if any(shape_of(field)[1] % WORD for field in fields):
        return None
    result, begin = None, 0
    for field in fields:
        part = word(reader, field, pixel, position - begin)
        if part is None:
            return None
        result = part if result is None else tirx.if_then_else(position < begin, result, part)
        begin += words(shape_of(field)[1])
    return result
