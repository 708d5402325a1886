"""Reading a call: attributes and static types as plain Python values."""

from collections.abc import Iterable

import numpy as np
from tvm import relax


def ints(values: Iterable) -> tuple[int, ...]:
    """Plain integers of an attribute array."""
    return tuple(int(value) for value in values)


def axes(values, rank: int) -> tuple[int, ...]:
    """Sorted, non-negative axes; None means all of them."""
    if values is None:
        return tuple(range(rank))
    listed = ints(values) if isinstance(values, Iterable) else (int(values),)
    return tuple(sorted(axis % rank for axis in listed))


def result_shape(call: relax.Call) -> tuple[int, ...]:
    """The static shape that Relax inferred for the call."""
    return ints(call.ty.shape)


def requested_dtype(call: relax.Call, default: np.dtype) -> np.dtype:
    """The call's dtype attribute, or the default where it names none."""
    name = str(call.attrs.dtype)
    return default if name in ("", "None", "void") else np.dtype(name)
