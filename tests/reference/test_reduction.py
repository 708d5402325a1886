"""Reductions: order of adding, ties, and PyTorch's results."""

import numpy as np
import pytest
import torch
from tvm import relax


def test_sum_adds_along_the_last_axis_first(run_op):
    x = np.random.default_rng(0).normal(size=(3, 5, 7)).astype(np.float32)
    got = run_op(lambda a: relax.op.sum(a, (0, 2)), x)
    for j in range(5):
        acc = np.float32(0)
        for i in range(3):
            lane = np.float32(0)
            for value in x[i, j]:
                lane = lane + value
            acc = acc + lane
        assert got[j] == acc


def test_variance_is_the_mean_of_rounded_squares(run_op):
    x = np.random.default_rng(1).normal(size=(4, 9)).astype(np.float32)
    mean = run_op(lambda a: relax.op.mean(a, 1, True), x)
    squares = (x - mean) * (x - mean)
    wanted = run_op(lambda a: relax.op.mean(a, 1), squares)
    np.testing.assert_array_equal(run_op(lambda a: relax.op.variance(a, 1), x), wanted)


def test_argmax_and_argmin_take_the_first_of_equals(run_op):
    x = np.array([[1, 3, 3], [2, 2, 2], [0, -1, -1]], np.float32)
    got = run_op(lambda a: relax.op.argmax(a, 1), x)
    assert got.dtype == np.int64 and got.tolist() == [1, 0, 0]
    assert run_op(lambda a: relax.op.argmin(a, 1, keepdims=True), x).tolist() == [[0], [0], [1]]
    assert run_op(lambda a: relax.op.argmax(a), x).tolist() == 1


def test_the_first_nan_goes_before_all(run_op):
    x = np.array([[1, np.nan, 3], [np.nan, 9, np.nan], [1, 2, np.nan]], np.float32)
    assert run_op(lambda a: relax.op.argmax(a, 1), x).tolist() == [1, 0, 2]
    assert run_op(lambda a: relax.op.argmin(a, 1), x).tolist() == [1, 0, 2]


def test_products_multiply_along_the_last_axis_first(run_op):
    x = np.random.default_rng(3).normal(size=(2, 3)).astype(np.float32)
    rows = [(a * b) * c for a, b, c in x]
    assert run_op(lambda a: relax.op.prod(a, (0, 1)), x) == rows[0] * rows[1]


def test_topk_is_stable_in_both_directions(run_op):
    x = np.array([[2, 5, 5, 1]], np.float32)
    for largest, wanted in ((True, [1, 2, 0]), (False, [3, 0, 1])):
        values, indices = run_op(lambda a, most=largest: relax.op.topk(a, 3, 1, largest=most, dtype="int64"), x)
        assert indices.tolist() == [wanted] and values.tolist() == [x[0, wanted].tolist()]


FUNCTIONS = {
    "mean": lambda x: x.mean((2, 3), keepdim=True),
    "sum": lambda x: x.sum((1, 3)),
    "sum_all": lambda x: x.sum(),
    "var": lambda x: x.var((2, 3)),
    "std": lambda x: (x - x.mean((1, 2), keepdim=True)) / x.std((1, 2), keepdim=True),
    "max": lambda x: x.max(1)[0],
    "argmax": lambda x: x.argmax(1),
    "topk": lambda x: x.topk(2, 1),
    "count": lambda x: (x > 0).sum(1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_agrees_with_torch(check_against_torch, name):
    torch.manual_seed(0)
    check_against_torch(FUNCTIONS[name], torch.randn(2, 4, 5, 6))
