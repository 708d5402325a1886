"""Every way to write a binary activation, and those with three to sixteen levels; each takes a map and gives one."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from tvm import relax
from tvm.relax import op

from tests.properties.graph import Declined, Graph, Map, number, unit_of

PLUS_MINUS = (-1.0, 1.0)


def _levels(graph: Graph, var: relax.Var, *levels: float, discrete: bool = False) -> Map:
    """A value that was computed to have these levels."""
    unit = min(unit_of(level) for level in levels)
    return Map(var, unit, max(map(abs, levels)), tuple(sorted(levels)), discrete)


def bare_sign(g: Graph, x: Map) -> Map:
    return _levels(g, g.sign(x), *PLUS_MINUS)


def choice(g: Graph, x: Map) -> Map:
    compare = g.draws.pick([op.greater_equal, op.greater, op.less, op.less_equal])
    return _levels(g, g.emit(op.where(g.emit(compare(x.var, number(0))), number(1), number(-1))), *PLUS_MINUS)


def two_levels(g: Graph, x: Map) -> Map:
    low, high = g.draws.pick([(0.0, 1.0), (-0.5, 1.5), (0.25, 2.0), (2.0, -1.0), (0.0, -0.5), (-3.0, -1.0)])
    compare = g.draws.pick([op.greater, op.less_equal])
    condition = g.emit(compare(x.var, number(g.draws.pick([0.0, 0.5, -1.0]))))
    return _levels(g, g.emit(op.where(condition, number(high), number(low))), low, high)


def cast_compare(g: Graph, x: Map) -> Map:
    """(x >= 0) * 2 - 1."""
    cast = g.emit(op.astype(g.emit(op.greater_equal(x.var, number(0))), "float32"))
    doubled = g.emit(op.multiply(cast, number(2)))
    return _levels(g, g.emit(op.subtract(doubled, number(1))), *PLUS_MINUS)


def cast_alone(g: Graph, x: Map) -> Map:
    return _levels(g, g.emit(op.astype(g.emit(op.greater(x.var, number(0.5))), "float32")), 0.0, 1.0)


def _known_sign(g: Graph, x: Map) -> relax.Var:
    """A sign whose zeros the spelling treats, so that no convention touches it."""
    path = g.path("sign")
    g.sharp.add(path)
    return g.emit(op.sign(x.var), path)


def sign_plus_equal(g: Graph, x: Map) -> Map:
    """x.sign() + (x == 0)."""
    zero = g.emit(op.astype(g.emit(op.equal(x.var, number(0))), "float32"))
    return _levels(g, g.emit(op.add(_known_sign(g, x), zero)), *PLUS_MINUS)


def filled_sign(g: Graph, x: Map) -> Map:
    """where(s == 0, 1, s), as in-place filling writes it too."""
    s = _known_sign(g, x)
    fill = g.draws.pick([1.0, -1.0])
    return _levels(g, g.emit(op.where(g.emit(op.equal(s, number(0))), number(fill), s)), *PLUS_MINUS)


def sign_of_tanh(g: Graph, x: Map) -> Map:
    scaled = g.emit(op.multiply(x.var, number(5)))
    return _levels(g, g.sign(replace(x, var=g.emit(op.tanh(scaled)), discrete=False)), *PLUS_MINUS)


def sign_of_hardtanh(g: Graph, x: Map) -> Map:
    return _levels(g, g.sign(g.clipped(x, -1, 1)), *PLUS_MINUS)


def rounded_clamp(g: Graph, x: Map) -> Map:
    """round(clamp(x, 0, 1)): {0, 1}."""
    return _levels(g, g.emit(op.round(g.clipped(x, 0, 1).var)), 0.0, 1.0)


def zero_a(g: Graph, x: Map) -> Map:
    """round(x / a).clamp(0, 1) * a: {0, a}."""
    a = g.draws.pick([0.5, 2.0, 0.25])
    rounded = g.emit(op.round(g.emit(op.divide(x.var, number(a)))))
    return _levels(g, g.emit(op.multiply(g.emit(op.clip(rounded, 0, 1)), number(a))), 0.0, a)


def adabin(g: Graph, x: Map) -> Map:
    """a * (sign((x - b) / a) + b): two arbitrary levels."""
    a, b = g.draws.pick([(0.5, 0.25), (2.0, -0.5), (1.5, 1.0)])
    centred = g.emit(op.subtract(x.var, number(b)))
    if a == 1.5:  # x / 1.5 rounds, but keeps its sign
        inner = replace(x, var=g.emit(op.divide(centred, number(a))), discrete=False)
    else:
        inner = g.scaled(g.shifted(x, -b), 1 / a)
    s = g.emit(op.add(g.sign(inner), number(b)))
    return _levels(g, g.emit(op.multiply(s, number(a))), a * (b - 1), a * (b + 1))


def threshold_per_channel(g: Graph, x: Map) -> Map:
    return _levels(g, g.sign(g.shifted(x, g.dyadic(1, x.channels, 1, 1, unit=-3))), *PLUS_MINUS)


def affine_negative(g: Graph, x: Map) -> Map:
    """k * x + b, k negative for some channels."""
    k = g.dyadic(1, x.channels, 1, 1, low=-2, high=2)
    return _levels(g, g.sign(g.shifted(g.scaled(x, k), g.dyadic(1, x.channels, 1, 1, unit=-2))), *PLUS_MINUS)


def relu_of_sign(g: Graph, x: Map) -> Map:
    """relu(sign(x)) = [x > 0]: exact, whatever sign(0) is."""
    path = g.path("sign")
    g.sharp.add(path)
    return _levels(g, g.emit(op.nn.relu(g.emit(op.sign(x.var), path))), 0.0, 1.0)


def sign_of_relu(g: Graph, x: Map) -> Map:
    path = g.path("sign")
    g.sharp.add(path)
    return _levels(g, g.emit(op.sign(g.emit(op.nn.relu(x.var))), path), 0.0, 1.0)


def _mask(g: Graph, x: Map) -> relax.Var:
    """Zeros and ones that the data decide."""
    source = g.draws.pick([x, g.argument(x.shape[0], 1, *x.size)])
    return g.emit(op.astype(g.emit(op.greater(source.var, number(0.75))), "float32"))


def sign_of_masked(g: Graph, x: Map) -> Map:
    """sign(mask * x)."""
    mask, path = _mask(g, x), g.path("sign")
    g.sharp.add(path)
    return _levels(g, g.emit(op.sign(g.emit(op.multiply(mask, x.var))), path), -1.0, 0.0, 1.0, discrete=True)


def masked_sign(g: Graph, x: Map) -> Map:
    """mask * sign(x): 0 is one of its levels whatever sign(0) is."""
    masked = g.emit(op.multiply(_mask(g, x), _known_sign(g, x)))
    return _levels(g, masked, -1.0, 0.0, 1.0, discrete=True)


def negated(g: Graph, x: Map) -> Map:
    return _levels(g, g.emit(op.negative(_picked(g, x, [choice, bare_sign]).var)), *PLUS_MINUS)


def _picked(g: Graph, x: Map, options: list[Callable[[Graph, Map], Map]]) -> Map:
    return g.draws.pick(options)(g, x)


def straight_through(g: Graph, x: Map) -> Map:
    """S.detach() - t.detach() + t, with t a clip or a polynomial, perhaps twice in a row."""
    forward = _picked(g, x, [choice, bare_sign, rounded_clamp])
    for _ in range(g.draws.pick([1, 2])):
        t = _clip_residue(g, x) if g.draws.below(2) else _polynomial(g, x)
        inner = g.emit(op.subtract(forward.var, t.var))
        added = g.made(op.add(inner, t.var), min(forward.unit, t.unit), forward.bound + 2 * t.bound)
        forward = replace(forward, var=added.var)
    return forward


def _clip_residue(g: Graph, x: Map) -> Map:
    return g.clipped(x, -1, 1)


def _polynomial(g: Graph, x: Map) -> Map:
    """Bi-Real's: -1 below -1, 2x + x^2 to 0, 2x - x^2 to 1, 1 above."""
    square = g.product(x, x)
    double = g.scaled(x, 2)
    rise, fall = g.sum(double, square), g.sum(double, g.scaled(square, -1))
    below, above = (g.emit(op.less(x.var, number(edge))) for edge in (-1, 1))
    negative = g.emit(op.less(x.var, number(0)))
    middle = g.emit(op.where(negative, rise.var, fall.var))
    left = g.emit(op.where(below, number(-1), middle))
    return Map(g.emit(op.where(above, left, number(1))), rise.unit, rise.bound)


def many_levels(g: Graph, x: Map) -> Map:
    """round(clamp(x, 0, 1) * (2^k - 1)), scaled."""
    bits = g.draws.pick([2, 4, 3])
    top = 2**bits - 1
    scaled = g.emit(op.multiply(g.clipped(g.scaled(x, 0.25), 0, 1).var, number(top)))
    rounded = _levels(g, g.emit(op.round(scaled)), *map(float, range(top + 1)), discrete=True)
    return g.scaled(rounded, g.draws.pick([1.0, 0.25]))


def too_many_levels(g: Graph, x: Map) -> Map:
    """Five bits: beyond the bit planes."""
    scaled = g.emit(op.multiply(g.clipped(g.scaled(x, 0.25), 0, 1).var, number(31)))
    return _levels(g, g.emit(op.round(scaled)), *map(float, range(32)), discrete=True)


def ternary(g: Graph, x: Map) -> Map:
    """{-a, 0, a} with a dead zone."""
    a = g.draws.pick([1.0, 0.5])
    up = g.emit(op.greater(x.var, number(0.75)))
    down = g.emit(op.less(x.var, number(-0.75)))
    inner = g.emit(op.where(down, number(-a), number(0)))
    return _levels(g, g.emit(op.where(up, number(a), inner)), -a, 0.0, a, discrete=True)


def three_uneven(g: Graph, x: Map) -> Map:
    """Three levels that are no {m - a, m, m + a}."""
    up = g.emit(op.greater(x.var, number(1)))
    middle = g.emit(op.greater(x.var, number(-1)))
    inner = g.emit(op.where(middle, number(0.5), number(-1)))
    return _levels(g, g.emit(op.where(up, number(4), inner)), -1.0, 0.5, 4.0)


def offset_per_channel(g: Graph, x: Map) -> Map:
    """Signs with an offset per channel, and +-a with the sign of a per channel: one step, so binary."""
    s = _picked(g, x, [choice, bare_sign])
    if g.draws.below(2):
        return replace(g.shifted(s, g.dyadic(1, x.channels, 1, 1)), levels=None)
    return replace(g.scaled(s, g.signs(1, x.channels, 1, 1) * np.float32(0.5)), levels=None)


def steps_differ(g: Graph, x: Map) -> Map:
    """A step per channel: not one popcount."""
    factor = 2.0 ** (g.rng.permutation(x.channels) % 3 - 1)
    return g.scaled(_picked(g, x, [choice, bare_sign]), factor.astype(np.float32).reshape(1, -1, 1, 1))


def per_sample_scale(g: Graph, x: Map) -> Map:
    """A factor per image that depends on the data, dyadic here: the largest magnitude."""
    s = _picked(g, x, [choice, bare_sign])
    peak = g.emit(op.max(g.emit(op.abs(x.var)), [1, 2, 3], keepdims=True))
    return g.product(s, Map(peak, x.unit, x.bound))


def per_channel_data_scale(g: Graph, x: Map) -> Map:
    """A factor per input channel that depends on the data: real."""
    s = _picked(g, x, [choice, bare_sign])
    peak = g.emit(op.max(g.emit(op.abs(x.var)), [2, 3], keepdims=True))
    return g.product(s, Map(peak, x.unit, x.bound))


def product_of_signs(g: Graph, x: Map) -> Map:
    other = g.argument(*x.shape)
    first, second = choice(g, x), bare_sign(g, other)
    return _levels(g, g.emit(op.multiply(first.var, second.var)), *PLUS_MINUS)


def sum_of_signs(g: Graph, x: Map) -> Map:
    """Two signs added: {-2, 0, 2}."""
    first, second = choice(g, x), choice(g, g.argument(*x.shape))
    return _levels(g, g.emit(op.add(first.var, second.var)), -2.0, 0.0, 2.0, discrete=True)


def real(g: Graph, x: Map) -> Map:
    """No activation: a real operand."""
    if x.bound > 64 * 2.0**x.unit:
        raise Declined("too wide to be summed exactly")
    return x


BINARY: dict[str, Callable[[Graph, Map], Map]] = {
    "where": choice,
    "torch.sign": bare_sign,
    "two levels": two_levels,
    "(x >= 0) * 2 - 1": cast_compare,
    "cast of a comparison": cast_alone,
    "sign + (x == 0)": sign_plus_equal,
    "filled sign": filled_sign,
    "sign of tanh": sign_of_tanh,
    "sign of hardtanh": sign_of_hardtanh,
    "round of clamp": rounded_clamp,
    "{0, a}": zero_a,
    "AdaBin": adabin,
    "threshold per channel": threshold_per_channel,
    "affine with negative slope": affine_negative,
    "relu of sign": relu_of_sign,
    "sign of relu": sign_of_relu,
    "straight-through": straight_through,
    "negated sign": negated,
    "offset per channel": offset_per_channel,
    "scale per sample": per_sample_scale,
    "product of signs": product_of_signs,
}
PLANES: dict[str, Callable[[Graph, Map], Map]] = {
    "sign of a masked map": sign_of_masked,
    "masked sign": masked_sign,
    "2 to 4 bits": many_levels,
    "ternary": ternary,
    "sum of signs": sum_of_signs,
}
NEAR_MISSES: dict[str, Callable[[Graph, Map], Map]] = {
    "no activation": real,
    "5 bits": too_many_levels,
    "three uneven levels": three_uneven,
    "steps differ": steps_differ,
    "scale per channel of the data": per_channel_data_scale,
}
