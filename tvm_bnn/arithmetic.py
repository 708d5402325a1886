"""Defined float32 arithmetic: the same bits from numpy and from generated code.

Every function here takes either numpy arrays or TensorIR scalar expressions and builds its result from
operations that IEEE 754 fixes to the last bit: fused multiply-add, add, divide, compare and bit moves. One
definition serves both sides, so a kernel and the reference evaluator cannot drift apart.

LLVM, as TVM sets it up, contracts ``a * b + c`` to one rounding wherever the CPU has FMA. A product whose
result is added must therefore go through ``fma`` (one rounding is meant) or ``mul`` (two are meant); the
functions below never add a bare product. Any NaN equals any other.

Greatest errors met, in units in the last place: exp 0.9, sigmoid 2.3, tanh 1.4, erf 1.2, log 1.0.
"""

from typing import Any

import numpy as np
from tvm import tirx
from tvm.ir import PrimType
from tvm.te.tensor import TensorSlice

Value = Any  # np.ndarray | np.float32 | TensorIR expression; operators serve them all

# --- fused multiply-add -----------------------------------------------------------------------------------

_BLOCK = 1 << 14  # elements whose float64 temporaries stay in the second-level cache
_DROPPED = np.uint64((1 << 29) - 1)  # the bits of a float64 that float32 has no room for
_HALF = np.uint64(1 << 28)
_SMALLEST_NORMAL = 2.0**-126


def is_expr(value: Value) -> bool:
    """Whether value is a TensorIR scalar expression (rather than numpy data or a Python number)."""
    return isinstance(value, TensorSlice) or isinstance(getattr(value, "ty", None), PrimType)


def _scalar(value: Value, dtype: str = "float32") -> Value:
    """A scalar expression of an element of a te tensor, of a number, or itself."""
    if isinstance(value, TensorSlice):
        return value.asobject()
    return value if is_expr(value) else tirx.const(float(value), dtype)


def _dtype(*values: Value) -> str | None:
    """The dtype of the first scalar expression among the values, if there is one."""
    return next((str(_scalar(value).ty.dtype) for value in values if is_expr(value)), None)


def fma(a: Value, b: Value, c: Value) -> Value:
    """a * b + c with one rounding: float32 arrays (broadcast together) or scalar expressions of one dtype."""
    dtype = _dtype(a, b, c)
    if dtype is None:
        return fma32(a, b, c)
    return tirx.call_llvm_pure_intrin(dtype, "llvm.fma", *(_scalar(value, dtype) for value in (a, b, c)))


def mul(a: Value, b: Value) -> Value:
    """a * b rounded at once, also where the product is added next and LLVM would contract the two."""
    dtype = _dtype(a, b)
    if dtype is None:
        return a * b
    product = _scalar(a, dtype) * _scalar(b, dtype)
    return tirx.call_llvm_pure_intrin(dtype, "llvm.arithmetic.fence", product)


def fma32(a, b, c) -> np.ndarray:
    """float32(a * b + c), correctly rounded, for float32 arrays or scalars that broadcast together."""
    a, b, c = (np.asarray(value, np.float32) for value in (a, b, c))
    shape = np.broadcast_shapes(a.shape, b.shape, c.shape)
    out = np.empty(shape, np.float32)
    a, b, c = (np.broadcast_to(value, shape).reshape(-1) for value in (a, b, c))
    flat = out.reshape(-1)
    with np.errstate(all="ignore"):
        for start in range(0, flat.size, _BLOCK):
            part = slice(start, start + _BLOCK)
            product = a[part].astype(np.float64)
            product *= b[part]  # 24 + 24 bits: exact
            addend = c[part].astype(np.float64)
            total = product + addend
            round_once(total, product, addend, tiny=True)
            flat[part] = total
    return out


def round_once(total: np.ndarray, product: np.ndarray, addend: np.ndarray, tiny: bool) -> None:
    """Adjust total = float64(product + addend), in place, so that casting it to float32 rounds the true sum.

    The cast rounds a second time, which is wrong only where total stands exactly halfway between two float32
    values although the true sum does not: its dropped bits are then 100...0. Below the normal range the half
    stands elsewhere, so every tiny total is looked at, unless the caller knows that none can be inexact
    (``never_inexact_tiny``). There, total is rounded to odd: if the sum was inexact (the error is exact, by
    two-sum) and total is even, it steps one unit towards the error. 53 bits are more than 24 + 2, so the
    second rounding is then innocent.

    All three are contiguous float64 arrays of one shape.
    """
    suspicious = (total.view(np.uint64) & _DROPPED) == _HALF
    if tiny:
        small = np.abs(total) < _SMALLEST_NORMAL
        if small.any():
            suspicious |= small & (total != 0)
    if suspicious.any():
        _round_to_odd(total.reshape(-1), product.reshape(-1), addend.reshape(-1), np.flatnonzero(suspicious))


def _round_to_odd(total: np.ndarray, product: np.ndarray, addend: np.ndarray, where: np.ndarray) -> None:
    p, c, s = product[where], addend[where], total[where]
    virtual = s - p
    error = (p - (s - virtual)) + (c - virtual)
    bits = s.view(np.int64)
    even = (bits & 1) == 0
    away = ((error > 0) == (s > 0)).astype(np.int64) * 2 - 1  # a larger pattern is a larger magnitude
    bits += np.where(((error > 0) | (error < 0)) & even, away, 0)
    total[where] = s


def never_inexact_tiny(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether sums of products of these float32 arrays are exact wherever they fall below the normal range.

    If 2**i <= |a| and 2**j <= |b| for every non-zero entry, each product is a multiple of
    2**(i - 23 + j - 23), and so is any sum of them, rounded or not. With i + j - 46 >= -149 every such
    multiple below 2**-126 is a float32.
    """
    return _lowest_exponent(a) + _lowest_exponent(b) - 46 >= -149


def _lowest_exponent(values: np.ndarray) -> int:
    magnitudes = np.abs(values[(values != 0) & np.isfinite(values)])
    return int(np.frexp(magnitudes.min())[1]) - 1 if magnitudes.size else 0


# --- primitives that numpy and TensorIR share -------------------------------------------------------------


def select(condition: Value, yes: Value, no: Value) -> Value:
    """yes where condition holds, else no; both are evaluated. A branch may be a Python number."""
    if not is_expr(condition):
        return np.where(condition, _f32(yes), _f32(no))
    dtype = _dtype(yes, no) or "float32"
    return tirx.Select(condition, _scalar(yes, dtype), _scalar(no, dtype))


def _f32(value: Value) -> Value:
    return np.float32(value) if isinstance(value, float | int) else value


def _bits(value: Value) -> Value:
    return tirx.reinterpret("uint32", value) if is_expr(value) else np.asarray(value, np.float32).view(np.uint32)


def _from_bits(value: Value) -> Value:
    return tirx.reinterpret("float32", value) if is_expr(value) else value.view(np.float32)


def _f32_like(value: float, like: Value) -> Value:
    return tirx.const(value, "float32") if is_expr(like) else np.float32(value)


def _word(value: int, like: Value) -> Value:
    return tirx.const(value, "uint32") if is_expr(like) else np.uint32(value)


def _horner(x: Value, coefficients: tuple[float, ...]) -> Value:
    """Polynomial with its constant first, by fused Horner steps."""
    total: Value = fma(coefficients[-1], x, coefficients[-2])
    for coefficient in coefficients[-3::-1]:
        total = fma(total, x, coefficient)
    return total


def _with_sign_of(magnitude: Value, x: Value) -> Value:
    bits = _bits(x)
    return _from_bits(_bits(magnitude) | (bits & _word(0x80000000, bits)))


def _magnitude(x: Value) -> Value:
    bits = _bits(x)
    return _from_bits(bits & _word(0x7FFFFFFF, bits))


def _define(function):
    """Let a definition take lists and float64 scalars too, and keep numpy quiet about infinities."""

    def defined(x: Value) -> Value:
        if is_expr(x):
            return function(_scalar(x))
        with np.errstate(all="ignore"):
            return function(np.asarray(x, np.float32))

    defined.__name__, defined.__doc__ = function.__name__.lstrip("_"), function.__doc__
    return defined


# --- fewer bits ---------------------------------------------------------------------------------------------


@_define
def bfloat16(x: Value) -> Value:
    """x rounded to nearest even at 8 significant bits, as a float32 whose low half is 0; NaN stays NaN."""
    return _without_last(16, x)


@_define
def tfloat32(x: Value) -> Value:
    """x rounded to nearest even at 11 significant bits, as a float32 whose last 13 bits are 0; NaN stays NaN."""
    return _without_last(13, x)


def _without_last(count: int, x: Value) -> Value:
    """x rounded to nearest even where so many last bits are 0."""
    bits = _bits(x)
    odd = (bits >> _word(count, bits)) & _word(1, bits)
    half, kept = (1 << count - 1) - 1, 0xFFFFFFFF >> count << count
    rounded = _from_bits((bits + _word(half, bits) + odd) & _word(kept, bits))
    return select(_magnitude(x) <= _f32_like(float("inf"), x), rounded, float("nan"))


_ROUNDER = 1.5 * 2.0**23  # adding it leaves the nearest integer (of two, the even one) in the low bits of the sum

#: The largest magnitude of `quantize`: symmetric, so that -x has the integer of x with its sign changed.
QUANTIZED = 127


def quantize(x: Value, inverse: Value) -> Value:
    """x * inverse rounded to nearest even, limited to +-QUANTIZED, as int8; NaN becomes -QUANTIZED."""
    most = _f32_like(QUANTIZED, x)
    value = x * inverse  # a choice follows, not a sum that it could be contracted with
    value = select(value > -most, value, -most)
    value = select(value < most, value, most)
    return _bits(value + _f32_like(_ROUNDER, x)).astype("int8")


# --- exponential and its kin ------------------------------------------------------------------------------
# Coefficients are minimax fits (Remez), rounded to float32.

_LOG2_E = float.fromhex("0x1.715476p+0")
_LN2_HIGH = float.fromhex("0x1.62e430p-1")
_LN2_LOW = float.fromhex("-0x1.05c610p-29")
_EXP_LOWEST = float.fromhex("-0x1.5d589ep+6")  # below, the result would be denormal
_EXP_HIGHEST = float.fromhex("0x1.62e42ep+6")  # above, it would be infinite
_EXP = (
    1.0,
    1.0,
    float.fromhex("0x1.000000p-1"),
    float.fromhex("0x1.55548ep-3"),
    float.fromhex("0x1.55545ep-5"),
    float.fromhex("0x1.123bdep-7"),
    float.fromhex("0x1.6db4e8p-10"),
)


@_define
def exp(x: Value) -> Value:
    """e**x: x = n ln 2 + r, a polynomial in r, and n added to the exponent bits.

    A result below the normal range is 0, so that no processor's treatment of denormals matters, and the
    scaling is an integer addition, which no compiler can contract. exp(-inf) = 0, exp(inf) = inf, NaN stays.
    """
    shifted = fma(x, _LOG2_E, _ROUNDER)  # rounds to nearest even; its low bits hold n
    n = shifted - _f32_like(_ROUNDER, x)
    r = fma(n, -_LN2_LOW, fma(n, -_LN2_HIGH, x))
    bits = _bits(shifted)
    scaled = _from_bits(_bits(_horner(r, _EXP)) + (bits << _word(23, bits)))
    infinite = x + _f32_like(float("inf"), x)  # NaN stays NaN
    return select(x < _f32_like(_EXP_LOWEST, x), 0.0, select(x <= _f32_like(_EXP_HIGHEST, x), scaled, infinite))


@_define
def sigmoid(x: Value) -> Value:
    """1 / (1 + exp(-x))."""
    one = _f32_like(1.0, x)
    return one / (one + exp(-x))


_TANH_SMALL = 0.625
_TANH = (
    float.fromhex("-0x1.555534p-2"),
    float.fromhex("0x1.110768p-3"),
    float.fromhex("-0x1.b84448p-5"),
    float.fromhex("0x1.5256d8p-6"),
    float.fromhex("-0x1.76ac1ap-8"),
)


@_define
def tanh(x: Value) -> Value:
    """x + x**3 P(x**2) below 0.625, else 1 - 2 / (exp(2|x|) + 1) with the sign of x."""
    one, two, size = _f32_like(1.0, x), _f32_like(2.0, x), _magnitude(x)
    square = x * x
    small = fma(square * _horner(square, _TANH), size, size)
    large = one - two / (exp(size + size) + one)
    return _with_sign_of(select(size < _f32_like(_TANH_SMALL, x), small, large), x)


_ERF_SMALL = (
    float.fromhex("0x1.06eba8p-3"),
    float.fromhex("-0x1.812746p-2"),
    float.fromhex("0x1.ce2f0ap-4"),
    float.fromhex("-0x1.b829d8p-6"),
    float.fromhex("0x1.562b1ap-8"),
    float.fromhex("-0x1.bcd7e0p-11"),
    float.fromhex("0x1.d8b892p-14"),
    float.fromhex("-0x1.44cfc8p-17"),
)
_ERF_LARGE = (
    float.fromhex("0x1.ef2090p-14"),
    float.fromhex("-0x1.2116f8p+0"),
    float.fromhex("-0x1.4486bep-1"),
    float.fromhex("-0x1.b96aacp-4"),
    float.fromhex("0x1.9674dap-6"),
    float.fromhex("-0x1.0a1c98p-8"),
    float.fromhex("0x1.b15988p-12"),
    float.fromhex("-0x1.45980ep-16"),
)
_ERF_ONE = 4.0  # from here on erf rounds to 1


@_define
def erf(x: Value) -> Value:
    """x + x P(x**2) below 1, else 1 - exp(Q(|x|)) with the sign of x, Q fitted to log(erfc)."""
    one, end, size = _f32_like(1.0, x), _f32_like(_ERF_ONE, x), _magnitude(x)
    small = fma(size, _horner(size * size, _ERF_SMALL), size)
    large = one - exp(_horner(select(size > end, end, size), _ERF_LARGE))
    return _with_sign_of(select(size < one, small, large), x)


_SQRT_HALF_BITS = 0x3F3504F3
_LOG = (
    -0.5,
    float.fromhex("0x1.555546p-2"),
    float.fromhex("-0x1.ffffeep-3"),
    float.fromhex("0x1.99a546p-3"),
    float.fromhex("-0x1.5562e2p-3"),
    float.fromhex("0x1.2332c0p-3"),
    float.fromhex("-0x1.fb432cp-4"),
    float.fromhex("0x1.e650a8p-4"),
    float.fromhex("-0x1.e2e9a4p-4"),
    float.fromhex("0x1.1b42a0p-4"),
)


@_define
def log(x: Value) -> Value:
    """Natural logarithm: x = 2**e (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), then f + f**2 P(f) + e ln 2.

    log(0) = -inf, log(inf) = inf, NaN for negative x.
    """
    zero, infinity = _f32_like(0.0, x), _f32_like(float("inf"), x)
    denormal = x < _f32_like(_SMALLEST_NORMAL, x)
    bits = _bits(select(denormal, x * _f32_like(2.0**23, x), x))
    offset = bits + _word(0x3F800000 - _SQRT_HALF_BITS, bits)
    mantissa = _from_bits((offset & _word(0x007FFFFF, bits)) + _word(_SQRT_HALF_BITS, bits))
    exponent = (offset >> _word(23, bits)).astype("int32").astype("float32")
    exponent = exponent - select(denormal, 127.0 + 23.0, _f32_like(127.0, x))
    f = mantissa - _f32_like(1.0, x)
    fraction = fma(_horner(f, _LOG), f * f, f)
    result = fma(exponent, _LN2_HIGH, fma(exponent, _LN2_LOW, fraction))
    return select(x > zero, select(x < infinity, result, x), select(x >= zero, -float("inf"), float("nan") + zero))
