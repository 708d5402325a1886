"""Bounds: between which two numbers the elements of a real tensor lie, as far as its last operators tell."""

from collections.abc import Callable

import numpy as np
from tvm import relax

from tvm_bnn.relay_passes.rewriter import op_name

Bounds = tuple[float, float]

UNBOUNDED: Bounds = (-np.inf, np.inf)
#: Operators whose range is known whatever they read.
_RANGES: dict[str, Bounds] = {
    "relax.sigmoid": (0.0, 1.0),
    "relax.tanh": (-1.0, 1.0),
    "relax.sign": (-1.0, 1.0),
    "relax.nn.softmax": (0.0, 1.0),
    "relax.square": (0.0, np.inf),
    "relax.exp": (0.0, np.inf),
    "relax.sqrt": (0.0, np.inf),
}
#: Operators that only choose among the values of their first operand.
_KEEPS = frozenset(
    "relax.reshape relax.permute_dims relax.expand_dims relax.squeeze relax.strided_slice relax.broadcast_to "
    "relax.take relax.tile relax.nn.max_pool2d relax.max relax.min relax.mean relax.nn.adaptive_avg_pool2d".split()
)


def bounds_of(expr: relax.Expr, of: Callable[[relax.Expr], Bounds]) -> Bounds:
    """Bounds of an operator's result from those of its operands; every operator rounds monotonously.

    of : bounds of an operand.
    """
    name = op_name(expr)
    if name in _RANGES:
        return _RANGES[name]
    if name in _KEEPS:
        return of(expr.args[0])
    if name == "relax.nn.relu":
        low, high = of(expr.args[0])
        return max(low, 0.0), max(high, 0.0)
    if name == "relax.clip":
        low, high = of(expr.args[0])
        least, greatest = (float(np.float32(float(bound.value))) for bound in expr.args[1:])
        return min(max(low, least), greatest), max(min(high, greatest), least)
    if name == "relax.abs":
        low, high = of(expr.args[0])
        return (0.0 if low <= 0 <= high else min(abs(low), abs(high))), max(abs(low), abs(high))
    if name == "relax.negative":
        low, high = of(expr.args[0])
        return -high, -low
    if name in ("relax.maximum", "relax.minimum"):
        pick = max if name == "relax.maximum" else min
        a, b = of(expr.args[0]), of(expr.args[1])
        return pick(a[0], b[0]), pick(a[1], b[1])
    if name in ("relax.add", "relax.subtract", "relax.multiply", "relax.divide"):
        return _corners(name, of(expr.args[0]), of(expr.args[1]))
    return UNBOUNDED


def _corners(name: str, a: Bounds, b: Bounds) -> Bounds:
    if not np.all(np.isfinite([*a, *b])) or (name == "relax.divide" and b[0] <= 0 <= b[1]):
        return UNBOUNDED
    operators = {"relax.add": np.add, "relax.subtract": np.subtract}
    operator = operators.get(name, np.multiply if name == "relax.multiply" else np.divide)
    values = [float(operator(np.float32(x), np.float32(y))) for x in a for y in b]
    return min(values), max(values)
