"""The class map of logits whose rows grow by a whole factor: vectors of pixels, one class after the other.

With a factor s, output pixel s*q + p ("phase" p) lies between the same two neighbours of pixel q for every q: q - 1 and
q, or q and q + 1. So a vector of q needs no gathering, only rows of one class:

    parallel (block of output rows):
        plane[class] of the source rows that the block lies between          4x4 blocks transposed in registers
        for each output row:
            line[class] = the row, interpolated vertically                   in the first-level cache
            for each vector of q, for each class, for each phase:
                keep the larger of what was largest and this class           in registers

The comparisons are those of floats: -0.0 equals 0.0, the first of equals counts, and the first NaN before all.
"""

# mypy: disable-error-code="valid-type"
# (TVMScript writes shapes where Python expects types)

import math
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script import tirx as T

from tvm_bnn.lower.layout import padded_channels, round_up
from tvm_bnn.lower.scalar import is_larger

#: Linear coordinates of an axis: upper neighbour, lower neighbour and the weight of the lower one.
Coordinates = tuple[np.ndarray, np.ndarray, np.ndarray]

#: Output rows of a block: enough to share the transposed rows, few enough for many blocks.
_ROWS = 16
#: The largest factor: the results of a vector of q are put in order as one vector.
_LARGEST = 8
#: Phases whose results are in registers together, at most.
_TOGETHER = 4
#: Where the pixels of a line begin, so that their vectors are aligned and a pixel fits before them.
_BEGIN = 16


@dataclass(frozen=True)
class Phases:
    """A whole factor: how many phases, and how many of them (the first ones) lie between q - 1 and q."""

    count: int
    before: int


def phases_of(source: int, coordinates: Coordinates) -> Phases | None:
    """The phases of an axis of ``source`` pixels; None where it has none, too many, or no 4 pixels for a vector."""
    first, second, share = coordinates
    count, rest = divmod(len(first), source)
    if rest or not 0 < count <= _LARGEST or source < 4:
        return None
    q = np.arange(source)[:, None]
    before = int(np.sum(first.reshape(source, count)[1] == 0))
    expected = np.maximum(q - (np.arange(count) < before), 0).reshape(-1)
    regular = np.array_equal(first, expected) and np.array_equal(second, np.minimum(first + 1, source - 1))
    return Phases(count, before) if regular and not share[:before].any() else None


def upsampled_argmax(
    shape: tuple[int, ...], rows: int, phases: Phases, vertical: Coordinates, dtype: str, most_lanes: int
) -> tirx.PrimFunc:
    """The kernel: (data, upper rows, lower rows, their weights, weights by phase [s, W]) -> class map [N, rows, s*W].

    shape : [N, C, H, W] of data, which is stored as a MAP.
    vertical : coordinates of the rows; rows may have any size.
    dtype : of the class map.
    most_lanes : 32-bit lanes of a vector register.
    """
    batch, classes, height, width = shape
    lanes = max(lanes for lanes in (4, 8, 16) if lanes <= min(width, max(most_lanes, 4)))
    scale, blocks, planes = phases.count, -(-rows // _ROWS), round_up(classes, 4)
    pitch = _BEGIN + round_up(width + 1, _BEGIN)
    starts = np.arange(0, rows, _ROWS)
    most = 1 + int(np.max(vertical[1][np.minimum(starts + _ROWS, rows) - 1] - vertical[0][starts]))
    transpose, interpolate = _transpose(planes, width, lanes), _interpolate(classes, width, lanes)
    find = _find(classes, width, phases, lanes)

    @T.prim_func(s_tir=True)
    def argmax_upsample(
        data: T.Buffer((batch, height, width, padded_channels(classes)), "float32"),
        y0: T.Buffer((rows,), "int32"),
        y1: T.Buffer((rows,), "int32"),
        fy: T.Buffer((rows,), "float32"),
        fx: T.Buffer((scale, width), "float32"),
        out: T.Buffer((batch, rows, scale * width), dtype),
    ):
        T.func_attr({"tirx.noalias": True})
        for task in T.parallel(batch * blocks):
            with T.sblock("block"):
                T.reads()
                T.writes()
                plane = T.sblock_alloc_buffer((most, planes, width), "float32")
                line = T.sblock_alloc_buffer((classes, pitch), "float32")
                value = T.sblock_alloc_buffer((lanes,), "float32")
                best = T.sblock_alloc_buffer((scale * lanes,), "float32")
                found = T.sblock_alloc_buffer((scale * lanes,), "int32")
                top: T.int32 = task % blocks * _ROWS
                for y in range(most):
                    transpose(data, plane, task // blocks, T.min(y0[top] + y, height - 1), y)
                for y in range(T.min(_ROWS, rows - top)):
                    interpolate(plane, line, y0[top + y] - y0[top], y1[top + y] - y0[top], fy[top + y])
                    for vector in range(_vectors(width, lanes)):
                        x: T.int32 = _place(vector, width, lanes)
                        find(line, fx, value, best, found, x)
                        out[task // blocks, top + y, T.ramp(x * scale, 1, scale * lanes)] = T.Cast(
                            f"{dtype}x{scale * lanes}", _interleaved(found, scale, lanes)
                        )

    return argmax_upsample


def _vectors(width: int, lanes: int) -> int:
    return -(-width // lanes)


def _place(vector, width: int, lanes: int):
    """The first pixel of a vector; the last vector ends with the row."""
    return vector * lanes if width % lanes == 0 else T.min(vector * lanes, width - lanes)


def _transpose(planes: int, width: int, lanes: int):
    """plane[to] of all classes from row y of an image."""

    @T.inline
    def transpose(data, plane, n, y, to):
        for vector, group in T.grid(_vectors(width, lanes), planes // 4):
            x: T.int32 = _place(vector, width, lanes)
            c: T.int32 = group * 4
            plane[to, c, T.ramp(x, 1, lanes)] = _plane(data, (n, y, x, c), 0, lanes)
            plane[to, c + 1, T.ramp(x, 1, lanes)] = _plane(data, (n, y, x, c), 1, lanes)
            plane[to, c + 2, T.ramp(x, 1, lanes)] = _plane(data, (n, y, x, c), 2, lanes)
            plane[to, c + 3, T.ramp(x, 1, lanes)] = _plane(data, (n, y, x, c), 3, lanes)

    return transpose


def _interpolate(classes: int, width: int, lanes: int):
    """line of all classes, between two rows of plane; a pixel before it and one behind it.

    At the left edge PyTorch stays at pixel 0, between it and pixel 1 with weight 0: that is 0 or, if one of the two is
    infinite, NaN, and so the pixel before is.
    """

    @T.inline
    def interpolate(plane, line, above, below, share):
        for c in range(classes):
            for vector in range(_vectors(width, lanes)):
                x: T.int32 = _place(vector, width, lanes)
                line[c, T.ramp(_BEGIN + x, 1, lanes)] = _between(
                    T.broadcast(share, lanes),
                    plane[above, c, T.ramp(x, 1, lanes)],
                    plane[below, c, T.ramp(x, 1, lanes)],
                )
            line[c, _BEGIN - 1] = _between(T.float32(0), line[c, _BEGIN], line[c, _BEGIN + 1])
            line[c, _BEGIN + width] = line[c, _BEGIN + width - 1]

    return interpolate


def _find(classes: int, width: int, phases: Phases, lanes: int):
    """found[p * lanes + q] = the class of phase p of pixel x + q."""
    together = max(count for count in range(1, _TOGETHER + 1) if phases.count % count == 0)

    @T.inline
    def find(line, fx, value, best, found, x):
        for phase in T.unroll(phases.count):
            best[T.ramp(phase * lanes, 1, lanes)] = T.broadcast(T.float32(-math.inf), lanes)
            found[T.ramp(phase * lanes, 1, lanes)] = T.broadcast(0, lanes)
        for part in T.unroll(phases.count // together):
            for c in range(classes):
                for k in T.unroll(together):
                    p: T.int32 = part * together + k
                    left: T.int32 = _BEGIN + x - T.if_then_else(p < phases.before, 1, 0)
                    value[T.ramp(0, 1, lanes)] = _between(
                        fx[p, T.ramp(x, 1, lanes)], line[c, T.ramp(left, 1, lanes)], line[c, T.ramp(left + 1, 1, lanes)]
                    )
                    found[T.ramp(p * lanes, 1, lanes)] = T.Select(
                        is_larger(value[T.ramp(0, 1, lanes)], best[T.ramp(p * lanes, 1, lanes)]),
                        T.broadcast(c, lanes),
                        found[T.ramp(p * lanes, 1, lanes)],
                    )
                    best[T.ramp(p * lanes, 1, lanes)] = T.Select(
                        is_larger(value[T.ramp(0, 1, lanes)], best[T.ramp(p * lanes, 1, lanes)]),
                        value[T.ramp(0, 1, lanes)],
                        best[T.ramp(p * lanes, 1, lanes)],
                    )

    return find


def _interleaved(found, scale: int, lanes: int):
    """Lane q of phase p at s*q + p."""
    phases = [found[T.ramp(p * lanes, 1, lanes)] for p in range(scale)]
    return tirx.Shuffle(phases, [p * lanes + q for q in range(lanes) for p in range(scale)])


def _blockwise(a, b, lanes: int, picks: tuple[int, ...]):
    """In each block of 4 lanes: those of a (0 to 3) and of b (4 to 7) that are picked."""
    return tirx.Shuffle(
        [a, b], [pick % 4 + pick // 4 * lanes + block for block in range(0, lanes, 4) for pick in picks]
    )


def _plane(data, first: tuple, channel: int, lanes: int):
    """One of 4 channels from ``first`` (n, y, x, c) on, of a vector of pixels: their 4x4 blocks, transposed."""
    n, y, x, c = first
    rows = []
    for start in range(4):
        parts = [data[n, y, x + pixel, T.ramp(c, 1, 4)] for pixel in range(start, lanes, 4)]
        rows.append(tirx.Shuffle(parts, list(range(lanes))))
    half = (0, 4, 1, 5) if channel < 2 else (2, 6, 3, 7)
    low, high = (_blockwise(rows[i], rows[i + 1], lanes, half) for i in (0, 2))
    return _blockwise(low, high, lanes, (2, 3, 6, 7) if channel % 2 else (0, 1, 4, 5))


def _between(share, first, second):
    """Linear interpolation, one fused step."""
    return T.call_llvm_pure_intrin("llvm.fma", share, second - first, first, dtype=str(first.ty.dtype))
