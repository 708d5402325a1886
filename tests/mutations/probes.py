"""Small exact graphs, each with the risk that its name says; a deliberate fault has to change the bits of one."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax
from tvm.relax import op

from tests.properties import activations, between, products
from tests.properties.draws import from_list
from tests.properties.exact import TARGETS, run_compiled, target
from tests.properties.graph import Graph, Map, number
from tvm_bnn.reference import evaluate
from tvm_bnn.relay_passes.convert_binary import Decisions
from tvm_bnn.relay_passes.pipeline import optimize

Probe = Callable[[Graph], list[relax.Var]]


def _input(g: Graph, channels: int = 33, zeros: bool = False) -> Map:
    return g.argument(2, channels, 5, 6, zeros=zeros)


def _signs(g: Graph, x: Map) -> Map:
    return activations.choice(g, x)


def _conv(g: Graph, x: Map, weight: np.ndarray, padding: int = 1, **attributes) -> Map:
    reach = float(np.abs(weight).max()) * np.prod(weight.shape[1:])
    expr = op.nn.conv2d(x.var, relax.const(weight), padding=padding, **attributes)
    return g.made(expr, x.unit - 1, x.bound * reach, g.path("conv"))


def _scaled_signs(g: Graph, *shape: int) -> np.ndarray:
    return g.signs(*shape) * np.abs(g.dyadic(shape[0], 1, 1, 1))


def _bits(g: Graph, x: Map) -> relax.Var:
    """Bits that a layer reads, so that their test is folded, and the layer's result."""
    return _conv(g, _signs(g, x), g.signs(3, x.channels, 1, 1), padding=0).var


def chain(g: Graph) -> list[relax.Var]:
    """Zero-padded signs, BN with both signs of gamma, a threshold, another layer."""
    first = _conv(g, _signs(g, _input(g)), _scaled_signs(g, 33, 33, 3, 3))
    return [first.var, _bits(g, products.batch_norm(g, first))]


def two_levels(g: Graph) -> list[relax.Var]:
    """Levels -1/2 and 3/2 with zero padding: a table by border class."""
    x = _input(g)
    bits = g.emit(op.greater(x.var, number(0)))
    levels = Map(g.emit(op.where(bits, number(1.5), number(-0.5))), -1, 1.5)
    return [_conv(g, levels, _scaled_signs(g, 5, 33, 3, 3)).var]


def slopes(g: Graph) -> list[relax.Var]:
    """PReLU with slopes of both signs, then thresholds of both directions: intervals and their complements."""
    result = _conv(g, _signs(g, _input(g)), g.signs(33, 33, 3, 3))
    shifted = g.shifted(result, g.dyadic(1, 33, 1, 1, low=-40, high=40))
    bent = products.prelu(g, shifted)
    up = g.shifted(bent, -4)
    down = g.shifted(g.scaled(bent, -1), 4)
    return [_bits(g, up), _bits(g, down)]


def masked(g: Graph) -> list[relax.Var]:
    """sign(mask * x), whose zeros stay, and the sign of an integer sum."""
    x = _input(g)
    layer = _conv(g, activations.sign_of_masked(g, x), g.signs(33, 33, 3, 3))
    exact = g.emit(op.sign(layer.var), g.path("sign"))
    return [layer.var, _conv(g, Map(exact, 0, 1), g.signs(5, 33, 1, 1), padding=0).var]


def two_bits(g: Graph) -> list[relax.Var]:
    """Activations of two bits."""
    levels = activations.many_levels(g, _input(g))
    return [_conv(g, levels, _scaled_signs(g, 33, 33, 3, 3)).var]


def per_channel(g: Graph) -> list[relax.Var]:
    """Steps of both signs and offsets by channel, in groups."""
    s = _signs(g, _input(g, 66))
    turned = g.shifted(g.scaled(s, g.signs(1, 66, 1, 1)), g.dyadic(1, 66, 1, 1))
    return [_conv(g, turned, g.signs(6, 33, 3, 3), groups=2).var, _conv(g, turned, g.signs(6, 66, 3, 3)).var]


def padded(g: Graph) -> list[relax.Var]:
    """A pad node with +1 before 33 channels."""
    x = _signs(g, _input(g))
    expr = op.nn.pad(x.var, (0, 0, 0, 0, 1, 1, 2, 0), pad_value=1.0)
    return [_conv(g, g.made(expr, 0, 1), _scaled_signs(g, 33, 33, 3, 3), padding=0).var]


def transposed(g: Graph) -> list[relax.Var]:
    """A transposed convolution of stride 2, groups 2."""
    weight = relax.const(g.signs(34, 3, 3, 3))
    x = _signs(g, _input(g, 34))
    attributes = {"strides": (2, 2), "padding": (1, 1), "output_padding": (1, 1), "groups": 2}
    return [g.emit(op.nn.conv2d_transpose(x.var, weight, **attributes), g.path("conv"))]


def zero_weights(g: Graph) -> list[relax.Var]:
    """Weights of {-a, 0, a}."""
    weight = _scaled_signs(g, 33, 33, 3, 3) * (g.rng.random((33, 33, 3, 3)) < 0.7)
    return [_conv(g, _signs(g, _input(g)), weight.astype(np.float32)).var]


def conventions(g: Graph) -> list[relax.Var]:
    """torch.sign of an argument with zeros: +1 by the convention."""
    x = _input(g, zeros=True)
    return [_conv(g, activations.bare_sign(g, x), g.signs(33, 33, 1, 1), padding=0).var]


def rearranged(g: Graph) -> list[relax.Var]:
    """Bits through nearest upsampling and a concat of whole words and parts of words."""
    x, y = _signs(g, _input(g, 32)), _signs(g, _input(g, 64))
    joined = g.emit(op.concat([x.var, y.var], 1))
    up = g.emit(between.nearest_resize(joined, [7, 12]))
    odd = g.emit(op.concat([up, g.emit(between.nearest_resize(_signs(g, _input(g, 3)).var, [7, 12]))], 1))
    first = _conv(g, Map(up, 0, 1), g.signs(33, 96, 3, 3))
    return [first.var, _conv(g, Map(odd, 0, 1), g.signs(33, 99, 1, 1), padding=0).var]


def epilogue(g: Graph) -> list[relax.Var]:
    """Scales, shifts and a subtraction behind a layer, as numbers."""
    x = g.scaled(_conv(g, _signs(g, _input(g)), g.signs(33, 33, 3, 3)), g.dyadic(1, 33, 1, 1))
    x = g.shifted(x, g.dyadic(1, 33, 1, 1))
    x = g.made(op.subtract(x.var, relax.const(g.dyadic(1, 33, 1, 1))), x.unit, x.bound + 4)
    return [g.scaled(x, g.dyadic(1, 33, 1, 1)).var]


def attention(g: Graph) -> list[relax.Var]:
    """Q K^T of signs, relu of its sign, times V."""
    return [products.attention(g, _signs(g, _input(g))).var]


PROBES: dict[str, Probe] = {
    probe.__name__: probe
    for probe in (
        chain, two_levels, slopes, masked, two_bits, per_channel, padded, transposed, zero_weights, conventions,
        rearranged, epilogue, attention,
    )
}  # fmt: skip


@dataclass(frozen=True)
class Built:
    """A probe as a module, its data, and what it has to compute."""

    module: tvm.IRModule
    data: list[np.ndarray]
    expected: list[np.ndarray]


def built(name: str) -> Built:
    """The probe of a name. Its expected results know the convention sign(0) = +1."""
    modules = []
    for told in (frozenset[str](), frozenset({"probe.sign1"} if name == "conventions" else ())):
        graph = Graph(from_list([7]), "probe", told)
        builder = relax.BlockBuilder()
        with builder.function("main"):
            with builder.dataflow():
                output = builder.emit_output(relax.Tuple(PROBES[name](graph)))
            builder.emit_func_output(output, graph.variables)
        modules.append(builder.get())
    return Built(modules[0], graph.data, list(evaluate(modules[1], graph.data)))


def verdict(probe: Built, compiled: bool) -> str:
    """Which check sees that a probe is wrong; empty where it is exact.

    compiled : whether the kernels are built and run too.
    """
    try:
        decisions = Decisions()
        optimized = optimize(probe.module, decisions)
        floats = [layer.path for layer in decisions.layers if layer.decision != "binary"]
        if floats:
            return f"{floats[0]} stays float"
        if _differ(evaluate(optimized, probe.data), probe.expected):
            return "the optimized graph differs"
        if compiled:
            name = next(name for name in TARGETS if target(name).native)
            if _differ(run_compiled(optimized, probe.data, name), probe.expected):
                return "the compiled kernels differ"
    except Exception as error:  # a fault may break anything
        return f"{type(error).__name__}"
    return ""


def _differ(found, expected) -> bool:
    return any(not np.array_equal(mine, theirs) for mine, theirs in zip(found, expected, strict=True))
