"""How a graph grows: blocks of activation, rearrangements, layer and epilogue, over a pool of maps."""

from collections.abc import Callable
from dataclasses import dataclass

from tvm import relax
from tvm.relax import op

from tests.properties import activations, between, products, weights
from tests.properties.graph import CHANNELS, Declined, Graph, Map, number

Step = Callable[[Graph, Map], Map]

#: Every name that ``Graph.steps`` can hold.
STEPS = [
    *activations.BINARY, *activations.PLANES, *activations.NEAR_MISSES, *between.PASSED, *between.NOT_PASSED,
    *weights.BINARY, *weights.OTHER, *products.PRODUCTS, *products.EPILOGUES,
    "depthwise", "groups", "stride", "dilation", "padding", "asymmetric padding", "gamma 0", "gamma tiny",
    "batch", "map 1x1",
]  # fmt: skip


@dataclass(frozen=True)
class Grown:
    """The result of a block.

    direct : the signs that reach it with no layer between. finite : whether it may take few values, so that an
        activation of it may take fewer than it says.
    """

    map: Map
    direct: frozenset[str] = frozenset()
    finite: bool = False


def grow(g: Graph) -> relax.Tuple:
    """The results of a random graph: its last map, another one or what a layer reads, and bits."""
    pool, read = [Grown(_first(g))], []
    for _ in range(1 + g.draws.below(2)):
        operand, result = _block(g, pool[-1 - g.draws.below(len(pool))])
        read.append(operand)
        pool.append(result)
    last, other = pool[-1], g.draws.pick([*pool, *read])
    bits = g.emit(op.greater_equal(last.map.var, number(0.25)))
    g.direct = (last.direct, other.direct, last.direct)
    return relax.Tuple([last.map.var, other.map.var, bits])


def _first(g: Graph) -> Map:
    batch = g.draws.pick([1, 1, 2, 3])
    rows, columns = g.draws.pick([(4, 5), (1, 1), (2, 2), (9, 7), (3, 8), (1, 9)])
    if batch > 1:
        g.steps.append("batch")
    if rows == columns == 1:
        g.steps.append("map 1x1")
    return g.argument(batch, g.draws.pick(CHANNELS), rows, columns, zeros=g.draws.chance(4))


def _block(g: Graph, grown: Grown) -> tuple[Grown, Grown]:
    """What the block's layer reads, and the block's result."""
    g.sure = not grown.finite
    mark, x = len(g.guessable), grown.map
    if g.draws.chance(6):
        x = _step(g, activations.NEAR_MISSES, x)
    else:
        x = _step(g, activations.PLANES if g.draws.chance(4) else activations.BINARY, x)
    for _ in range(g.draws.below(3)):
        x = _step(g, between.NOT_PASSED if g.draws.chance(10) else between.PASSED, x)
    operand = Grown(x, grown.direct.union(g.guessable[mark:]), finite=True)
    result = _step(g, products.PRODUCTS, x)
    finite = result is x
    before = operand.direct if finite else frozenset()
    mark = len(g.guessable)
    for _ in range(g.draws.below(4)):
        result = _step(g, products.EPILOGUES, result)
        finite = finite or g.steps[-1:] == ["sign of a sum"]
    return operand, Grown(result, before.union(g.guessable[mark:]), finite)


def _step(g: Graph, table: dict[str, Step], x: Map) -> Map:
    """One step of a table; where it declines, the map stays as it is."""
    name = g.draws.pick(list(table))
    mark = len(g.steps)
    try:
        result = table[name](g, x)
    except Declined:
        del g.steps[mark:]
        return x
    g.steps.append(name)
    return result
