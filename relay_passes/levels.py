"""Levels: what a layer's two operands are worth, as sums of planes of signs.

Activations. Levels that are evenly spaced, ``x = middle(c) + sum over planes j of step * k[j] * f(c) * s[j]`` with
``s[j]`` in {-1, +1}, are what bit planes can add up to. With two levels there is one plane. With three, of indices 0, 1
and 2, the planes [i >= 1] and [i >= 2] count alike: ``s1 + s2`` is -2, 0 or +2; for sign(x) with its zero they are the
two conventions [x >= 0] and [x > 0]. With more, plane j is bit j of the index and counts 2**j. Levels may differ from
channel to channel in their middle, and in the sign f(c) of the step, not in its magnitude: equal counts would give
different sums.

Weights. ``w = middle(o) + step(o) / Q * sum over planes q of t[q]`` with ``t[q]`` in {-1, +1}: any two levels a filter
with one plane, and {-a, 0, a} with the two planes [w >= 0] and [w > 0].
"""

from dataclasses import dataclass

import numpy as np
from tvm import relax

from tvm_bnn.relay_passes.alphabet import Steps
from tvm_bnn.relay_passes.cells import Mask

#: Bits of an activation's index at most.
MOST_PLANES = 4


@dataclass(frozen=True)
class Planes:
    """An activation as a sum of planes.

    masks : of each plane, over the cells. weights : k of each plane.
    step : half the distance of two levels, > 0.
    middle, flip : arrays that broadcast against the tensor; flip is -1 where the step is negative.
    """

    steps: Steps
    masks: tuple[Mask, ...]
    weights: tuple[int, ...]
    step: float
    middle: np.ndarray
    flip: np.ndarray

    def bits(self) -> list[relax.Expr]:
        """The planes as bool tensors."""
        return [self.steps.cells.bits(mask) for mask in self.masks]

    def signs_of(self, value: float) -> tuple[int, ...] | None:
        """The sign of each plane for an element of this value; None where it is no level, or not of every channel."""
        for cell, level in enumerate(self.steps.levels):
            if np.all(level == np.float32(value)):
                return tuple(1 if mask[cell] else -1 for mask in self.masks)
        return None


def planes_of(steps: Steps) -> Planes | str:
    """Split a settled step function into planes; the reason where that cannot be done."""
    numbers = [level.astype(np.float64) for level in steps.levels]
    if all(np.isnan(level).all() for level in numbers):
        return "it is never a number"
    levels, index_of = _ranked(numbers)
    count = len(levels)
    if count < 2:
        return "it is constant"
    if count > 2**MOST_PLANES:
        return f"it has {count} levels; up to {2**MOST_PLANES} can be bit planes"
    distance = (levels[-1] - levels[0]) / (count - 1)
    if not np.allclose(np.abs(distance), np.abs(distance).flat[0], rtol=1e-6, atol=0) or not np.all(distance):
        return "its input channels have different distances between their levels"
    magnitude = float(np.abs(distance).flat[0])
    for number, level in enumerate(levels):
        if not np.allclose(level, levels[0] + number * distance, rtol=0, atol=1e-6 * magnitude * count):
            shown = ", ".join(f"{float(each.flat[0]):.4g}" for each in levels[:4])
            return f"its {count} levels ({shown}{' ...' if count > 4 else ''}) are not evenly spaced"
    if count == 3:
        masks = [tuple(index >= least for index in index_of) for least in (1, 2)]
        weights = [1, 1]
    else:
        bits = (count - 1).bit_length()
        masks = [tuple(bool(index >> bit & 1) for index in index_of) for bit in range(bits)]
        weights = [1 << bit for bit in range(bits)]
    # the middle of all indices that the planes can make, which are more than the levels where count is no power of 2
    middle = levels[0] + distance * (sum(weights) / 2)
    return Planes(steps, tuple(masks), tuple(weights), magnitude / 2, middle, np.sign(distance))


def _ranked(numbers: list[np.ndarray]) -> tuple[list[np.ndarray], list[int]]:
    """The different levels in ascending order of the first channel, and the index of each cell's level.

    A cell without a number, which a NaN may lead to, counts as the lowest level.
    """
    levels: list[np.ndarray] = []
    for level in numbers:
        if not np.isnan(level).any() and not any(np.array_equal(level, known) for known in levels):
            levels.append(level)
    levels.sort(key=lambda level: float(level.flat[0]))
    index_of = [next((i for i, known in enumerate(levels) if np.array_equal(level, known)), 0) for level in numbers]
    return levels, index_of


@dataclass(frozen=True)
class WeightPlanes:
    """Constant weights [O, ...] as a sum of planes of signs.

    planes : bool arrays of the weights' shape. step, middle : float64 [O]; middle is 0 where the levels are +-a.
    zeros : how many weights are exactly 0.
    """

    planes: tuple[np.ndarray, ...]
    step: np.ndarray
    middle: np.ndarray
    zeros: int = 0


def weight_planes(weight: np.ndarray) -> WeightPlanes | str:
    """Split weights into planes; the reason where a filter has too many levels."""
    flat = weight.reshape(len(weight), -1).astype(np.float64)
    if not np.isfinite(flat).all():
        return "some of its weights are not finite numbers"
    low, high = flat.min(axis=1), flat.max(axis=1)
    magnitude = np.abs(flat).max(axis=1)
    symmetric = np.all((np.abs(flat) == magnitude[:, None]) | (flat == 0), axis=1)
    two_levels = np.all((flat == low[:, None]) | (flat == high[:, None]), axis=1)
    plain = np.all(np.abs(flat) == magnitude[:, None], axis=1)
    fits = symmetric | two_levels
    if not fits.all():
        filters = int((~fits).sum())
        most = max(len(np.unique(row)) for row in flat[~fits])
        return (
            f"{filters} of its {len(flat)} filters have more than two weight levels (up to {most}), and they are not "
            "-a, 0, a"
        )
    # {0, a} and the like: two levels need one plane and a sum of the inputs, three symmetric ones two planes
    as_pair = two_levels & ~plain & ~(symmetric & _has_both_signs(flat))
    middle = np.where(as_pair, (low + high) / 2, 0.0)
    step = np.where(as_pair, (high - low) / 2, magnitude)
    shape = weight.shape
    centred = flat - middle[:, None]
    upper, lower = (centred >= 0).reshape(shape), (centred > 0).reshape(shape)
    ternary = ~as_pair & ~plain
    zeros = int((flat == 0).sum())
    if not ternary.any():
        return WeightPlanes((upper,), step, middle, zeros)
    return WeightPlanes((upper, lower), step, middle, zeros)


def _has_both_signs(flat: np.ndarray) -> np.ndarray:
    return np.any(flat > 0, axis=1) & np.any(flat < 0, axis=1)
