"""Layers: convolutions, transposed ones, linear layers and products of two activations."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from tvm import relax
from tvm.relax import op

from tests.properties import activations, weights
from tests.properties.graph import CHANNELS, Declined, Graph, Map, Weight, number, unit_of

KERNELS = ((1, 1), (3, 3), (2, 2), (1, 3), (5, 5), (7, 7))


def _weight(g: Graph, shape: tuple[int, ...]) -> Weight:
    """Weights of the layer under construction; most are binary."""
    table = weights.OTHER if g.draws.chance(9) else weights.BINARY
    name = g.draws.pick(list(table))
    g.steps.append(name)
    return table[name](g, shape)


def _groups(g: Graph, channels: int) -> tuple[int, int]:
    """(groups, filters) for so many channels."""
    ways = [1, 1, channels, 3, 2]
    groups = g.draws.pick([way for way in ways if channels % way == 0])
    if groups > 1:
        g.steps.append("depthwise" if groups == channels else "groups")
        return groups, groups * g.draws.pick([1, 2] if groups * 2 <= 66 else [1])
    return 1, g.draws.pick(CHANNELS)


def _record(g: Graph, path: str, x: Map, weight: Weight) -> None:
    """What the analysis has to find, where no step between hides it."""
    if g.sure and x.levels is not None and len(x.levels) == 2 and weight.form == "signs":
        g.expected[path] = "binary"
    if weight.form == "argument":
        g.expected[path] = "float"


def _padding(g: Graph, x: Map, reach: tuple[int, int]) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) with which windows of this reach fit."""
    least = [max(0, -(-(span - extent) // 2)) for span, extent in zip(reach, x.size, strict=True)]
    kind = g.draws.below(4)
    if kind == 0:
        top, left = least
        return top, left, top, left
    if kind == 3:
        g.steps.append("asymmetric padding")
        return least[0], least[1] + 1, least[0] + 2, least[1]
    rows, columns = (max(few, span // 2) for few, span in zip(least, reach, strict=True))
    return rows, columns, rows, columns


def conv2d(g: Graph, x: Map) -> Map:
    groups, filters = _groups(g, x.channels)
    kernel = g.draws.pick(KERNELS)
    strides = g.draws.pick([(1, 1), (2, 2), (1, 2), (3, 3)])
    dilation = g.draws.pick([(1, 1), (1, 1), (2, 2), (1, 2)])
    reach = (dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1)
    padding = _padding(g, x, reach)
    for name, seen in (("stride", max(strides) > 1), ("dilation", max(dilation) > 1), ("padding", any(padding))):
        if seen:
            g.steps.append(name)
    weight = _weight(g, (filters, x.channels // groups, *kernel))
    path = g.path("conv")
    expr = op.nn.conv2d(x.var, weight.expr, strides, padding, dilation, groups)
    result = g.made(expr, x.unit + weight.unit, x.bound * weight.reach, path)
    if not any(padding) or x.levels in ((-1.0, 1.0), (0.0, 1.0)):
        _record(g, path, x, weight)
    counted = x.levels in ((-1.0, 1.0), (0.0, 1.0)) and weight.form == "signs"
    return replace(result, discrete=counted)


def twice(g: Graph, x: Map) -> Map:
    """One layer called twice: the same weights on two inputs, then their sum."""
    weight = weights.scaled_sign(g, (g.draws.pick(CHANNELS), x.channels, 1, 1))
    other = activations.choice(g, g.argument(*x.shape))
    first, second = (
        g.made(op.nn.conv2d(value.var, weight.expr), value.unit + weight.unit, value.bound * weight.reach, path)
        for value, path in ((x, g.path("conv")), (other, g.path("conv")))
    )
    return g.sum(first, second)


def conv2d_transpose(g: Graph, x: Map) -> Map:
    if max(x.size) > 5:
        raise Declined("the map would become large")
    groups = g.draws.pick([1, x.channels] if x.channels < 34 else [1])
    filters = g.draws.pick([1, 3, 32, 33]) if groups == 1 else 1
    kernel, attributes = g.draws.pick(
        [
            ((2, 2), {"strides": (2, 2)}),
            ((3, 3), {"strides": (2, 2), "padding": (1, 1), "output_padding": (1, 1)}),
            ((3, 3), {"padding": (1, 1)}),
            ((4, 4), {"strides": (2, 2), "padding": (1, 1)}),
            ((2, 3), {"strides": (1, 2), "dilation": (2, 1)}),
        ]
    )
    if groups == 1:
        weight = _weight(g, (filters, x.channels, *kernel))
        stored = g.emit(op.permute_dims(weight.expr, (1, 0, 2, 3)))
    else:
        weight = _weight(g, (x.channels, 1, *kernel))
        stored = weight.expr
    path = g.path("conv")
    expr = op.nn.conv2d_transpose(x.var, stored, groups=groups, **attributes)
    return g.made(expr, x.unit + weight.unit, x.bound * weight.reach, path)


def _tokens(g: Graph, x: Map) -> Map:
    """[N, C, H, W] -> [N, H * W, C]."""
    batch, channels, rows, columns = x.shape
    flat = g.emit(op.reshape(x.var, (batch, channels, rows * columns)))
    return g.view(x, op.permute_dims(flat, (0, 2, 1)))


def linear(g: Graph, x: Map) -> Map:
    """On all elements of an image, or on the channels of each pixel; the result is a map again."""
    batch, channels, rows, columns = x.shape
    outputs = g.draws.pick([1, 3, 32, 33, 65])
    if g.draws.below(2) and channels * rows * columns <= 1024:
        rows = columns = 1
        data = g.view(x, op.reshape(x.var, (batch, int(np.prod(x.shape[1:])))))
    else:
        data = _tokens(g, x)
    weight = _weight(g, (outputs, data.shape[-1]))
    if weight.form == "argument":
        raise Declined("a matrix product is another step")
    path = g.path("linear")
    expr = op.matmul(data.var, g.emit(op.permute_dims(weight.expr, (1, 0))))
    result = g.made(expr, data.unit + weight.unit, data.bound * weight.reach, path)
    _record(g, path, x, weight)
    if result.shape == (batch, outputs):
        return g.view(result, op.reshape(result.var, (batch, outputs, 1, 1)))
    moved = g.emit(op.permute_dims(result.var, (0, 2, 1)))
    return g.view(result, op.reshape(moved, (batch, outputs, rows, columns)))


def attention(g: Graph, x: Map) -> Map:
    """Q K^T of signs, its sign through relu as mask, and the mask times V."""
    batch, channels, rows, columns = x.shape
    if rows * columns > 36:
        raise Declined("too many tokens")
    other = activations.choice(g, g.argument(*x.shape))
    left, right = _tokens(g, x), g.emit(op.reshape(other.var, (batch, channels, rows * columns)))
    scores = g.made(op.matmul(left.var, right), x.unit, x.bound * channels, g.path("attention"), discrete=True)
    mask = g.emit(op.nn.relu(g.sign(scores)))
    value = _tokens(g, g.draws.pick([other, x]))
    expr = op.matmul(mask, value.var)
    out = g.made(expr, value.unit, value.bound * rows * columns, g.path("attention"))
    moved = g.emit(op.permute_dims(out.var, (0, 2, 1)))
    return g.view(out, op.reshape(moved, x.shape))


PRODUCTS: dict[str, Callable[[Graph, Map], Map]] = {
    "conv2d": conv2d,
    "conv2d again": conv2d,
    "conv2d once more": conv2d,
    "transposed": conv2d_transpose,
    "linear": linear,
    "attention": attention,
    "a layer called twice": twice,
}


def prelu(g: Graph, x: Map) -> Map:
    """where(x > 0, x, slope * x), slopes negative among them."""
    slopes = g.dyadic(1, x.channels, 1, 1, low=-2, high=2, unit=-2)
    negative = g.scaled(x, slopes)
    expr = op.where(g.emit(op.greater(x.var, number(0))), x.var, negative.var)
    return g.made(expr, min(x.unit, negative.unit), max(x.bound, negative.bound))


def rprelu(g: Graph, x: Map) -> Map:
    shifted = g.shifted(x, g.dyadic(1, x.channels, 1, 1))
    return g.shifted(prelu(g, shifted), g.dyadic(1, x.channels, 1, 1))


def batch_norm(g: Graph, x: Map) -> Map:
    """Standard deviations are powers of two; gamma negative, zero or tiny among them."""
    channels = x.channels
    epsilon = 2.0**-10
    deviation = 2.0 ** g.rng.integers(-1, 3, channels)
    gamma, mean, beta = (g.dyadic(channels, low=-r, high=r) for r in (3, 16, 4))
    kind = g.draws.pick(["any", "gamma 0", "gamma tiny"])
    if kind == "gamma 0":
        gamma[:: max(1, channels // 3)] = 0
    if kind == "gamma tiny":
        gamma = gamma * np.float32(2.0**-12)
        beta = beta * np.float32(2.0**-12)
    if kind != "any":
        g.steps.append(kind)
    variance = (deviation**2 - epsilon).astype(np.float32)
    scale = gamma / deviation
    bound = float(np.abs(scale).max() * (x.bound + np.abs(mean).max()) + np.abs(beta).max())
    unit = min(min(x.unit, -1) + unit_of(scale), unit_of(beta))
    call = op.nn.batch_norm(
        x.var, *(relax.const(v.astype(np.float32)) for v in (gamma, beta, mean, variance)), axis=1, epsilon=epsilon,
        training=False,
    )  # fmt: skip
    pieces = g.emit(call, g.path("bn"))
    return g.made(relax.TupleGetItem(pieces, 0), unit, bound)


def residual(g: Graph, x: Map) -> Map:
    return g.sum(x, g.argument(*x.shape))


def integer_sign(g: Graph, x: Map) -> Map:
    """The sign of a sum, with nothing between: zeros are common there."""
    return activations._levels(g, g.sign(x), -1.0, 0.0, 1.0, discrete=True)


def twice_itself(g: Graph, x: Map) -> Map:
    return g.sum(x, x)


EPILOGUES: dict[str, Callable[[Graph, Map], Map]] = {
    "bias": lambda g, x: g.shifted(x, g.dyadic(1, x.channels, 1, 1)),
    "batch norm": batch_norm,
    "scale after": lambda g, x: g.scaled(x, g.dyadic(1, x.channels, 1, 1, low=-2, high=2)),
    "relu": lambda g, x: replace(g.made(op.nn.relu(x.var), x.unit, x.bound), discrete=True),
    "PReLU": prelu,
    "RPReLU": rprelu,
    "hardtanh": lambda g, x: g.clipped(x, -4, 4),
    "residual": residual,
    "sign of a sum": integer_sign,
    "added to itself": twice_itself,
}
