"""The defined float32 arithmetic: exact rounding, error bounds, and the same bits from generated code."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
import tvm
from tvm import te, tirx
from tvm.s_tir import Schedule

from tvm_bnn import arithmetic

FUNCTIONS = {
    "exp": np.exp,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "erf": lambda x: torch.erf(torch.from_numpy(x)).numpy(),
    "log": np.log,
}


def rounded(exact: Fraction) -> np.float32:
    """The float32 nearest to a rational number, ties to even: by integer division alone."""
    if exact == 0:
        return np.float32(0)
    magnitude = abs(exact)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    exponent -= magnitude < Fraction(2) ** exponent
    unit = Fraction(2) ** (max(exponent, -126) - 23)
    steps = round(magnitude / unit)  # Python rounds a Fraction's half to even
    value = steps * unit
    if value >= Fraction(2) ** 128:
        return np.float32(math.copysign(math.inf, exact))
    return np.float32(math.copysign(float(value), exact))


def random_floats(rng: np.random.Generator, count: int) -> np.ndarray:
    """Finite float32 values of every exponent, denormals among them."""
    values = rng.integers(0, 2**32, 2 * count, dtype=np.uint32).view(np.float32)
    return values[np.isfinite(values)][:count]


def long_products(rng: np.random.Generator, count: int) -> tuple[np.ndarray, ...]:
    """a * b just beside half a unit of c: (1 + 2**-i)(1 - 2**-j) is near 1 and needs up to 47 bits."""
    a = 1 + np.ldexp(1.0, -rng.integers(8, 24, count))
    b = (1 - np.ldexp(1.0, -rng.integers(8, 24, count))) * rng.choice([-1.0, 1.0], count) * 2.0**-24
    c = 1 + rng.integers(0, 2**23, count) / 2**23
    shift = rng.choice([-140, -126, -103, 0, 90], count)
    return tuple(v.astype(np.float32) for v in (np.ldexp(a, shift), b, np.ldexp(c, shift)))


def denormal_results(rng: np.random.Generator, count: int) -> tuple[np.ndarray, ...]:
    """Denormal addends, and products just beside half of the smallest denormal."""
    a = np.ldexp(1 + np.ldexp(1.0, -rng.integers(8, 24, count)), -63)
    b = np.ldexp(1 - np.ldexp(1.0, -rng.integers(8, 24, count)), -87) * rng.choice([-1.0, 1.0], count)
    c = np.ldexp(rng.integers(-(2**22), 2**22, count).astype(np.float64), -149)
    return tuple(v.astype(np.float32) for v in (a, b, c))


@pytest.mark.parametrize("family", [long_products, denormal_results, None])
def test_fma32_rounds_the_exact_sum_once(family):
    rng = np.random.default_rng(7)
    count = 4000
    a, b, c = family(rng, count) if family else (random_floats(rng, count) for _ in range(3))
    got = arithmetic.fma32(a, b, c)
    exact = (Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z)) for x, y, z in zip(a, b, c))
    wanted = np.array([rounded(value) for value in exact])
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("family", [long_products, denormal_results])
def test_the_adversarial_cases_need_the_correction(family):
    a, b, c = family(np.random.default_rng(7), 4000)
    twice_rounded = (a.astype(np.float64) * b + c).astype(np.float32)
    assert (twice_rounded != arithmetic.fma32(a, b, c)).any()


def test_fma32_of_infinities_nan_and_zeros():
    inf, nan = np.inf, np.nan
    cases = [
        (inf, 1, 1, inf),
        (inf, -1, 1, -inf),
        (inf, 0, 1, nan),
        (inf, 1, -inf, nan),
        (1, 1, -inf, -inf),
        (nan, 1, 1, nan),
        (1, 1, nan, nan),
        (3e38, 2, 0, inf),
        (3e38, 2, -3e38, 3e38),
        (2, 0.5, -1, 0),
    ]
    a, b, c, wanted = np.float32(cases).T
    np.testing.assert_array_equal(arithmetic.fma32(a, b, c), wanted)
    signs = np.signbit(arithmetic.fma32(np.array([-0.0, 0.0], np.float32), np.float32(1), np.float32(-0.0)))
    assert signs.tolist() == [True, False]


def test_fma32_broadcasts_and_works_in_blocks():
    rng = np.random.default_rng(0)
    a, b, c = (rng.normal(size=s).astype(np.float32) for s in [(3, 1, 9000), (2, 1), ()])
    got = arithmetic.fma32(a, b, c)
    assert got.shape == (3, 2, 9000) and got.dtype == np.float32
    for i in range(3):
        for j in range(2):
            alone = arithmetic.fma32(a[i, 0], np.repeat(b[j], 9000), np.repeat(c, 9000))
            np.testing.assert_array_equal(got[i, j], alone)


def test_never_inexact_tiny_is_exact_at_its_bound():
    values = np.array([0, 2.0**-52, 1], np.float32)
    assert arithmetic.never_inexact_tiny(values, np.array([-(2.0**-51), 2], np.float32))
    assert not arithmetic.never_inexact_tiny(values, np.array([2.0**-52, 2], np.float32))
    assert arithmetic.never_inexact_tiny(np.array([0, np.inf], np.float32), np.array([np.nan], np.float32))


@pytest.mark.parametrize(("exponent", "exact"), [(-51, True), (-54, False)])
def test_what_cancellation_leaves_below_the_normal_range(exponent, exact):
    rng = np.random.default_rng(11)
    a, b = (np.ldexp(1 + rng.integers(0, 2**23, 4000) / 2**23, e).astype(np.float32) for e in (-52, exponent))
    assert arithmetic.never_inexact_tiny(a, b) == exact
    product = a.astype(np.float64) * b
    rest = product - product.astype(np.float32)
    assert 0 < np.abs(rest).max() < 2.0**-126
    assert (rest.astype(np.float32) == rest).all() == exact


@pytest.mark.parametrize(
    ("name", "low", "high", "bound"),
    [
        ("exp", -87.33, 88.72, 1),
        ("sigmoid", -87, 100, 2.5),
        ("tanh", -12, 12, 2),
        ("tanh", -0.7, 0.7, 2),
        ("erf", -5, 5, 2),
        ("erf", -1.1, 1.1, 2),
        ("log", 1e-3, 3, 1),
        ("log", 0, 3e38, 1),
    ],
)
def test_error_in_units_of_the_last_place(name, low, high, bound):
    x = np.random.default_rng(3).uniform(low, high, 200_000).astype(np.float32)
    got = getattr(arithmetic, name)(x).astype(np.float64)
    wanted = FUNCTIONS[name](x.astype(np.float64))
    unit = np.spacing(np.abs(wanted).astype(np.float32)).astype(np.float64)
    assert (np.abs(got - wanted) / unit).max() <= bound


@pytest.mark.parametrize(
    ("name", "at", "wanted"),
    [
        ("exp", [-np.inf, -88, -87.4, 0, -0.0, 88.8, np.inf, np.nan], [0, 0, 0, 1, 1, np.inf, np.inf, np.nan]),
        ("sigmoid", [-np.inf, 0, 30, np.inf, np.nan], [0, 0.5, 1, 1, np.nan]),
        ("tanh", [-np.inf, -20, 0, 1e-40, 20, np.inf, np.nan], [-1, -1, 0, 1e-40, 1, 1, np.nan]),
        ("erf", [-np.inf, -5, 0, 5, np.inf, np.nan], [-1, -1, 0, 1, 1, np.nan]),
        ("log", [0, -0.0, 1, np.inf, -1, -np.inf, np.nan], [-np.inf, -np.inf, 0, np.inf, np.nan, np.nan, np.nan]),
    ],
)
def test_limits(name, at, wanted):
    np.testing.assert_array_equal(getattr(arithmetic, name)(np.float32(at)), np.float32(wanted))


def test_exp_is_never_denormal_and_changes_over_at_the_ends_of_its_range():
    for edge in (arithmetic._EXP_LOWEST, arithmetic._EXP_HIGHEST):
        inside, outside = np.float32(edge), np.nextafter(np.float32(edge), np.float32(np.copysign(np.inf, edge)))
        assert 2.0**-126 <= arithmetic.exp(inside) < np.inf
        assert arithmetic.exp(outside) in (0, np.inf)


@pytest.mark.parametrize("name", ["tanh", "erf"])
def test_odd_functions_keep_the_sign_of_zero(name):
    assert np.signbit(getattr(arithmetic, name)(np.array([-0.0, 0.0], np.float32))).tolist() == [True, False]


def vectorised(inputs: int, function, count: int, lanes: int = 16) -> tvm.IRModule:
    """A module that computes function element by element over ``count`` values in vectors."""
    tensors = [te.placeholder((count,), "float32", name=f"input{i}") for i in range(inputs)]
    result = te.compute((count,), lambda i: function(*(tensor[i] for tensor in tensors)), name="result")
    schedule = Schedule(tvm.IRModule({"main": te.create_prim_func([*tensors, result])}))
    (loop,) = schedule.get_loops(schedule.get_sblock("result"))
    _, inner = schedule.split(loop, [None, lanes])
    schedule.vectorize(inner)
    return schedule.mod


def compiled(module: tvm.IRModule, mcpu: str | None, *arrays: np.ndarray) -> np.ndarray:
    """The module's result on this machine, for the named processor or the one that runs here."""
    here = tvm.target.codegen.llvm_get_system_cpu()
    offered = tvm.target.codegen.llvm_get_cpu_features(tvm.target.Target({"kind": "llvm", "mcpu": here}))
    if mcpu == "x86-64-v3" and not {"avx2", "fma", "bmi2"} <= set(offered):
        pytest.skip(f"this processor, {here}, has no AVX2 and FMA")
    mcpu = mcpu or here
    library = tvm.compile(module, target=tvm.target.Target({"kind": "llvm", "mcpu": mcpu}))
    out = tvm.runtime.tensor(np.zeros_like(arrays[0]))
    library["main"](*(tvm.runtime.tensor(array) for array in arrays), out)
    return out.numpy()


def assert_same_bits(got: np.ndarray, wanted: np.ndarray) -> None:
    """Equal bit patterns; any NaN equals any other."""
    different = (got.view(np.uint32) != wanted.view(np.uint32)) & ~(np.isnan(got) & np.isnan(wanted))
    assert not different.any(), f"{different.sum()} differ, first at {np.flatnonzero(different)[0]}"


@pytest.mark.parametrize("mcpu", [None, "x86-64-v3"])
@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_generated_code_gives_the_same_bits(name, mcpu):
    rng = np.random.default_rng(5)
    count = 1 << 20
    any_bits = rng.integers(0, 2**32, count // 2, dtype=np.uint32).view(np.float32)
    x = np.concatenate([rng.uniform(-100, 100, count // 4), rng.normal(size=count // 4)]).astype(np.float32)
    x = np.concatenate([x, any_bits])
    function = getattr(arithmetic, name)
    assert_same_bits(compiled(vectorised(1, function, count), mcpu, x), function(x))


@pytest.mark.parametrize("mcpu", [None, "x86-64-v3"])
def test_fma_and_mul_expressions_round_as_they_say(mcpu):
    rng = np.random.default_rng(9)
    a, b, c = (rng.normal(size=4096).astype(np.float32) for _ in range(3))
    once = compiled(vectorised(3, arithmetic.fma, 4096), mcpu, a, b, c)
    twice = compiled(vectorised(3, lambda x, y, z: arithmetic.mul(x, y) + z, 4096), mcpu, a, b, c)
    assert_same_bits(once, arithmetic.fma32(a, b, c))
    assert_same_bits(twice, a * b + c)
    assert (once != twice).any()


def test_bfloat16_is_pytorch_s():
    rng = np.random.default_rng(3)
    x = np.concatenate([random_floats(rng, 1 << 16), np.array([0, -0.0, np.inf, -np.inf, 3.3961775e38], np.float32)])
    halves = rng.integers(0, 1 << 16, 1 << 12, dtype=np.uint32) << 16
    x = np.concatenate([x, (halves + 0x8000).view(np.float32)])  # halfway between two of them
    x = x[~np.isnan(x)]
    wanted = torch.from_numpy(x).bfloat16().float().numpy()
    assert_same_bits(arithmetic.bfloat16(x), wanted)
    numbers_that_are_none = np.array([0x7FFFFFFF, 0xFFC00000, 0x7F800001], np.uint32).view(np.float32)
    assert np.isnan(arithmetic.bfloat16(numbers_that_are_none)).all()


def test_quantize_rounds_half_to_even_and_limits():
    values = [0.5, 1.5, -0.5, -1.5, 2.5, 126.5, 127.4, 200, -200, np.inf, -np.inf, np.nan, 1e-40, -0.0]
    x = np.array(values, np.float32)
    wanted = [0, 2, 0, -2, 2, 126, 127, 127, -127, 127, -127, -127, 0, 0]
    got = arithmetic.quantize(x, np.float32(1))
    assert got.dtype == np.int8 and got.tolist() == wanted
    assert arithmetic.quantize(x / 4, np.float32(4)).tolist() == wanted


def test_tfloat32_has_eleven_significant_bits():
    rng = np.random.default_rng(4)
    kept = rng.integers(0, 1 << 19, 1 << 12, dtype=np.uint32) << 13
    x = np.concatenate([random_floats(rng, 1 << 16), (kept + 0x1000).view(np.float32)])  # and halfway between two
    x = x[np.isfinite(x) & (np.abs(x) < 3e38) & (np.abs(x) > 1e-30)]
    fraction, exponent = np.frexp(x.astype(np.float64))
    wanted = np.ldexp(np.rint(fraction * 2.0**11), exponent - 11)  # to even
    np.testing.assert_array_equal(arithmetic.tfloat32(x), wanted)
    assert not (arithmetic.tfloat32(x).view(np.uint32) & 0x1FFF).any()
    odd = np.array([np.inf, -np.inf, 3.4028235e38, -0.0, 1e-45], np.float32)
    assert_same_bits(arithmetic.tfloat32(odd), np.array([np.inf, -np.inf, np.inf, -0.0, 0], np.float32))
    assert np.isnan(arithmetic.tfloat32(np.array([0x7FFFFFFF, 0x7F800001], np.uint32).view(np.float32))).all()


@pytest.mark.parametrize("mcpu", [None, "x86-64-v3"])
@pytest.mark.parametrize("name", ["bfloat16", "tfloat32", "quantize"])
def test_generated_code_rounds_alike(name, mcpu):
    rng = np.random.default_rng(7)
    x = np.concatenate([rng.normal(size=1 << 15) * 100, np.arange(-256, 256) / 2]).astype(np.float32)
    x = np.concatenate([x, rng.integers(0, 2**32, 1 << 15, dtype=np.uint32).view(np.float32)])
    function = {
        "bfloat16": arithmetic.bfloat16,
        "tfloat32": arithmetic.tfloat32,
        # floats go in and out of the compiled function
        "quantize": lambda v: arithmetic.quantize(v, arithmetic._f32_like(1.5, v)).astype("float32"),
    }[name]
    assert_same_bits(compiled(vectorised(1, function, len(x)), mcpu, x), function(x))


def test_expressions_take_numbers_and_keep_their_dtype():
    x = tirx.Var("x", "float64")
    assert str(arithmetic.fma(x, 2, 1).ty.dtype) == "float64"
    assert str(arithmetic.mul(0.5, x).ty.dtype) == "float64"
    assert arithmetic.is_expr(x) and not arithmetic.is_expr(np.float32(1)) and not arithmetic.is_expr(2.0)
