"""Pooling: the order of adding, which taps count, and PyTorch's values."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from tvm import relax


def test_avg_pool_adds_its_taps_in_order_and_divides_once(run_op):
    x = np.random.default_rng(0).normal(size=(1, 2, 6, 7)).astype(np.float32)
    got = run_op(lambda a: relax.op.nn.avg_pool2d(a, (3, 2), strides=(2, 3)), x)
    for c, y, z in np.ndindex(2, 2, 2):
        acc = np.float32(0)
        for ky, kx in np.ndindex(3, 2):
            acc = acc + x[0, c, y * 2 + ky, z * 3 + kx]
        assert got[0, c, y, z] == acc / np.float32(6)


def test_global_pooling_adds_rows_first(run_op):
    x = np.random.default_rng(1).normal(size=(1, 1, 9, 11)).astype(np.float32)
    acc = np.float32(0)
    for row in x[0, 0]:
        total = np.float32(0)
        for value in row:
            total = total + value
        acc = acc + total
    for build in (lambda a: relax.op.nn.adaptive_avg_pool2d(a, 1), lambda a: relax.op.mean(a, (-1, -2), True)):
        assert run_op(build, x).tolist() == [[[[acc / np.float32(99)]]]]
    transposed = np.ascontiguousarray(x.swapaxes(2, 3))
    assert run_op(lambda a: relax.op.mean(a, (-1, -2), True), transposed).tolist() != [[[[acc / np.float32(99)]]]]


def all_of(*parts_and_input):
    """Every layer's result for one input: one export checks them all."""
    *parts, x = parts_and_input
    return tuple(part(x) for part in parts)


@pytest.mark.parametrize("size", [(7, 9), (8, 6)])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("pool", [2, 3, (3, 2)])
def test_pooling_agrees_with_torch(check_against_torch, size, pool, padding):
    torch.manual_seed(0)
    rest = list(itertools.product([1, 2, 3], [False, True]))
    greatest = [nn.MaxPool2d(pool, stride, padding, ceil_mode=ceil) for stride, ceil in rest]
    averages = [
        nn.AvgPool2d(pool, stride, padding, ceil, include) for stride, ceil in rest for include in (False, True)
    ]
    x = torch.randn(2, 3, *size)
    check_against_torch(all_of, x, parts=tuple(greatest), exact=True)
    check_against_torch(all_of, x, parts=tuple(averages))


@pytest.mark.parametrize("out", [1, 2, (3, 5), (7, 4)])
def test_adaptive_average_agrees_with_torch(check_against_torch, out):
    torch.manual_seed(0)
    check_against_torch(nn.AdaptiveAvgPool2d(out), torch.randn(2, 3, 7, 10))


def test_dilated_max_pool_agrees_with_torch(check_against_torch):
    torch.manual_seed(0)
    check_against_torch(nn.MaxPool2d(3, 2, 1, dilation=2), torch.randn(1, 2, 11, 12), exact=True)


def test_max_pool_of_bits_and_of_nan(run_op):
    bits = np.random.default_rng(2).random((1, 2, 6, 6)) < 0.2
    got = run_op(lambda a: relax.op.nn.max_pool2d(a, 3, strides=3, padding=0), bits)
    np.testing.assert_array_equal(got, bits.reshape(1, 2, 2, 3, 2, 3).any(axis=(3, 5)))
    image = np.zeros((1, 1, 2, 2), np.float32)
    for y, x in np.ndindex(2, 2):
        image[...] = 1
        image[0, 0, y, x] = np.nan
        assert np.isnan(run_op(lambda a: relax.op.nn.max_pool2d(a, 2), image)).all()
