"""Hoist: filters whose results become neighbouring pixels are put in an order that keeps channels together.

A pixel shuffle cuts the channels of a map in C x s x s and makes pixels of the last two, so that the C channels of a
pixel lie s*s apart. ``shuffle(conv(x, w)) == shuffle'(conv(x, w'))`` where w' has the filters as s x s x C: what is
rearranged then are whole vectors of channels, and whole words of bits where C fills them.

The convolution is followed by the rearrangement that takes its order back; SinkViews moves what follows before it and
joins the rearrangements. Declines where a convolution's results are read in their own order too, or meet other maps
before they are rearranged.
"""

from collections.abc import Iterator
from math import prod

import numpy as np
import tvm
from tvm import relax

from tvm_bnn import ops
from tvm_bnn.relay_passes.arrangement import Arrangement, is_arrangement
from tvm_bnn.relay_passes.elementwise import ELEMENTWISE
from tvm_bnn.relay_passes.fold_constants import is_constant, value_of
from tvm_bnn.relay_passes.readers import readers_of
from tvm_bnn.relay_passes.rewriter import DataflowRewriter, bindings_of, op_name, run_rewriter, shape_of

Readers = dict[relax.Var, list[relax.Binding | None]]


class _Orderer(DataflowRewriter):
    def __init__(self, order_of: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
        super().__init__()
        self.order_of = order_of

    def rewrite(self, call: relax.Call, name: str) -> relax.Expr | None:
        if name not in self.order_of:
            return None
        parts, order = self.order_of[name]
        data, weight = call.args[0], value_of(call.args[1])
        chosen = np.arange(len(weight)).reshape(parts).transpose(order).reshape(-1)
        geometry = ops.BConv2DAttrs.from_call(call.attrs)
        sums = self.emit(ops.bconv2d(data, relax.const(weight[chosen]), geometry), span=call.span)
        batch, filters, *plane = shape_of(sums)
        back = Arrangement.identity((batch, filters, *plane)).reshaped((batch, *(parts[i] for i in order), *plane))
        assert back is not None
        places = [1 + order.index(i) for i in range(len(parts))]
        back = back.permuted([0, *places, len(parts) + 1, len(parts) + 2]).reshaped((batch, filters, *plane))
        assert back is not None
        return back.applied(sums, lambda expr: self.emit(expr, span=call.span))


def _orders(function: relax.Function) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Binary convolutions whose filters take another order, by name: factors of their number, and the order of these.

    The factors that stay channels come last.
    """
    readers = readers_of(function)
    found = {}
    for binding in bindings_of(function):
        if op_name(binding.value) != "bnn.bconv2d" or int(binding.value.attrs["groups"]) != 1:
            continue
        wanted = {_order(arrangement) for arrangement in _rearranged(binding.var, shape_of(binding.var), readers)}
        order = wanted.pop() if len(wanted) == 1 else None
        if order is not None:
            found[binding.var.name] = order
    return found


def _rearranged(var: relax.Var, shape: tuple[int, ...], readers: Readers) -> Iterator[Arrangement | None]:
    """How a map of a shape is rearranged behind what acts on each element alike; None for a reader that takes it as it is."""
    for reader in readers[var]:
        if reader is not None and is_arrangement(reader.value):
            yield _whole_chain(reader, readers)
        elif reader is not None and _keeps_order(reader.value, shape):
            yield from _rearranged(reader.var, shape, readers)
        else:
            yield None


def _keeps_order(value: relax.Expr, shape: tuple[int, ...]) -> bool:
    """Whether an operator computes each element of a map from the same one, and constants a channel."""
    if isinstance(value, relax.TupleGetItem):
        return value.index == 0 and isinstance(value.ty, relax.TensorType) and shape_of(value) == shape
    if op_name(value) == "relax.nn.batch_norm":
        return int(value.attrs.axis) == 1 and not value.attrs.training and all(map(is_constant, value.args[1:]))
    if op_name(value) not in ELEMENTWISE or shape_of(value) != shape:
        return False
    constants = [argument for argument in value.args if is_constant(argument)]
    flat = all(len(shape_of(c)) < 3 or shape_of(c)[-2:] == (1, 1) for c in constants)
    return flat and len(constants) == len(value.args) - 1


def _whole_chain(binding: relax.Binding, readers: Readers) -> Arrangement | None:
    """A chain of rearrangements as one."""
    call = binding.value
    arrangement = Arrangement.identity(shape_of(call.args[0])).then(call, shape_of(call))
    while arrangement is not None and len(readers[binding.var]) == 1:
        (reader,) = readers[binding.var]
        if reader is None or not is_arrangement(reader.value):
            break
        arrangement, binding = arrangement.then(reader.value, shape_of(reader.value)), reader
    return arrangement


def _order(arrangement: Arrangement | None) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Factors of the channels of what is rearranged, and their order; None where the order is right as it is."""
    if arrangement is None or len(arrangement.source) != 4 or len(arrangement.shape) != 4:
        return None
    factors = arrangement.factors_of(1)
    if factors is None or prod(extent for extent, _ in factors) != arrangement.source[1]:
        return None
    stay = [i for i, (_, axis) in enumerate(factors) if axis == 1]
    order = (*(i for i in range(len(factors)) if i not in stay), *stay)
    return (tuple(extent for extent, _ in factors), order) if stay and order != tuple(sorted(order)) else None


@tvm.transform.module_pass(opt_level=0, name="OrderFilters")
class OrderFilters:
    """Let filters whose results become neighbouring pixels lie channel by channel."""

    def transform_module(self, module: tvm.IRModule, _context) -> tvm.IRModule:
        """Rewrite ``main``."""
        order_of = _orders(module["main"])
        return run_rewriter(lambda: _Orderer(order_of), module) if order_of else module
