"""Sink: what follows a sum of bits element by element acts on it before it is rearranged, and rearrangements shrink.

``f(view(x), view(y), c)  ==  view(f(x, y, c'))`` for reshape and permute, with the constant c rearranged back, where x
is made of integer sums by elementwise operators (or batch normalisation) alone; ``f(concat(x, y))`` along channels is
``concat(f(x), f(y))``. Where views make blocks of pixels of channels (pixel shuffle, phases of a transposed
convolution), a nearest-upsampled operand is the small map, repeated along the channels.

Importers write attention with a transposition here and a reshape there, and the phases of a transposed convolution
interleave: behind this pass, sums are scaled, compared and packed as a layer leaves them. Chains of reshapes and
permutations become the shortest that means the same, often none.

Declines where operands are rearranged differently, and where a constant would vary over more than the channels.
"""

import numpy as np
import tvm
from tvm import relax

from tvm_bnn.relay_passes.arrangement import Arrangement, cut, is_arrangement
from tvm_bnn.relay_passes.elementwise import ELEMENTWISE
from tvm_bnn.relay_passes.fold_constants import is_constant, value_of
from tvm_bnn.relay_passes.hoist_upsample import is_nearest
from tvm_bnn.relay_passes.rewriter import DataflowRewriter, op_name, run_rewriter, shape_of

_SUMS = frozenset({"bnn.bconv2d", "bnn.bmatmul", "bnn.weighted_mean"})


class _Sinker(DataflowRewriter):
    def __init__(self) -> None:
        super().__init__()
        self._arranged: dict[relax.Var, tuple[relax.Expr, Arrangement]] = {}
        self._of_sums: set[relax.Var] = set()

    def rewrite(self, call: relax.Call, name: str) -> relax.Expr | None:
        if is_arrangement(call):
            return self._shortest(call)
        if op_name(call) in ELEMENTWISE:
            return self._sunk(call)
        if op_name(call) == "relax.nn.batch_norm":
            return self._normalised(call)
        return None

    def emit(self, expr: relax.Expr, name: str = "", span: tvm.ir.Span | None = None) -> relax.Expr:
        var = super().emit(expr, name, span)
        if isinstance(var, relax.Var):
            self._note(var, expr)
        return var

    def _note(self, var: relax.Var, expr: relax.Expr) -> None:
        if op_name(expr) in _SUMS:
            self._of_sums.add(var)
        elif op_name(expr) in ELEMENTWISE:
            if any(argument in self._of_sums and shape_of(argument) == shape_of(var) for argument in expr.args):
                self._of_sums.add(var)
        elif isinstance(expr, relax.TupleGetItem):
            normalised = self.lookup(expr.tuple_value)
            if op_name(normalised) == "relax.nn.batch_norm" and normalised.args[0] in self._of_sums:
                self._of_sums.add(var)
        elif is_arrangement(expr):
            source, before = self._source(expr.args[0])
            after = before.then(expr, shape_of(var))
            if after is None:
                source, after = expr.args[0], Arrangement.identity(shape_of(expr.args[0])).then(expr, shape_of(var))
            assert after is not None
            self._arranged[var] = (source, after)

    def _source(self, expr: relax.Expr) -> tuple[relax.Expr, Arrangement]:
        """What a value is a rearrangement of, and how."""
        known = self._arranged.get(expr) if isinstance(expr, relax.Var) else None
        return known or (expr, Arrangement.identity(shape_of(expr)))

    def _shortest(self, call: relax.Call) -> relax.Expr | None:
        source, before = self._source(call.args[0])
        after = before.then(call, shape_of(call))
        if after is None or source is call.args[0]:
            return None
        return after.applied(source, lambda expr: self.emit(expr, span=call.span))

    # --- before rearrangements ------------------------------------------------------------------------------------

    def _sunk(self, call: relax.Call) -> relax.Expr | None:
        variables = [a for a in call.args if isinstance(a, relax.Var)]
        moved = [a for a in variables if not is_nearest(self.lookup(a))]
        arrangement = self._common(moved, shape_of(call))
        if arrangement is None:
            return None
        channels = self._channels(moved[0])
        arguments = []
        for argument in call.args:
            if isinstance(argument, relax.Var) and argument not in moved:
                before = self._before_repetition(arrangement, channels, self.lookup(argument))
                if before is None:
                    return None
                arguments.append(before)
            elif isinstance(argument, relax.Var):
                arguments.append(self._fields(self._source(argument)[0]))
            elif not is_constant(argument) or value_of(argument).size == 1:
                arguments.append([argument])
            else:
                constant = _taken_back(arrangement, value_of(argument))
                if constant is None:
                    return None
                arguments.append([relax.const(part) for part in cut(constant, channels, axis=1)])
        parts = [
            self.emit(relax.Call(call.op, [a[i % len(a)] for a in arguments], call.attrs, call.ty_args, call.span))
            for i in range(len(channels))
        ]
        return self._rejoined(parts, arrangement, call)

    def _normalised(self, call: relax.Call) -> relax.Expr | None:
        """Constant batch normalisation of channels, whose parameters are taken back like other constants."""
        data, *parameters = call.args
        whole = shape_of(data)
        if int(call.attrs.axis) != 1 or call.attrs.training or not all(is_constant(p) for p in parameters):
            return None
        arrangement = self._common([data], whole)
        if arrangement is None:
            return None
        taken = [_taken_back(arrangement, value_of(p).reshape(1, -1, *(1,) * (len(whole) - 2))) for p in parameters]
        if any(values is None for values in taken):
            return None
        fields, channels = self._fields(self._source(data)[0]), self._channels(data)
        split = [cut(np.broadcast_to(v.reshape(-1), sum(channels)), channels, axis=0) for v in taken if v is not None]
        parts = []
        for field, *own in zip(fields, *split, strict=True):
            constants = [relax.const(values) for values in own]
            normal = self.emit(relax.Call(call.op, [field, *constants], call.attrs, call.ty_args, call.span))
            parts.append(self.emit(relax.TupleGetItem(normal, 0)))
        result = self.emit(self._rejoined(parts, arrangement, call), span=call.span)
        return relax.Tuple([result, *parameters[2:]])

    def _common(self, moved: list[relax.Var], shape: tuple[int, ...]) -> Arrangement | None:
        """How all operands are rearranged alike, if they are and come from sums."""
        if not moved or any(shape_of(a) != shape for a in moved):
            return None
        sources = [self._source(a) for a in moved]
        arrangement, channels = sources[0][1], self._channels(moved[0])
        if arrangement.source == arrangement.shape and not arrangement.moves and len(channels) == 1:
            return None
        for a, (source, other) in zip(moved, sources, strict=True):
            if other != arrangement or self._channels(a) != channels:
                return None
            if any(field not in self._of_sums for field in self._fields(source)):
                return None
        return arrangement

    def _before_repetition(
        self, arrangement: Arrangement, channels: list[int], resize: relax.Call
    ) -> list[relax.Expr] | None:
        """What a nearest resize repeats, a field of so many channels each, where pixels of the source are its own."""
        own = shape_of(resize.args[0])[1]
        if any(count % own for count in channels) or not _makes_pixels(arrangement, shape_of(resize.args[0])):
            return None
        tiles = {count: self.emit(relax.op.tile(resize.args[0], (1, count // own, 1, 1))) for count in channels}
        return [tiles[count] if count > own else resize.args[0] for count in channels]

    def _fields(self, source: relax.Expr) -> list[relax.Expr]:
        """What a value joins along the channels; itself where it joins nothing."""
        joined = self.lookup(source)
        is_joined = op_name(joined) == "relax.concat" and int(joined.attrs.axis) == 1
        return list(joined.args[0].fields) if is_joined and isinstance(joined.args[0], relax.Tuple) else [source]

    def _channels(self, var: relax.Var) -> list[int]:
        """Extents along axis 1 of the fields behind a value."""
        fields = self._fields(self._source(var)[0])
        return [shape_of(field)[1] if len(shape_of(field)) > 1 else 1 for field in fields]

    def _rejoined(self, parts: list[relax.Expr], arrangement: Arrangement, call: relax.Call) -> relax.Expr:
        whole = parts[0] if len(parts) == 1 else self.emit(relax.op.concat(parts, 1), span=call.span)
        return arrangement.applied(whole, lambda expr: self.emit(expr, span=call.span))


def _taken_back(arrangement: Arrangement, value: np.ndarray) -> np.ndarray | None:
    """A constant of the rearranged tensor as one of its source, [1, C or 1, 1, ...]; None where it needs more axes."""
    before = arrangement.taken_back(value.reshape((1,) * (len(arrangement.shape) - value.ndim) + value.shape))
    if before is None:
        return None
    return before if all(extent == 1 for axis, extent in enumerate(before.shape) if axis != 1) else None


def _makes_pixels(arrangement: Arrangement, small: tuple[int, ...]) -> bool:
    """Whether each pixel of a small map becomes a block of pixels, whose channels lie together in its channels."""
    if len(arrangement.source) != 4 or len(arrangement.shape) != 4 or small[1] != arrangement.shape[1]:
        return False
    batch, channels, *plane = small
    if (arrangement.source[0], *arrangement.source[2:]) != (batch, *plane):
        return False
    scale = [large // extent for large, extent in zip(arrangement.shape[2:], plane, strict=True)]
    for axis, extent in enumerate(arrangement.shape):
        index: list = [0] * 4
        index[axis] = np.arange(extent)
        place = arrangement.place(index)
        if place is None:
            return False
        expected = list(index)
        if axis > 1:
            expected[1], expected[axis] = place[1] - place[1] % channels, index[axis] // scale[axis - 2]
        if any(np.any(mine != its) for mine, its in zip(place, expected, strict=True)):
            return False
    return True


@tvm.transform.module_pass(opt_level=0, name="SinkViews")
class SinkViews:
    """Move what follows sums before their rearrangements, and shorten those."""

    def transform_module(self, module: tvm.IRModule, _context) -> tvm.IRModule:
        """Rewrite ``main``."""
        return run_rewriter(_Sinker, module)
