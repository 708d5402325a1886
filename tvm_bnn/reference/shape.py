"""Operators that move, repeat or make values without computing with them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import relax

from tvm_bnn.errors import UnsupportedError
from tvm_bnn.reference.attributes import axes, ints, requested_dtype

Args = Sequence[Any]


def reshape(_call: relax.Call, args: Args) -> np.ndarray:
    """relax.reshape to static extents."""
    return args[0].reshape(args[1])


def permute_dims(call: relax.Call, args: Args) -> np.ndarray:
    """relax.permute_dims; without axes, all are reversed."""
    order = call.attrs.axes
    return args[0].transpose(None if order is None else ints(order))


def expand_dims(call: relax.Call, args: Args) -> np.ndarray:
    """relax.expand_dims: the axes are positions in the result."""
    return np.expand_dims(args[0], ints(call.attrs.axis))


def squeeze(call: relax.Call, args: Args) -> np.ndarray:
    """relax.squeeze; without axes, every extent of 1 goes."""
    axis = call.attrs.axis
    return args[0].squeeze(None if axis is None else ints(axis))


def flatten(_call: relax.Call, args: Args) -> np.ndarray:
    """relax.flatten: all axes become one."""
    return args[0].reshape(-1)


def broadcast_to(_call: relax.Call, args: Args) -> np.ndarray:
    """relax.broadcast_to."""
    return np.broadcast_to(args[0], args[1])


def concat(call: relax.Call, args: Args) -> np.ndarray:
    """relax.concat; without an axis, the flattened tensors."""
    axis = call.attrs.axis
    return np.concatenate(args[0], axis=None if axis is None else int(axis))


def stack(call: relax.Call, args: Args) -> np.ndarray:
    """relax.stack."""
    return np.stack(args[0], axis=0 if call.attrs.axis is None else int(call.attrs.axis))


def split(call: relax.Call, args: Args) -> np.ndarray | tuple[np.ndarray, ...]:
    """relax.split: at the given indices, or into sections of equal size, the last one smaller.

    Relax gives the tensor itself, not a tuple, where there is a single part.
    """
    x, axis = args[0], int(call.attrs.axis)
    where = call.attrs.indices_or_sections
    if isinstance(where, Sequence) or hasattr(where, "__len__"):
        points = list(ints(where))
    else:
        size = -(-x.shape[axis] // int(where))
        points = [size * i for i in range(1, int(where))]
    return tuple(np.split(x, points, axis=axis)) if points else x


def strided_slice(_call: relax.Call, args: Args) -> np.ndarray:
    """relax.strided_slice with Python's rules for negative and overlong bounds."""
    x, where, begin, end, *rest = args
    strides = rest[0] if rest else (1,) * len(where)
    index = [slice(None)] * x.ndim
    for axis, first, last, step in zip(where, begin, end, strides):
        index[int(axis)] = slice(int(first), int(last), int(step))
    return x[tuple(index)]


def take(call: relax.Call, args: Args) -> np.ndarray:
    """relax.take along an axis, or from the flattened tensor; mode fast asks for indices within range."""
    axis, mode = call.attrs.axis, str(call.attrs.mode)
    data, indices = args[0], np.asarray(args[1])
    extent = data.size if axis is None else data.shape[int(axis)]
    if mode == "clip":
        indices = np.clip(indices, 0, extent - 1)
    elif mode == "wrap":
        indices = indices % extent
    elif mode != "fast":
        raise UnsupportedError(f"the reference evaluator found take in mode {mode!r}; it takes fast, clip and wrap")
    return np.take(data, indices, axis=None if axis is None else int(axis))


def index_tensor(_call: relax.Call, args: Args) -> np.ndarray:
    """relax.index_tensor: numpy's indexing by integer tensors."""
    return args[0][tuple(args[1])]


def gather_elements(call: relax.Call, args: Args) -> np.ndarray:
    """relax.gather_elements along an axis."""
    return np.take_along_axis(args[0], args[1], int(call.attrs.axis))


def tile(call: relax.Call, args: Args) -> np.ndarray:
    """relax.tile."""
    return np.tile(args[0], ints(call.attrs.repeats))


def repeat(call: relax.Call, args: Args) -> np.ndarray:
    """relax.repeat of each element along an axis, or of the flattened tensor."""
    axis = call.attrs.axis
    return np.repeat(args[0], int(call.attrs.repeats), axis=None if axis is None else int(axis))


def flip(call: relax.Call, args: Args) -> np.ndarray:
    """relax.flip along one axis."""
    return np.flip(args[0], axes(call.attrs.axis, args[0].ndim))


def pad(call: relax.Call, args: Args) -> np.ndarray:
    """relax.nn.pad: (before, after) for each axis in turn; constant, reflect, replicate or circular.

    A negative width of constant padding crops.
    """
    widths = ints(call.attrs.pad_width)
    borders = list(zip(widths[::2], widths[1::2]))
    mode = str(call.attrs.pad_mode)
    if mode == "constant":
        inner = args[0][tuple(slice(max(-b, 0), min(a, 0) or None) for b, a in borders)]
        outer = [(max(b, 0), max(a, 0)) for b, a in borders]
        return np.pad(inner, outer, constant_values=inner.dtype.type(float(call.attrs.pad_value)))
    modes = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    if mode not in modes:
        raise UnsupportedError(
            f"the reference evaluator found padding by {mode!r}; it takes constant, {', '.join(modes)}"
        )
    return np.pad(args[0], borders, mode=modes[mode])  # type: ignore[call-overload]


def pixel_shuffle(call: relax.Call, args: Args) -> np.ndarray:
    """relax.nn.pixel_shuffle: channel c*r*r + i*r + j becomes channel c at row offset i, column offset j."""
    x, r = args[0], int(call.attrs.upscale_factor)
    *batch, channels, height, width = x.shape
    blocks = x.reshape(-1, channels // (r * r), r, r, height, width).transpose(0, 1, 4, 2, 5, 3)
    return blocks.reshape(*batch, channels // (r * r), height * r, width * r)


def zeros_like(call: relax.Call, args: Args) -> np.ndarray:
    """relax.zeros_like."""
    return np.zeros(args[0].shape, requested_dtype(call, args[0].dtype))


def ones_like(call: relax.Call, args: Args) -> np.ndarray:
    """relax.ones_like."""
    return np.ones(args[0].shape, requested_dtype(call, args[0].dtype))


def full_like(call: relax.Call, args: Args) -> np.ndarray:
    """relax.full_like."""
    return np.full(args[0].shape, args[1], requested_dtype(call, args[0].dtype))


def zeros(call: relax.Call, args: Args) -> np.ndarray:
    """relax.zeros."""
    return np.zeros(args[0], requested_dtype(call, np.dtype(np.float32)))


def ones(call: relax.Call, args: Args) -> np.ndarray:
    """relax.ones."""
    return np.ones(args[0], requested_dtype(call, np.dtype(np.float32)))


def full(call: relax.Call, args: Args) -> np.ndarray:
    """relax.full: (shape, value)."""
    return np.full(args[0], args[1], requested_dtype(call, np.asarray(args[1]).dtype))


def arange(call: relax.Call, args: Args) -> np.ndarray:
    """relax.arange: start + i * step, in the dtype of the result."""
    start, stop, step = args
    return np.arange(start, stop, step).astype(requested_dtype(call, np.dtype(np.int64)))
