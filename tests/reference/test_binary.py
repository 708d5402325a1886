"""The operators of the passes: exact integers against a float convolution, one fused step, one table."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tvm import relax

from tvm_bnn import ops
from tvm_bnn.arithmetic import fma32
from tvm_bnn.ops import BConv2DAttrs

GRID = list(
    itertools.product(
        [(1, 1), (2, 1), (3, 2)],
        [(0, 0, 0, 0), (1, 1, 1, 1), (2, 0, 1, 3)],
        [(1, 1), (1, 2)],
        [(1, 3), (4, 8)],
        [0, 1, -1],
    )
)


@pytest.mark.parametrize(("strides", "padding", "dilation", "groups_channels", "pad_value"), GRID)
def test_bconv2d_is_the_convolution_of_signs(run_op, strides, padding, dilation, groups_channels, pad_value):
    groups, channels = groups_channels
    rng = np.random.default_rng(1)
    x, w = rng.random((2, channels, 7, 8)) < 0.5, rng.random((4, channels // groups, 3, 2)) < 0.5
    attrs = BConv2DAttrs(strides, padding, dilation, groups, pad_value)
    got = run_op(lambda a, b: ops.bconv2d(a, b, attrs), x, w)
    top, left, bottom, right = padding
    signs, weights = (torch.from_numpy(np.where(bits, 1.0, -1.0)) for bits in (x, w))
    padded = F.pad(signs, (left, right, top, bottom), value=pad_value)
    wanted = F.conv2d(padded, weights, stride=strides, dilation=dilation, groups=groups)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, wanted.numpy())


@pytest.mark.parametrize(("strides", "padding", "dilation", "groups_channels"), [row[:4] for row in GRID[::3]])
def test_conv2d_of_bytes_is_exact(run_op, strides, padding, dilation, groups_channels):
    groups, channels = groups_channels
    rng = np.random.default_rng(1)
    x = rng.integers(-127, 128, (2, channels, 7, 8)).astype(np.int8)
    w = rng.integers(-127, 128, (4, channels // groups, 3, 2)).astype(np.int8)
    how = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}
    got = run_op(lambda a, b: relax.op.nn.conv2d(a, b, **how, out_dtype="int32"), x, w)
    top, left, bottom, right = padding
    padded = F.pad(torch.from_numpy(x).long(), (left, right, top, bottom))
    wanted = F.conv2d(padded, torch.from_numpy(w).long(), stride=strides, dilation=dilation, groups=groups)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, wanted.numpy())


def test_affine_is_one_rounding_from_integers_and_floats(run_op):
    rng = np.random.default_rng(2)
    scale, shift = (rng.normal(size=(1, 3, 1, 1)).astype(np.float32) for _ in range(2))
    sums = rng.integers(-999, 999, (2, 3, 4, 5)).astype(np.int32)
    for data in (sums, rng.normal(size=sums.shape).astype(np.float32)):
        got = run_op(ops.affine, data, scale, shift)
        np.testing.assert_array_equal(got, fma32(data.astype(np.float32), scale, shift))
        assert (got != data.astype(np.float32) * scale + shift).any()


def test_border_bias_looks_up_a_filter_and_its_border_class(run_op):
    table = np.arange(2 * 3 * 2, dtype=np.float32).reshape(2, 3, 2)
    rows, columns = [0, 1, 1, 2], [1, 0, 0]
    got = run_op(lambda t: ops.border_bias(t, rows, columns), table)
    assert got.shape == (1, 2, 4, 3)
    for o, y, x in np.ndindex(2, 4, 3):
        assert got[0, o, y, x] == table[o, rows[y], columns[x]]


@pytest.mark.parametrize("keys", [1, 31, 32, 33, 100])
def test_weighted_mean_is_softmax_of_scores_times_values(run_op, keys):
    """All d + 1 integers that d signs can add up to occur, and the table is of another maximum than any row's."""
    rng = np.random.default_rng(3)
    length = 9
    scores = (length - 2 * rng.integers(0, length + 1, (2, keys, 3, 5))).astype(np.int32)
    values = rng.normal(size=(2, 4, 1, keys)).astype(np.float32)
    table = np.exp(0.5 * (length - 2 * np.arange(length + 1)) - 1).astype(np.float32)
    got = run_op(ops.weighted_mean, scores, values, table)
    probabilities = torch.softmax(torch.from_numpy(0.5 * scores.astype(np.float64)), 1)
    wanted = torch.einsum("bnhw,bdn->bdhw", probabilities, torch.from_numpy(values[:, :, 0]).double())
    np.testing.assert_allclose(got, wanted.numpy(), rtol=0, atol=1e-6)
