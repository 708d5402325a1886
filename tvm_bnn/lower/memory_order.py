"""In which order a value's elements lie in memory, seen through rearrangements of what is stored."""

from collections.abc import Mapping

from tvm import relax

from tvm_bnn.lower.layout import Layout, padded_channels
from tvm_bnn.relay_passes.arrangement import Arrangement, is_arrangement
from tvm_bnn.relay_passes.elementwise import ELEMENTWISE
from tvm_bnn.relay_passes.rewriter import op_name, shape_of


def memory_order(
    var: relax.Var,
    layout_of: Mapping[relax.Var, Layout],
    definition: Mapping[relax.Var, relax.Expr],
    computed: bool,
) -> tuple[relax.Var, Arrangement] | None:
    """The stored value that var rearranges, and how its elements, in the order of memory, come to lie in var.

    computed : look through elementwise functions of one tensor, which keep its order.
    None where var depends on more than a rearrangement, or on a tensor that has other elements between its own.
    """
    steps = []
    expr = var
    while expr not in layout_of:
        value = definition[expr]
        if isinstance(value, relax.Var):
            read = [value]
        elif is_arrangement(value):
            steps.append((value, shape_of(expr)))
            read = value.args[:1]
        elif computed and op_name(value) in ELEMENTWISE:
            read = [argument for argument in value.args if isinstance(argument, relax.Var)]
        else:
            return None
        if len(read) != 1 or not (is_arrangement(value) or shape_of(read[0]) == shape_of(expr)):
            return None
        (expr,) = read
    order = _stored(shape_of(expr), layout_of[expr])
    order = None if order is None else order.then_all(steps)
    return None if order is None else (expr, order)


def _stored(shape: tuple[int, ...], layout: Layout) -> Arrangement | None:
    """How a tensor's elements in the order of memory come to lie in its shape."""
    if layout is Layout.MAP and padded_channels(shape[1]) != shape[1]:
        return None
    if layout is Layout.PLAIN or len(shape) < 4:
        return Arrangement.identity(shape)
    batch, channels, height, width = shape
    return Arrangement.identity((batch, height, width, channels)).permuted((0, 3, 1, 2))
