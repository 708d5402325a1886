"""Index arithmetic that readers and views share."""

from typing import Any

from tvm import relax, tirx

from tvm_bnn.relay_passes.rewriter import shape_of

#: One index expression per axis.
Index = tuple
#: A TensorIR expression of one element.
Scalar = Any


def zero():
    """Index 0."""
    return tirx.const(0, "int32")


def broadcast_index(index: Index, shape: tuple[int, ...]) -> Index:
    """The index of an operand of this shape when the result is asked at index (numpy's broadcasting)."""
    tail = index[len(index) - len(shape) :]
    return tuple(i if extent != 1 else zero() for i, extent in zip(tail, shape, strict=True))


def split_offset(split: relax.Call, field: int) -> tuple[int, int]:
    """Axis of a split and where a field begins on it."""
    sections, axis = split.attrs.indices_or_sections, int(split.attrs.axis)
    shape = shape_of(split.args[0])
    axis %= len(shape)
    if hasattr(sections, "value") or isinstance(sections, int):
        step = -(-shape[axis] // int(sections))
        return axis, field * step
    return axis, [0, *(int(s) for s in sections)][field]


def shifted(index: Index, axis: int, begin) -> Index:
    """The index moved by begin along one axis."""
    return (*index[:axis], index[axis] + begin, *index[axis + 1 :])
