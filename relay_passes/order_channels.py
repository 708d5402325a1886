"""Hoist: where channels become neighbouring pixels, or pixels channels, those that stay channels lie together.

A pixel shuffle cuts the channels of a map in C x s x s and makes pixels of the last two, so that the C channels of a
pixel lie s*s apart. ``shuffle(conv(x, w)) == shuffle'(conv(x, w'))`` where w' has the filters as s x s x C: what is
rearranged then are whole vectors of channels, and whole words of bits where C fills them. Likewise
``conv(unshuffle(x), w) == conv(unshuffle'(x), w')`` where w' has its input channels as s x s x C.

The convolution is followed (or its input) by the rearrangement that takes the order back (or brings it about);
SinkViews moves what follows before it and joins the rearrangements. Declines where a convolution's results are read in
their own order too, or meet other maps before they are rearranged.
"""

from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Order:
    """Channels, seen as so many factors, in another order of these."""

    factors: tuple[int, ...]
    order: tuple[int, ...]

    def channels(self) -> np.ndarray:
        """Which channel comes to each place."""
        return np.arange(prod(self.factors)).reshape(self.factors).transpose(self.order).reshape(-1)

    def back(self) -> "Order":
        """The order that takes this one back."""
        places = range(len(self.order))
        return Order(tuple(self.factors[i] for i in self.order), tuple(self.order.index(i) for i in places))


Readers = dict[relax.Var, list[relax.Binding | None]]


class _Orderer(DataflowRewriter):
    def __init__(self, order_of: dict[str, Order]) -> None:
        super().__init__()
        self.order_of = order_of

    def rewrite(self, call: relax.Call, name: str) -> relax.Expr | None:
        if not _is_sum(call):
            return None
        filters, inputs = self.order_of.get(name), _order(self._behind(call.args[0]))
        if filters is None and inputs is None:
            return None
        data, weight = call.args[0], value_of(call.args[1])
        if inputs is not None:
            data = self.emit(self._ordered(data, inputs, call.span), span=call.span)
            weight = weight[:, inputs.channels()]
        if filters is not None:
            weight = weight[filters.channels()]
        sums = ops.bconv2d(data, relax.const(weight), ops.BConv2DAttrs.from_call(call.attrs))
        if filters is None:
            return sums
        return self._ordered(self.emit(sums, span=call.span), filters.back(), call.span)

    def _behind(self, data: relax.Expr) -> Arrangement | None:
        """How what is read is arranged, seen from there: back to where it comes from."""
        steps = []
        while is_arrangement(self.lookup(data)):
            steps.append((self.lookup(data), shape_of(data)))
            data = steps[-1][0].args[0]
        arrangement = Arrangement.identity(shape_of(data)).then_all(steps)
        return None if arrangement is None else arrangement.inverse()

    def _ordered(self, expr: relax.Expr, order: Order, span: tvm.ir.Span | None) -> relax.Expr:
        """A map with its channels in an order, the last call unbound."""
        batch, channels, *plane = shape_of(expr)
        cut = Arrangement.identity((batch, channels, *plane)).reshaped((batch, *order.factors, *plane))
        assert cut is not None
        rank = len(order.factors)
        whole = cut.permuted([0, *(1 + i for i in order.order), rank + 1, rank + 2])
        joined = whole.reshaped((batch, channels, *plane))
        assert joined is not None
        return joined.applied(expr, lambda each: self.emit(each, span=span))


def _is_sum(value: relax.Expr) -> bool:
    return op_name(value) == "bnn.bconv2d" and int(value.attrs["groups"]) == 1


def _orders(function: relax.Function) -> dict[str, Order]:
    """Binary convolutions whose filters take another order, by name."""
    readers = readers_of(function)
    found = {}
    for binding in bindings_of(function):
        if not _is_sum(binding.value):
            continue
        wanted = {_order(arrangement) for arrangement in _rearranged(binding.var, shape_of(binding.var), readers)}
        order = wanted.pop() if len(wanted) == 1 else None
        if order is not None:
            found[binding.var.name] = order
    return found


def _rearranged(var: relax.Var, shape: tuple[int, ...], readers: Readers) -> Iterator[Arrangement | None]:
    """How a map of a shape is rearranged behind what acts on each element alike; None where it is read as it is."""
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


def _order(arrangement: Arrangement | None) -> Order | None:
    """The order of the channels of what is rearranged in which those that stay channels come last; None as it is."""
    if arrangement is None or len(arrangement.source) != 4 or len(arrangement.shape) != 4:
        return None
    factors = arrangement.factors_of(1)
    if factors is None:
        return None
    stay = [i for i, (_, axis) in enumerate(factors) if axis == 1]
    order = (*(i for i in range(len(factors)) if i not in stay), *stay)
    return Order(tuple(extent for extent, _ in factors), order) if stay and order != tuple(sorted(order)) else None


@tvm.transform.module_pass(opt_level=0, name="OrderChannels")
class OrderChannels:
    """Put filters and input channels in an order in which whole vectors and words move."""

    def transform_module(self, module: tvm.IRModule, _context) -> tvm.IRModule:
        """Rewrite ``main``."""
        order_of = _orders(module["main"])
        return run_rewriter(lambda: _Orderer(order_of), module)
