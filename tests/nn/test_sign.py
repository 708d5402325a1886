"""Sign: exact forward, chosen gradient."""

import pytest
import torch

from tvm_bnn.nn import ESTIMATORS, Sign, ThresholdSign, sign

POINTS = [-2.0, -1.0, -0.5, -0.0, 0.0, 0.25, 1.0, 1.5]

# d(sign)/dx at POINTS, written out by hand from the table in tvm_bnn/nn/sign.py
SLOPES = {
    "clip": [0, 1, 1, 1, 1, 1, 1, 0],
    "polynomial": [0, 0, 1, 2, 2, 1.5, 0, 0],
    "identity": [1] * 8,
    "tanh": [0.0706508249, 0.4199743416, 0.7864477330, 1, 1, 0.9400148489, 0.4199743416, 0.1807066389],
}


def test_every_estimator_has_a_case():
    assert set(SLOPES) == set(ESTIMATORS)


@pytest.mark.parametrize("estimator", SLOPES)
def test_forward_is_plus_one_from_zero_on(estimator: str):
    x = torch.tensor([*POINTS, float("inf"), float("-inf"), float("nan"), 1e-45, -1e-45])
    assert sign(x, estimator).tolist() == [-1, -1, -1, 1, 1, 1, 1, 1, 1, -1, -1, 1, -1]


@pytest.mark.parametrize("estimator", SLOPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradient_is_the_incoming_one_times_the_slope(estimator: str, dtype: torch.dtype):
    x = torch.tensor(POINTS, dtype=dtype, requires_grad=True)
    incoming = torch.arange(1, 9, dtype=dtype)
    out = sign(x, estimator)
    out.backward(incoming)
    assert out.dtype == dtype
    torch.testing.assert_close(x.grad, incoming * torch.tensor(SLOPES[estimator], dtype=dtype))


@pytest.mark.parametrize("make", [Sign, lambda estimator: ThresholdSign(4, estimator)])
def test_unknown_estimator_is_refused(make):
    with pytest.raises(ValueError, match="'swish'; accepted: clip, polynomial, identity, tanh"):
        make("swish")


def test_threshold_is_per_channel():
    module = ThresholdSign(3)
    with torch.no_grad():
        module.threshold.copy_(torch.tensor([-1.0, 0.0, 1.0]).reshape(3, 1, 1))
    x = torch.tensor([-1.5, -0.5, 0.5, 1.5]).expand(2, 3, 1, 4)
    expected = torch.tensor([[-1, 1, 1, 1], [-1, -1, 1, 1], [-1, -1, -1, 1]], dtype=torch.float32)
    assert torch.equal(module(x), expected.reshape(1, 3, 1, 4).expand(2, 3, 1, 4))


def test_threshold_learns_against_its_input():
    module = ThresholdSign(1, "identity")
    module(torch.zeros(1, 1, 2, 3)).sum().backward()
    assert module.threshold.grad is not None and module.threshold.grad.item() == -6
