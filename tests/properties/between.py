"""What stands between an activation and its convolution: rearrangements that bits pass, and operators they do not."""

from collections.abc import Callable
from dataclasses import replace

from tvm import relax
from tvm.relax import op

from tests.properties.activations import choice
from tests.properties.graph import Declined, Graph, Map

LARGEST = 9  # rows or columns of a map


def nearest_resize(value: relax.Expr, size: list[int]) -> relax.Expr:
    """Nearest upsampling as the importer spells it."""
    return op.image.resize2d(
        value,
        size,
        layout="NCHW",
        method="nearest_neighbor",
        coordinate_transformation_mode="asymmetric",
        rounding_method="floor",
    )


def _small(*size: int) -> None:
    if max(size) > LARGEST or min(size) < 1:
        raise Declined("the map would leave its range")


def nearest(g: Graph, x: Map) -> Map:
    rows, columns = g.draws.pick([(2.0, 2.0), (3.0, 1.0), (1.5, 2.5)])
    size = [int(x.size[0] * rows), int(x.size[1] * columns)]
    _small(*size)
    return g.view(x, nearest_resize(x.var, size))


def max_pool(g: Graph, x: Map) -> Map:
    kernel, attributes = g.draws.pick(
        [(2, {"strides": (2, 2)}), (3, {"strides": (2, 2), "padding": (1, 1)}), (3, {"padding": (1, 1)}), (2, {})]
    )
    if min(x.size) < kernel:
        raise Declined("the map is smaller than the window")
    return g.view(x, op.nn.max_pool2d(x.var, (kernel, kernel), **attributes))


def concat_same(g: Graph, x: Map) -> Map:
    """With a copy of itself, or with other signs of the same levels."""
    if x.channels > 33:
        raise Declined("too many channels")
    if x.levels == (-1.0, 1.0) and g.draws.below(2):
        other = choice(g, g.argument(x.shape[0], g.draws.pick([1, 3, 32]), *x.size)).var
        return g.view(x, op.concat([x.var, other], 1), levels=None)  # under --sign-zero exact, a bare sign has three
    return g.view(x, op.concat([x.var, x.var], 1))


def concat_other_step(g: Graph, x: Map) -> Map:
    """With signs of another step: segments."""
    if x.channels > 33 or x.levels is None or len(x.levels) != 2:
        raise Declined("not two-level")
    other = g.scaled(choice(g, g.argument(x.shape[0], g.draws.pick([32, 3]), *x.size)), 0.25)
    joined = op.concat([x.var, other.var], 1)
    return Map(g.emit(joined), min(x.unit, other.unit), max(x.bound, other.bound), discrete=x.discrete)


def split_piece(g: Graph, x: Map) -> Map:
    if x.channels < 3:
        raise Declined("too few channels")
    cut = min(g.draws.pick([32, 1, x.channels // 2]), x.channels - 1)
    parts = g.emit(op.split(x.var, [cut], 1))
    return g.view(x, relax.TupleGetItem(parts, g.draws.below(2)))


def permute(g: Graph, x: Map) -> Map:
    return g.view(x, op.permute_dims(x.var, (0, 1, 3, 2)))


def reshape(g: Graph, x: Map) -> Map:
    batch, channels, rows, columns = x.shape
    if channels % 3 == 0 and rows * 3 <= LARGEST and g.draws.below(2):
        return g.view(x, op.reshape(x.var, (batch, channels // 3, rows * 3, columns)))
    return g.view(x, op.reshape(x.var, (batch, channels, columns, rows)))


def crop(g: Graph, x: Map) -> Map:
    rows, columns = x.size
    if min(rows, columns) < 3:
        raise Declined("too small")
    steps = g.draws.pick([(1, 1), (2, 1), (1, 2)])
    return g.view(x, op.strided_slice(x.var, [2, 3], [1, 0], [rows, columns - 1], list(steps)))


def flip(g: Graph, x: Map) -> Map:
    return g.view(x, op.flip(x.var, g.draws.pick([3, 2])))


def pixel_shuffle(g: Graph, x: Map) -> Map:
    """As PyTorch decomposes it."""
    batch, channels, rows, columns = x.shape
    if channels % 4:
        raise Declined("channels are no multiple of 4")
    _small(2 * rows, 2 * columns)
    apart = g.emit(op.reshape(x.var, (batch, channels // 4, 2, 2, rows, columns)))
    moved = g.emit(op.permute_dims(apart, (0, 1, 4, 2, 5, 3)))
    return g.view(x, op.reshape(moved, (batch, channels // 4, 2 * rows, 2 * columns)))


def pad_node(g: Graph, x: Map) -> Map:
    """A pad node with 0, +1, -1 or another value."""
    value = g.draws.pick([0.0, 1.0, -1.0, 0.5])
    top, left, bottom, right = g.draws.pick([(1, 1, 1, 1), (0, 2, 1, 0), (2, 2, 2, 2)])
    expr = op.nn.pad(x.var, (0, 0, 0, 0, top, bottom, left, right), pad_value=value)
    levels = tuple(sorted({*x.levels, value})) if x.levels is not None else None
    return g.made(expr, min(x.unit, -1), max(x.bound, 1.0), levels=levels, discrete=x.discrete or value == 0)


def scale_before(g: Graph, x: Map) -> Map:
    return g.scaled(x, g.draws.pick([0.5, -1.0, 1.5, 4.0]))


def idle_clip(g: Graph, x: Map) -> Map:
    """A hardtanh that changes nothing, or takes a level away."""
    return g.clipped(x, -1, 1)


def tile(g: Graph, x: Map) -> Map:
    if x.channels > 33:
        raise Declined("too many channels")
    return g.view(x, op.tile(x.var, (1, 2, 1, 1)))


def average_pool(g: Graph, x: Map) -> Map:
    if min(x.size) < 2:
        raise Declined("too small")
    expr = op.nn.avg_pool2d(x.var, (2, 2), strides=g.draws.pick([(2, 2), (1, 1)]))
    return g.made(expr, x.unit - 2, x.bound)


def bilinear(g: Graph, x: Map) -> Map:
    size = [2 * extent for extent in x.size]
    _small(*size)
    expr = op.image.resize2d(
        x.var, size, layout="NCHW", method="linear", coordinate_transformation_mode="half_pixel"
    )
    return g.made(expr, x.unit - 4, 2 * x.bound)


def plus_real(g: Graph, x: Map) -> Map:
    return replace(g.sum(x, g.argument(*x.shape)), levels=None)


PASSED: dict[str, Callable[[Graph, Map], Map]] = {
    "nearest": nearest,
    "max-pool": max_pool,
    "concat": concat_same,
    "split": split_piece,
    "permute": permute,
    "reshape": reshape,
    "crop": crop,
    "flip": flip,
    "pixel shuffle": pixel_shuffle,
    "scale before": scale_before,
    "clip between": idle_clip,
    "tile": tile,
    "pad node": pad_node,
    "concat of steps": concat_other_step,
}
NOT_PASSED: dict[str, Callable[[Graph, Map], Map]] = {
    "average pool": average_pool,
    "bilinear": bilinear,
    "plus a real map": plus_real,
}
