"""Sums of products: the defined order to the last bit, and PyTorch's values over a grid of shapes."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from tvm import relax

from tvm_bnn.arithmetic import fma32
from tvm_bnn.errors import UnsupportedError
from tvm_bnn.reference.fused_sum import BLOCK


def floats(seed: int, *shape: int) -> np.ndarray:
    """Values of mixed magnitude, so that another order of adding gives other bits."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) * 2.0 ** rng.integers(-6, 6, shape)).astype(np.float32)


def slow_conv2d(x, w, strides, padding, dilation, groups) -> np.ndarray:
    """The definition, one scalar step at a time."""
    top, left, bottom, right = padding
    x = np.pad(x, [(0, 0), (0, 0), (top, bottom), (left, right)])
    filters, per_group, kh, kw = w.shape
    rows = (x.shape[2] - dilation[0] * (kh - 1) - 1) // strides[0] + 1
    columns = (x.shape[3] - dilation[1] * (kw - 1) - 1) // strides[1] + 1
    out = np.zeros((x.shape[0], filters, rows, columns), np.float32)
    for n, o, y, z in np.ndindex(*out.shape):
        first = o // (filters // groups) * per_group
        acc: np.ndarray | np.float32 = np.float32(0)
        for ky, kx, c in np.ndindex(kh, kw, per_group):
            value = x[n, first + c, y * strides[0] + ky * dilation[0], z * strides[1] + kx * dilation[1]]
            acc = fma32(value, w[o, c, ky, kx], acc)
        out[n, o, y, z] = acc
    return out


def slow_conv2d_transpose(x, w, strides, padding, output_padding, dilation, groups) -> np.ndarray:
    """The definition: each output gathers the taps that exist."""
    channels, per_group, kh, kw = w.shape
    sizes = [
        (n - 1) * s + d * (k - 1) + 1 - padding[i] - padding[i + 2] + output_padding[i]
        for i, (n, s, d, k) in enumerate(zip(x.shape[2:], strides, dilation, (kh, kw)))
    ]
    out = np.zeros((x.shape[0], groups * per_group, *sizes), np.float32)
    for n, o, y, z in np.ndindex(*out.shape):
        acc: np.ndarray | np.float32 = np.float32(0)
        first = o // per_group * (channels // groups)
        for ky, kx, c in np.ndindex(kh, kw, channels // groups):
            row, row_rest = divmod(y + padding[0] - ky * dilation[0], strides[0])
            column, column_rest = divmod(z + padding[1] - kx * dilation[1], strides[1])
            if row_rest or column_rest or not (0 <= row < x.shape[2] and 0 <= column < x.shape[3]):
                continue
            acc = fma32(x[n, first + c, row, column], w[first + c, o % per_group, ky, kx], acc)
        out[n, o, y, z] = acc
    return out


@pytest.mark.parametrize(
    ("strides", "padding", "dilation", "groups"),
    [
        ((1, 1), (0, 0, 0, 0), (1, 1), 1),
        ((2, 1), (1, 2, 0, 1), (1, 2), 2),
        ((1, 3), (2, 0, 2, 1), (2, 1), 4),
    ],
)
def test_conv2d_adds_in_the_defined_order(run_op, strides, padding, dilation, groups):
    x, w = floats(0, 2, 4, 7, 6), floats(1, 8, 4 // groups, 3, 2)
    got = run_op(
        lambda a, b: relax.op.nn.conv2d(
            a, b, strides=strides, padding=padding, dilation=dilation, groups=groups
        ),
        x,
        w,
    )
    np.testing.assert_array_equal(got, slow_conv2d(x, w, strides, padding, dilation, groups))


@pytest.mark.parametrize(
    ("strides", "padding", "output_padding", "dilation", "groups"),
    [
        ((1, 1), (0, 0, 0, 0), (0, 0), (1, 1), 1),
        ((2, 2), (1, 1, 1, 1), (1, 0), (1, 1), 2),
        ((3, 2), (0, 2, 1, 2), (0, 1), (2, 1), 1),
        ((4, 4), (0, 0, 0, 0), (3, 3), (1, 1), 1),
    ],
)
def test_conv2d_transpose_adds_in_the_defined_order(run_op, strides, padding, output_padding, dilation, groups):
    x, w = floats(2, 2, 4, 4, 3), floats(3, 4, 3, 3, 2)
    got = run_op(
        lambda a, b: relax.op.nn.conv2d_transpose(
            a, b, strides=strides, padding=padding, output_padding=output_padding, dilation=dilation, groups=groups
        ),
        x,
        w,
    )
    np.testing.assert_array_equal(got, slow_conv2d_transpose(x, w, strides, padding, output_padding, dilation, groups))


def test_matmul_adds_in_the_defined_order(run_op):
    a, b = floats(4, 3, 1, 4, 9), floats(5, 2, 9, 5)
    got = run_op(relax.op.matmul, a, b)
    for i, j, row, column in np.ndindex(3, 2, 4, 5):
        acc = np.float32(0)
        for k in range(9):
            acc = fma32(a[i, 0, row, k], b[j, k, column], acc)
        assert got[i, j, row, column] == acc


def test_sums_that_fall_below_the_normal_range_round_once(run_op):
    rng = np.random.default_rng(6)
    x = np.ldexp(rng.uniform(-2, 2, (1, 3, 5, 5)), -70).astype(np.float32)
    w = np.ldexp(rng.uniform(-2, 2, (2, 3, 3, 3)), -74).astype(np.float32)
    got = run_op(relax.op.nn.conv2d, x, w)
    assert (np.abs(got[got != 0]) < 2.0**-126).all() and (got != 0).any()
    np.testing.assert_array_equal(got, slow_conv2d(x, w, (1, 1), (0, 0, 0, 0), (1, 1), 1))


def test_blocks_join_without_a_seam(run_op):
    rows = BLOCK // 512 + 3
    x, w = floats(7, 1, 3, rows, 512), floats(8, 2, 3, 1, 1)
    whole = run_op(relax.op.nn.conv2d, x, w)
    top, bottom = (run_op(relax.op.nn.conv2d, np.ascontiguousarray(part), w) for part in (x[:, :, :5], x[:, :, 5:]))
    np.testing.assert_array_equal(whole, np.concatenate([top, bottom], axis=2))


def test_many_groups_are_cut_between_blocks(run_op):
    x, w = floats(9, 1, 40, 24, 24), floats(10, 40, 1, 3, 3)
    depthwise = run_op(lambda a, b: relax.op.nn.conv2d(a, b, padding=1, groups=40), x, w)
    for channel in (0, 28, 39):
        part = slice(channel, channel + 1)
        alone = run_op(lambda a, b: relax.op.nn.conv2d(a, b, padding=1), x[:, part], w[part])
        np.testing.assert_array_equal(depthwise[:, part], alone)


def test_layouts_other_than_nchw(run_op):
    x, w = floats(11, 1, 4, 5, 6), floats(12, 8, 4, 3, 3)
    wanted = run_op(relax.op.nn.conv2d, x, w)
    got = run_op(
        lambda a, b: relax.op.nn.conv2d(a, b, data_layout="NHWC", kernel_layout="HWIO"),
        x.transpose(0, 2, 3, 1),
        w.transpose(2, 3, 1, 0),
    )
    np.testing.assert_array_equal(got.transpose(0, 3, 1, 2), wanted)


def test_refuses_operands_without_a_defined_order(run_op):
    with pytest.raises(UnsupportedError, match=r"found a matrix product of float16 and float16; it takes float32"):
        run_op(relax.op.matmul, np.ones((2, 2), np.float16), np.ones((2, 2), np.float16))


def test_integer_products_are_exact(run_op):
    a = np.random.default_rng(0).integers(-(2**20), 2**20, (3, 4)).astype(np.int64)
    np.testing.assert_array_equal(run_op(relax.op.matmul, a, a.T.copy()), a @ a.T)


def all_of(*parts_and_input):
    """Every layer's result for one input: one export checks them all."""
    *parts, x = parts_and_input
    return tuple(part(x) for part in parts)


@pytest.mark.parametrize("size", [(7, 9), (8, 5)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, (1, 3)])
def test_convolutions_agree_with_torch(check_against_torch, size, kernel, stride):
    torch.manual_seed(0)
    rest = list(itertools.product([0, 1], [1, 2], [1, 2, 6]))
    plain = [nn.Conv2d(6, 12, kernel, stride, padding, dilation, groups) for padding, dilation, groups in rest]
    transposed = [
        nn.ConvTranspose2d(6, 12, kernel, stride, padding, stride - 1, groups, dilation=dilation)
        for padding, dilation, groups in rest
    ]
    check_against_torch(all_of, torch.randn(2, 6, *size), parts=(*plain, *transposed))


def test_conv1d_and_linear_and_bmm_agree_with_torch(check_against_torch):
    torch.manual_seed(0)
    check_against_torch(nn.Conv1d(4, 6, 3, padding=2, stride=2, dilation=2, groups=2), torch.randn(2, 4, 11))
    check_against_torch(nn.Linear(9, 5), torch.randn(2, 3, 9))
    check_against_torch(torch.bmm, torch.randn(3, 4, 5), torch.randn(3, 5, 6))
    check_against_torch(torch.mv, torch.randn(4, 5), torch.randn(5))
