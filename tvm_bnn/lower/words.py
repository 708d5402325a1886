"""Whole words of bits through views: word j of the channel bits of a pixel, without unpacking anything.

A convolution reads words. Views that move whole pixels (nearest resize, adding and dropping planes of size 1) or whole
words (split and concat of channels at multiples of 32) are read through; any other view has no words, and its bits are
stored by a kernel of their own first.
"""

import math

from tvm import relax, tirx

from tvm_bnn.lower.index import Scalar, split_offset, zero
from tvm_bnn.lower.layout import WORD, Layout, words
from tvm_bnn.lower.reader import Reader
from tvm_bnn.lower.views import nearest_source
from tvm_bnn.relay_passes.hoist_upsample import is_nearest
from tvm_bnn.relay_passes.rewriter import op_name, shape_of

_SAME_BITS = {"relax.reshape", "relax.expand_dims", "relax.squeeze"}


def word(reader: Reader, expr: relax.Expr, pixel: tuple, position) -> Scalar | None:
    """Word ``position`` of the channel bits at pixel (n, h, w); None where no whole word can be had."""
    if not isinstance(expr, relax.Var):
        return None
    if reader.layout_of.get(expr) is Layout.BITS:
        return _stored_word(reader, expr, pixel, position)
    value = reader.partition.definition.get(expr)
    if value is None or reader.is_member(expr):
        return None
    if isinstance(value, relax.Var):
        return word(reader, value, pixel, position)
    if isinstance(value, relax.TupleGetItem):
        return _split_word(reader, value, pixel, position)
    if is_nearest(value):
        n, h, w = pixel
        rows, columns = (nearest_source(value, axis, i) for axis, i in ((2, h), (3, w)))
        return word(reader, value.args[0], (n, rows, columns), position)
    if op_name(value) in _SAME_BITS and _only_channels(expr) and _only_channels(value.args[0]):
        return word(reader, value.args[0], pixel, position)
    if op_name(value) == "relax.concat" and int(value.attrs.axis) == 1:
        return _concat_word(reader, value, pixel, position)
    return None


def _stored_word(reader: Reader, var: relax.Var, pixel: tuple, position) -> Scalar:
    shape = shape_of(var)
    extents = (shape[0], *shape[2:])
    where = [i if extent > 1 else zero() for i, extent in zip(pixel, extents, strict=False)]
    return reader.stored(var)(*where, position)


def _only_channels(expr: relax.Expr) -> bool:
    """Whether a tensor is [N, C] or [N, C, 1, ...]."""
    shape = shape_of(expr)
    return len(shape) >= 2 and math.prod(shape[2:]) == 1


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
