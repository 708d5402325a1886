"""Normalisations and softmax: the fused step, the order of the sums, and PyTorch's results."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from tvm import relax

from tvm_bnn.arithmetic import exp, fma32


def random_norm(layer: nn.Module) -> nn.Module:
    """The layer with parameters and statistics that are not those of a fresh one."""
    torch.manual_seed(1)
    for tensor in (*layer.parameters(), *layer.buffers()):
        if tensor.dtype.is_floating_point:
            tensor.data.uniform_(0.5, 2)
    return layer


def test_batch_norm_is_one_fused_step(run_op):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    gamma, beta, mean = (rng.normal(size=3).astype(np.float32) for _ in range(3))
    variance = rng.uniform(0.1, 2, 3).astype(np.float32)
    got = run_op(
        lambda *a: relax.TupleGetItem(relax.op.nn.batch_norm(*a, axis=1, epsilon=1e-3, training=False), 0),
        *(x, gamma, beta, mean, variance),
    )
    scale = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + 1e-3)
    shift = (beta - mean * scale).astype(np.float32)
    np.testing.assert_array_equal(got, fma32(x, np.float32(scale)[:, None, None], shift[:, None, None]))


def test_softmax_adds_in_order_along_its_axis(run_op):
    x = np.random.default_rng(1).normal(size=(2, 7, 3)).astype(np.float32)
    got = run_op(lambda a: relax.op.nn.softmax(a, 1), x)
    for i, k in np.ndindex(2, 3):
        powers = exp(x[i, :, k] - x[i, :, k].max())
        total = np.float32(0)
        for power in powers:
            total = total + power
        np.testing.assert_array_equal(got[i, :, k], powers / total)


@pytest.mark.parametrize(
    "model",
    [
        nn.BatchNorm2d(4),
        nn.BatchNorm2d(4, affine=False),
        nn.LayerNorm(6),
        nn.LayerNorm((5, 6)),
        nn.GroupNorm(2, 4),
        nn.RMSNorm(6),
    ],
    ids=repr,
)
def test_layers_agree_with_torch(check_against_torch, model):
    torch.manual_seed(0)
    check_against_torch(random_norm(model), torch.randn(2, 4, 5, 6))


def test_instance_norm_agrees_with_torch(check_against_torch):
    torch.manual_seed(0)
    check_against_torch(random_norm(nn.InstanceNorm2d(4, affine=True)), torch.randn(2, 4, 5, 6))


@pytest.mark.parametrize("axis", [1, -1])
def test_softmax_agrees_with_torch(check_against_torch, axis):
    torch.manual_seed(0)
    x = torch.randn(2, 4, 5, 6) * 20
    check_against_torch(lambda a: a.softmax(axis), x)
    check_against_torch(lambda a: a.log_softmax(axis), x)


def test_attention_agrees_with_torch(check_against_torch):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 10, 8) for _ in range(3))
    check_against_torch(F.scaled_dot_product_attention, q, k, v)
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    check_against_torch(lambda layer, x: layer(x, x, x)[0], torch.randn(2, 5, 8), parts=(attention,))


def test_dropout_is_the_identity(run_op):
    x = np.array([1, 2, 3], np.float32)
    got, mask = run_op(lambda a: relax.op.nn.dropout(a, 0.5), x)
    assert got.tolist() == [1, 2, 3] and mask.tolist() == [1, 1, 1]


def test_rms_norm_operator(run_op):
    rng = np.random.default_rng(0)
    x, weight = (rng.normal(size=shape).astype(np.float32) for shape in [(3, 6), (6,)])
    got = run_op(lambda a, b: relax.op.nn.rms_norm(a, b, axes=[-1], epsilon=1e-5), x, weight)
    wanted = F.rms_norm(torch.from_numpy(x), (6,), torch.from_numpy(weight), 1e-5).numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
