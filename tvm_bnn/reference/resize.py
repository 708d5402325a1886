"""Resizing. Coordinates are float32, every operation rounded by itself; kernels embed these very tables.

Where an output position falls in the input (``coordinates``), dst counted from 0:

    half_pixel, pytorch_half_pixel   (dst + 0.5) * scale - 0.5    scale = in / out
    align_corners                    dst * ((in - 1) / (out - 1)) 0 for a single output
    asymmetric                       dst * scale

*linear*: a position below 0 counts as 0; upper neighbour i = floor(position), lower neighbour i + 1, both
clipped to the image; f = position - i. Vertical first, v = fma(fy, lower - upper, upper), then horizontal,
fma(fx, right - left, left).

*nearest*: round (half to even), round_prefer_floor, round_prefer_ceil, floor or ceil of the position, clipped.
asymmetric with floor is PyTorch's rule. An empty rounding method means round for align_corners, else floor.

*cubic*: PyTorch's, with the position not clipped at 0 but its four neighbours clipped to the image. Weights are
computed in float64 from the float32 fraction and rounded once. Horizontal first, then vertical, each
w0 * p0, then fma(w, p, acc) for the other three in order.
"""

from collections.abc import Callable, Sequence

import numpy as np
from tvm import relax

from tvm_bnn.arithmetic import fma32
from tvm_bnn.errors import UnsupportedError
from tvm_bnn.reference.convolution import relayout

_HALF = np.float32(0.5)


def coordinates(size: int, out: int, mode: str) -> np.ndarray:
    """float32[out]: where each output position falls in an input of the given size."""
    dst = np.arange(out, dtype=np.float32)
    scale = np.float32(size) / np.float32(out)
    if mode == "half_pixel" or (mode == "pytorch_half_pixel" and out > 1):
        return (dst + _HALF) * scale - _HALF
    if mode == "align_corners":
        return dst * (np.float32(size - 1) / np.float32(max(out - 1, 1)))
    if mode == "asymmetric":
        return dst * scale
    if mode == "pytorch_half_pixel":
        return np.zeros(out, np.float32)
    raise UnsupportedError(
        f"the reference evaluator found a resize with coordinates {mode!r}; it takes half_pixel, "
        "pytorch_half_pixel, align_corners and asymmetric"
    )


def linear_table(size: int, out: int, mode: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(int64[out] upper, int64[out] lower, float32[out] fraction) of linear interpolation along one axis."""
    position = np.maximum(coordinates(size, out, mode), np.float32(0))
    upper = np.minimum(np.floor(position).astype(np.int64), size - 1)
    return upper, np.minimum(upper + 1, size - 1), position - upper.astype(np.float32)


def nearest_table(size: int, out: int, mode: str, rounding: str) -> np.ndarray:
    """int64[out]: the input position that each output position copies."""
    position = coordinates(size, out, mode)
    rounding = rounding or ("round" if mode == "align_corners" else "floor")
    rules: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "round": np.rint,
        "round_prefer_floor": lambda at: np.ceil(at - _HALF),
        "round_prefer_ceil": lambda at: np.floor(at + _HALF),
        "floor": np.floor,
        "ceil": np.ceil,
    }
    if rounding not in rules:
        raise UnsupportedError(
            f"the reference evaluator found a resize that rounds by {rounding!r}; it takes {', '.join(rules)}"
        )
    return np.clip(rules[rounding](position).astype(np.int64), 0, size - 1)


def cubic_table(size: int, out: int, mode: str, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """(int64[4, out] neighbours, float32[4, out] weights) of cubic interpolation along one axis."""
    position = coordinates(size, out, mode)
    first = np.floor(position)
    t = (position - first).astype(np.float64)
    inner = lambda d: ((alpha + 2) * d - (alpha + 3)) * d * d + 1  # noqa: E731
    outer = lambda d: ((alpha * d - 5 * alpha) * d + 8 * alpha) * d - 4 * alpha  # noqa: E731
    weights = np.stack([outer(t + 1), inner(t), inner(1 - t), outer(2 - t)]).astype(np.float32)
    neighbours = first.astype(np.int64) + np.arange(-1, 3)[:, None]
    return np.clip(neighbours, 0, size - 1), weights


def resize2d(call: relax.Call, args: Sequence) -> np.ndarray:
    """relax.image.resize2d: nearest_neighbor, linear or cubic, in any permutation of NCHW."""
    attrs = call.attrs
    data = relayout(args[0], attrs.layout, "NCHW")
    method, mode = attrs.method, attrs.coordinate_transformation_mode
    (height, width), (rows, columns) = data.shape[2:], args[1]
    if method == "nearest_neighbor":
        y, x = (nearest_table(i, o, mode, attrs.rounding_method) for i, o in ((height, rows), (width, columns)))
        out = data[:, :, y[:, None], x]
    elif method == "linear":
        out = _linear(data, linear_table(height, rows, mode), linear_table(width, columns, mode))
    elif method == "cubic":
        if int(attrs.cubic_exclude):
            raise UnsupportedError("the reference evaluator has no cubic resize that excludes the outside")
        alpha = float(attrs.cubic_alpha)
        out = _cubic(data, cubic_table(height, rows, mode, alpha), cubic_table(width, columns, mode, alpha))
    else:
        raise UnsupportedError(
            f"the reference evaluator found a resize by {method!r}; it takes nearest_neighbor, linear and cubic"
        )
    return relayout(out, "NCHW", attrs.layout)


def _linear(data: np.ndarray, vertical: tuple, horizontal: tuple) -> np.ndarray:
    upper, lower, fy = vertical
    left, right, fx = horizontal
    top = data[:, :, upper]
    middle = fma32(fy[:, None], data[:, :, lower] - top, top)
    start = middle[..., left]
    return fma32(fx, middle[..., right] - start, start)


def _cubic(data: np.ndarray, vertical: tuple, horizontal: tuple) -> np.ndarray:
    (rows, row_weights), (columns, column_weights) = vertical, horizontal
    narrow = _weigh([data[..., column] for column in columns], column_weights)
    return _weigh([narrow[:, :, row] for row in rows], row_weights[..., None])


def _weigh(parts: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    total = parts[0] * weights[0]
    for part, weight in zip(parts[1:], weights[1:]):
        total = fma32(part, weight, total)
    return total
