"""Cells: the predicate of every mask, on numbers at, between and around the cuts."""

import itertools

import numpy as np
import pytest
from tvm import relax

from tvm_bnn.reference import evaluate
from tvm_bnn.relay_passes.cells import (
    BoolCells,
    Cut,
    JoinedCells,
    LineCells,
    MovedCells,
    PaddedCells,
    PooledCells,
    ProductCells,
)

VALUES = np.array([-np.inf, -1.5, -1, -0.5, -0.0, 0.0, 1e-45, 0.5, 1, 2, np.inf, np.nan], np.float32)
#: Cell of each value for the cuts of ``line``.
CELLS = np.array([0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 3, 4])


def cut(value, closed):
    return Cut(np.full((1, 1), value, np.float32), closed)


def line(emit, source):
    """x < -1, -1 <= x <= 0, 0 < x < 1, x >= 1, NaN."""
    return LineCells(emit, source, [cut(-1, True), cut(0, False), cut(1, True)])


def bits_of(make, masks, *arrays):
    """What the bits of each mask are, for cells made from variables of these arrays."""
    builder = relax.BlockBuilder()
    variables = [relax.Var(f"x{i}", relax.TensorType(a.shape, str(a.dtype))) for i, a in enumerate(arrays)]
    made: dict = {}

    def emit(expr, key):
        if key not in made:
            made[key] = builder.emit(expr)
        return made[key]

    with builder.function("main", variables):
        with builder.dataflow():
            cells = make(emit, *variables)
            results = [cells.bits(mask) for mask in masks]
            out = builder.emit_output(relax.Tuple(results))
        builder.emit_func_output(out)
    return evaluate(builder.get(), list(arrays))


def all_masks(count):
    return [m for m in itertools.product((False, True), repeat=count) if any(m) and not all(m)]


def check(make, cell_of, count, *arrays):
    masks = all_masks(count)
    for mask, bits in zip(masks, bits_of(make, masks, *arrays), strict=True):
        np.testing.assert_array_equal(bits, np.array(mask)[cell_of], err_msg=str(mask))


def test_a_line():
    check(line, CELLS[None], 5, VALUES[None])


def test_cuts_a_channel():
    cuts = np.array([[-1.0, 0, 1]], np.float32)
    data = np.array([[-1.0, 0, 1], [-2, -1, 0], [np.nan, 1, 2]], np.float32)
    expected = np.where(np.isnan(data), 2, (data >= cuts).astype(int))
    check(lambda emit, x: LineCells(emit, x, [Cut(cuts, True)]), expected, 3, data)


def test_truth_values():
    check(BoolCells, np.array([[0, 1, 1]]), 2, np.array([[False, True, True]]))


def test_moved():
    def make(emit, x):
        return MovedCells(emit, line(emit, x), "key", lambda bits: relax.op.reshape(bits, (3, 4)))

    check(make, CELLS.reshape(3, 4), 5, VALUES[None])


def test_pooled():
    """Cells of the largest level that a window reaches."""

    def make(emit, x):
        inner = LineCells(emit, x, [Cut(np.full((1, 1, 1, 1), v, np.float32), True) for v in (0, 1)])
        masks = [(False, True, True, False), (False, False, True, False)]
        return PooledCells(emit, inner, "key", lambda bits: relax.op.nn.max_pool2d(bits, (1, 2), strides=(1, 2)), masks)

    data = np.array([-1, -1, -1, 0.5, 0.5, -1, 2, -1, 0.5, 2, 0, 0], np.float32).reshape(1, 1, 1, 12)
    check(make, np.array([0, 1, 1, 2, 2, 1]).reshape(1, 1, 1, 6), 3, data)


def test_joined():
    def make(emit, x, y):
        halves = LineCells(emit, y, [cut(0, True)])
        # the line's cells count as low, low, high, high, low; the other's as high, low, low
        return JoinedCells(emit, [(line(emit, x), (0, 0, 1, 1, 0)), (halves, (1, 0, 0))], 1, 2, "key")

    y = np.array([[-1, 1, np.nan]], np.float32)
    expected = np.concatenate([np.isin(CELLS, (2, 3)).astype(int), [1, 0, 0]])[None]
    check(make, expected, 2, VALUES[None], y)


@pytest.mark.parametrize("border", [1, 5])
def test_padded(border):
    def make(emit, x):
        def pad(bits, inside):
            return relax.op.nn.pad(bits, (0, 0, 1, 2), "constant", float(inside))

        return PaddedCells(emit, line(emit, x), "key", pad, border)

    expected = np.concatenate([[border], CELLS, [border, border]])[None]
    check(make, expected, max(5, border + 1), VALUES[None])


def test_pairs_that_broadcast():
    def make(emit, x, y):
        left = LineCells(emit, x, [cut(0, True)])
        right = LineCells(emit, y, [cut(0, False)])
        return ProductCells(emit, left, right, (3, 4), "key")

    x, y = np.array([[-1.0], [0], [np.nan]], np.float32), np.array([[-1.0, 0, 1, np.nan]], np.float32)
    cell_x, cell_y = np.array([[0], [1], [2]]), np.array([[0, 0, 1, 2]])
    masks = [m for m in all_masks(9) if sum(m) in (1, 2, 4, 8)][::3]
    for mask, bits in zip(masks, bits_of(make, masks, x, y), strict=True):
        np.testing.assert_array_equal(bits, np.array(mask)[cell_x * 3 + cell_y])


def test_refined_cells_tell_apart_what_both_do():
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((1, 3), "float32"))
    with builder.function("main", [x]):
        first = LineCells(lambda expr, key: builder.emit(expr), x, [cut(0, True), cut(1, True)])
        second = LineCells(lambda expr, key: builder.emit(expr), x, [cut(0, False), cut(1, True)])
        refined = first.refine(second)
        crossed = LineCells(first.emit, x, [Cut(np.array([[-1.0, 0.5, 2]], np.float32), True)])
        assert refined is not None
        cells, here, there = refined
        assert [(c.value.item(), c.closed) for c in cells.cuts] == [(0, True), (0, False), (1, True)]
        assert here == [0, 1, 1, 2, 3] and there == [0, 0, 1, 2, 3]
        assert first.refine(crossed) is None
        builder.emit_func_output(x)
