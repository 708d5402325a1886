"""Elementwise operators: special values, and PyTorch's results."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from tvm import relax

INF, NAN = np.inf, np.nan
SPECIAL = np.array([-INF, -1.5, -1e-40, -0.0, 0.0, 1e-40, 0.5, 2.5, INF, NAN], np.float32)


def assert_same_with_signs(got: np.ndarray, wanted) -> None:
    """Equal, NaN to NaN and zero to zero of the same sign."""
    wanted = np.asarray(wanted, got.dtype)
    np.testing.assert_array_equal(got, wanted)
    real = ~np.isnan(wanted)
    np.testing.assert_array_equal(np.signbit(got)[real], np.signbit(wanted)[real])


@pytest.mark.parametrize(
    ("op", "function"),
    [
        (relax.op.sign, torch.sign),
        (relax.op.nn.relu, torch.relu),
        (lambda x: relax.op.clip(x, 0, 1), lambda x: x.clamp(0, 1)),
        (relax.op.round, torch.round),
        (relax.op.abs, torch.abs),
        (relax.op.negative, torch.neg),
        (relax.op.sqrt, torch.sqrt),
        (lambda x: relax.op.greater_equal(x, relax.const(0.0)), lambda x: x >= 0),
        (lambda x: relax.op.not_equal(x, relax.const(0.0)), lambda x: x != 0),
    ],
)
def test_special_values_are_pytorch_s(run_op, op, function):
    wanted = function(torch.from_numpy(SPECIAL)).numpy()
    assert_same_with_signs(run_op(op, SPECIAL), wanted)


def test_maximum_and_minimum_pass_nan_and_take_the_second_of_equals(run_op):
    a = np.array([1, NAN, 2, 0.0, -0.0, INF], np.float32)
    b = np.array([2, 1, NAN, -0.0, 0.0, 1], np.float32)
    assert_same_with_signs(run_op(relax.op.maximum, a, b), [2, NAN, NAN, -0.0, 0.0, INF])
    assert_same_with_signs(run_op(relax.op.minimum, a, b), [1, NAN, NAN, -0.0, 0.0, 1])


def test_a_product_and_a_sum_round_twice(run_op):
    a, b, c = (np.random.default_rng(i).normal(size=999).astype(np.float32) for i in range(3))
    got = run_op(lambda x, y, z: relax.op.add(relax.op.multiply(x, y), z), a, b, c)
    np.testing.assert_array_equal(got, a * b + c)
    assert (run_op(relax.op.ewise_fma, a, b, c) != got).any()


def test_integer_division_truncates_and_remainders_follow_their_names(run_op):
    a, b = np.array([7, -7, 7, -7, 6], np.int64), np.array([2, 2, -2, -2, 3], np.int64)
    assert run_op(relax.op.divide, a, b).tolist() == [3, -3, -3, 3, 2]
    assert run_op(relax.op.floor_divide, a, b).tolist() == [3, -4, -4, 3, 2]
    assert run_op(relax.op.floor_mod, a, b).tolist() == [1, 1, -1, -1, 0]
    assert run_op(relax.op.mod, a, b).tolist() == [1, -1, 1, -1, 0]


@pytest.mark.parametrize(("exponent", "exact"), [(2.0, "x*x"), (3.0, "x*x*x"), (0.5, "np.sqrt(x)"), (-1.0, "1/x")])
def test_common_powers_are_products_and_roots(run_op, exponent, exact):
    x = np.random.default_rng(0).uniform(0.1, 9, 999).astype(np.float32)
    got = run_op(lambda a: relax.op.power(a, relax.const(exponent)), x)
    wanted = {"x*x": x * x, "x*x*x": (x * x) * x, "np.sqrt(x)": np.sqrt(x), "1/x": np.float32(1) / x}[exact]
    np.testing.assert_array_equal(got, wanted)


def test_other_powers_are_correctly_rounded_float64(run_op):
    x = np.random.default_rng(0).uniform(0.1, 9, 999).astype(np.float32)
    got = run_op(lambda a: relax.op.power(a, relax.const(1.5)), x)
    np.testing.assert_allclose(got, x.astype(np.float64) ** 1.5, rtol=6e-8)


def test_clip_of_integers_ignores_bounds_beyond_their_range(run_op):
    x = np.array([-128, 0, 127], np.int8)
    assert run_op(lambda a: relax.op.clip(a, -1000, 5), x).tolist() == [-128, 0, 5]


def test_casts(run_op):
    x = np.array([-1.7, -0.0, 0.4, 2.9], np.float32)
    assert run_op(lambda a: relax.op.astype(a, "int32"), x).tolist() == [-1, 0, 0, 2]
    assert run_op(lambda a: relax.op.astype(a, "bool"), x).tolist() == [True, False, True, True]


MODULES = {
    "relu6": nn.ReLU6(),
    "hardtanh": nn.Hardtanh(-0.5, 2),
    "hardswish": nn.Hardswish(),
    "hardsigmoid": nn.Hardsigmoid(),
    "leaky": nn.LeakyReLU(0.1),
    "prelu": nn.PReLU(3, init=0.3),
    "elu": nn.ELU(),
    "gelu": nn.GELU(),
    "gelu_tanh": nn.GELU("tanh"),
    "silu": nn.SiLU(),
    "mish": nn.Mish(),
    "softplus": nn.Softplus(beta=2),
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
    "logsigmoid": lambda x: torch.log(torch.sigmoid(x)),
    "erf_rsqrt": lambda x: torch.erf(x) + torch.rsqrt(x.abs() + 0.1),
    "exp_log1p": lambda x: torch.log1p(x.exp()),
    "where": lambda x: torch.where(x >= 0, 1.0, -1.0),
    "bits": lambda x: (x >= 0).float() * 2 - 1,
    "sign_plus_zero": lambda x: x.sign() + (x == 0),
    "masked_fill": lambda x: x.sign().masked_fill(x == 0, 1.0),
    "straight_through": lambda x: (torch.sign(x) - x.clamp(-1, 1)).detach() + x.clamp(-1, 1),
    "round_clamp": lambda x: torch.round(x.clamp(0, 1) * 3) / 3,
    "logic": lambda x: ((x > 0) & (x < 1)) | ~(x > -1),
    "floor_divide": lambda x: x // 0.5,
    "remainder": lambda x: x % 0.7,
    "normalize": lambda x: F.normalize(x, dim=1),
}


@pytest.mark.parametrize("name", MODULES)
def test_agrees_with_torch(check_against_torch, name):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 6) * 2
    x[0, 0, 0, :2] = 0
    check_against_torch(MODULES[name], x)


@pytest.mark.parametrize(
    ("op", "function"),
    [
        (relax.op.nn.silu, F.silu),
        (relax.op.nn.gelu, F.gelu),
        (lambda x: relax.op.nn.softplus(x, 2.0, 3.0), lambda x: F.softplus(x, 2.0, 3.0)),
        (lambda x: relax.op.nn.prelu(x, relax.const(np.array([0.1, 0.2, 0.3], np.float32)), 1), None),
    ],
)
def test_operators_that_the_importer_spells_out(run_op, op, function):
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32) * 3
    function = function or (lambda tensor: F.prelu(tensor, torch.tensor([0.1, 0.2, 0.3])))
    np.testing.assert_allclose(run_op(op, x), function(torch.from_numpy(x)).numpy(), rtol=1e-6, atol=1e-6)
