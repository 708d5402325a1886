"""Every way to write binary weights, and some that are none; each takes a shape and gives a ``Weight``.

The last axes of a shape are summed over; the first is the filter, except in matrices, which the layers transpose.
"""

from collections.abc import Callable

import numpy as np
import tvm
from tvm import relax
from tvm.relax import op

from tests.properties.graph import Graph, Weight, number, unit_of

Shape = tuple[int, ...]


def _made(g: Graph, expr: relax.Expr, shape: Shape, largest: float, unit: int, form: str) -> Weight:
    var = expr if isinstance(expr, relax.Var | tvm.ir.GenericConst) else g.emit(expr)
    return Weight(var, unit, largest * float(np.prod(shape[1:])), form)


def _constant(g: Graph, values: np.ndarray, form: str) -> Weight:
    values = values.astype(np.float32)
    return _made(g, relax.const(values), values.shape, float(np.abs(values).max()), unit_of(values), form)


def _raw(g: Graph, shape: Shape) -> np.ndarray:
    return g.rng.standard_normal(shape).astype(np.float32)


def _per_filter(g: Graph, shape: Shape) -> np.ndarray:
    return np.abs(g.dyadic(shape[0], low=-1, high=3)).reshape(-1, *[1] * (len(shape) - 1))


def plain(g: Graph, shape: Shape) -> Weight:
    """Offline +-1."""
    return _constant(g, g.signs(*shape), "signs")


def sign_of_weight(g: Graph, shape: Shape) -> Weight:
    return _made(g, op.sign(relax.const(_raw(g, shape))), shape, 1, 0, "signs")


def scaled_sign(g: Graph, shape: Shape) -> Weight:
    """sign(w) * a, a per filter."""
    alpha = _per_filter(g, shape)
    signs = g.emit(op.sign(relax.const(_raw(g, shape))))
    return _made(g, op.multiply(signs, relax.const(alpha)), shape, 2, -1, "signs")


def power_of_two(g: Graph, shape: Shape) -> Weight:
    """sign(w) * 2^round(log2 mean|w|), one number."""
    signs = g.emit(op.sign(relax.const(_raw(g, shape))))
    return _made(g, op.multiply(signs, number(g.draws.pick([0.25, 2.0]))), shape, 2, -2, "signs")


def centred(g: Graph, shape: Shape) -> Weight:
    """sign(w - mean) and sign((w - mean) / std): zeros where a filter has one weight."""
    raw = relax.const(_raw(g, shape))
    axes = list(range(1, len(shape)))
    value = g.emit(op.subtract(raw, g.emit(op.mean(raw, axes, keepdims=True))))
    if g.draws.below(2):
        value = g.emit(op.divide(value, g.emit(op.add(g.emit(op.std(raw, axes, keepdims=True)), number(0.5)))))
    return _made(g, op.sign(value), shape, 1, 0, "signs" if np.prod(shape[1:]) > 1 else "zeros")


def offline_alpha(g: Graph, shape: Shape) -> Weight:
    """+-a per filter, stored."""
    return _constant(g, g.signs(*shape) * _per_filter(g, shape), "signs")


def flat_and_viewed(g: Graph, shape: Shape) -> Weight:
    signs = g.emit(op.sign(relax.const(_raw(g, (int(np.prod(shape)), 1)))))
    return _made(g, op.reshape(signs, shape), shape, 1, 0, "signs")


def straight_through(g: Graph, shape: Shape) -> Weight:
    """S - clip(w) + clip(w)."""
    raw = relax.const(g.dyadic(*shape, low=-12, high=12, unit=-3))
    clipped = g.emit(op.clip(raw, -1, 1))
    inner = g.emit(op.subtract(g.emit(op.sign(raw)), clipped))
    return _made(g, op.add(inner, clipped), shape, 1, 0, "signs")


def two_levels(g: Graph, shape: Shape) -> Weight:
    """Two arbitrary levels a filter."""
    low = g.dyadic(shape[0], low=-3, high=3).reshape(-1, *[1] * (len(shape) - 1))
    high = low + np.float32(1.5)
    return _constant(g, np.where(g.signs(*shape) > 0, high, low), "two levels")


def with_zeros(g: Graph, shape: Shape) -> Weight:
    """{-a, 0, a} a filter."""
    values = g.signs(*shape) * _per_filter(g, shape) * (g.rng.random(shape) < 0.8)
    return _constant(g, values, "zeros")


def real(g: Graph, shape: Shape) -> Weight:
    return _constant(g, g.dyadic(*shape, low=-7, high=7, unit=-2), "real")


def argument(g: Graph, shape: Shape) -> Weight:
    """Weights that depend on the input."""
    value = g.argument(*shape)
    signs = op.where(g.emit(op.greater_equal(value.var, number(0))), number(1), number(-1))
    return _made(g, signs, shape, 1, 0, "argument")


BINARY: dict[str, Callable[[Graph, Shape], Weight]] = {
    "plain": plain,
    "sign of weights": sign_of_weight,
    "sign times scale": scaled_sign,
    "power of two": power_of_two,
    "centred": centred,
    "offline alpha": offline_alpha,
    "flat and viewed": flat_and_viewed,
    "straight-through weights": straight_through,
    "two weight levels": two_levels,
    "weights with zeros": with_zeros,
}
OTHER: dict[str, Callable[[Graph, Shape], Weight]] = {"real weights": real, "weights of the data": argument}
