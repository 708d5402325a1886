"""Operators that act on each element by itself, each rounded once to the dtype of its result.

NaN follows PyTorch: it passes through maximum, minimum, clip and relu, and sign(NaN) = 0. Of two zeros of
different sign, maximum and minimum return the second operand, relu and clip return x: so
``max(lo, x) = select(lo > x, lo, x)`` in generated code gives the same bits, NaN included.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import relax

from tvm_bnn import arithmetic
from tvm_bnn.arithmetic import fma32
from tvm_bnn.reference.attributes import requested_dtype

Args = Sequence[Any]
Operator = Callable[[relax.Call, Args], Any]


def plain(function: Callable) -> Operator:
    """An operator that has no attributes: the function of its arguments."""

    def evaluate(_call: relax.Call, args: Args) -> np.ndarray:
        return function(*args)

    return evaluate


def float32_only(function: Callable[[np.ndarray], np.ndarray]) -> Operator:
    """A unary function that is defined in float32; other floats go through it and back."""

    def evaluate(_call: relax.Call, args: Args) -> np.ndarray:
        return function(args[0].astype(np.float32)).astype(args[0].dtype)

    return evaluate


def maximum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a where it is greater than b or NaN, else b."""
    return np.where((a > b) | (a != a), a, b)


def minimum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a where it is less than b or NaN, else b."""
    return np.where((a < b) | (a != a), a, b)


def relu(x: np.ndarray) -> np.ndarray:
    """0 where x < 0, else x."""
    return np.where(x < 0, x.dtype.type(0), x)


def clip(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """low where x < low, high where x > high, else x; bounds beyond an integer's range bind nothing."""
    if x.dtype.kind in "iu":
        limits = np.iinfo(x.dtype)
        low, high = max(low, limits.min), min(high, limits.max)
    least, greatest = x.dtype.type(low), x.dtype.type(high)
    return minimum(greatest, maximum(least, x))


def sign(x: np.ndarray) -> np.ndarray:
    """+1, -1, or 0 for zeros of both signs and NaN."""
    if x.dtype == bool:
        return x
    return (x > 0).astype(x.dtype) - (x < 0).astype(x.dtype)


def divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IEEE division; integers truncate towards zero."""
    if a.dtype.kind not in "iu":
        return a / b
    quotient = a // b
    return quotient + ((quotient < 0) & (quotient * b != a)).astype(a.dtype)


def power(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a**b. The exponents 2, 3, 4, 1/2, -1/2, -1 are products, a root, or a division; others go through float64."""
    if b.size == 1 and a.dtype == np.float32:
        special = {
            1.0: lambda: a,
            2.0: lambda: a * a,
            3.0: lambda: (a * a) * a,
            4.0: lambda: (a * a) * (a * a),
            0.5: lambda: np.sqrt(a),
            -0.5: lambda: rsqrt(a),
            -1.0: lambda: np.float32(1) / a,
        }.get(float(b.reshape(())))
        if special is not None:
            return np.broadcast_to(special(), np.broadcast_shapes(a.shape, b.shape))
    if a.dtype == np.float32:
        return np.power(a.astype(np.float64), b.astype(np.float64)).astype(np.float32)
    return np.power(a, b)


def rsqrt(x: np.ndarray) -> np.ndarray:
    """1 / sqrt(x), two roundings."""
    return x.dtype.type(1) / np.sqrt(x)


def silu(x: np.ndarray) -> np.ndarray:
    """x * sigmoid(x)."""
    return x * arithmetic.sigmoid(x)


def gelu(x: np.ndarray) -> np.ndarray:
    """fma(h, erf(x * sqrt(1/2)), h) with h = x / 2."""
    half = x * np.float32(0.5)
    return fma32(half, arithmetic.erf(x * np.float32(np.sqrt(0.5))), half)


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    """fma(h, tanh((x * sqrt(2/pi)) * fma(x * x, 0.044715, 1)), h) with h = x / 2."""
    half = x * np.float32(0.5)
    inner = (x * np.float32(np.sqrt(2 / np.pi))) * fma32(x * x, np.float32(0.044715), np.float32(1))
    return fma32(half, arithmetic.tanh(inner), half)


def leaky_relu(call: relax.Call, args: Args) -> np.ndarray:
    """x where x > 0, else x * alpha."""
    x = args[0]
    return np.where(x > 0, x, x * x.dtype.type(float(call.attrs.alpha)))


def prelu(call: relax.Call, args: Args) -> np.ndarray:
    """x where x > 0, else x * alpha, alpha along the axis."""
    x, alpha = args
    shape = [1] * x.ndim
    shape[int(call.attrs.axis)] = -1
    return np.where(x > 0, x, x * alpha.reshape(shape))


def softplus(call: relax.Call, args: Args) -> np.ndarray:
    """log(1 + exp(x * beta)) / beta where x * beta <= threshold, else x."""
    x = args[0]
    beta, threshold = np.float32(float(call.attrs.beta)), np.float32(float(call.attrs.threshold))
    scaled = x * beta
    return np.where(scaled > threshold, x, arithmetic.log(arithmetic.exp(scaled) + np.float32(1)) / beta)


def astype(call: relax.Call, args: Args) -> np.ndarray:
    """Cast; floats truncate towards zero into integers, and are True where they are not 0."""
    return args[0].astype(requested_dtype(call, args[0].dtype))
