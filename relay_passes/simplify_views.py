"""Canonicalize: rearrangements that change nothing, or undo each other, disappear.

``concat(x) -> x``; ``split(x, 1) -> x``; ``split(concat(a, b, ...))`` at the same places ``-> a, b, ...``; reshape,
permute, broadcast and resize to the same shape and order ``-> x``; ``mean(concat(a, b))`` over other axes
``-> concat(mean(a), mean(b))``, which is small. Declines for everything else.
"""

import tvm
from tvm import relax

from tvm_bnn.relay_passes.hoist_upsample import is_nearest
from tvm_bnn.relay_passes.rewriter import DataflowRewriter, op_name, run_rewriter, shape_of

#: Operators that reduce axes of a tensor.
REDUCTIONS = frozenset({"relax.mean", "relax.sum", "relax.max", "relax.min"})


def split_sizes(split: relax.Call) -> list[int]:
    """Extents of the pieces of a split, along its axis."""
    axis = int(split.attrs.axis)
    extent = shape_of(split.args[0])[axis]
    sections = split.attrs.indices_or_sections
    if isinstance(sections, int) or hasattr(sections, "value"):
        step = -(-extent // int(sections))
        ends = list(range(step, extent, step))
    else:
        ends = [int(end) for end in sections]
    return [end - begin for begin, end in zip([0, *ends], [*ends, extent], strict=True)]


class _Simplifier(DataflowRewriter):
    def rewrite(self, call: relax.Call, name: str) -> relax.Expr | None:
        kind = op_name(call)
        if kind == "relax.split":
            return self._split(call)
        if kind == "relax.concat" and len(call.args[0].fields) == 1:
            return call.args[0].fields[0]
        if kind in REDUCTIONS:
            return self._reduce(call)
        if kind in ("relax.reshape", "relax.broadcast_to") or is_nearest(call):
            return call.args[0] if shape_of(call.args[0]) == shape_of(call) else None
        if kind == "relax.permute_dims" and call.attrs.axes is not None:
            rank = len(shape_of(call))
            return call.args[0] if [int(a) % rank for a in call.attrs.axes] == list(range(rank)) else None
        return None

    def _split(self, call: relax.Call) -> relax.Expr | None:
        sizes = split_sizes(call)
        if len(sizes) == 1:
            field = call.args[0]
            return relax.Tuple([field]) if isinstance(call.ty, relax.TupleType) else field
        source = self.lookup(call.args[0])
        if op_name(source) != "relax.concat" or not isinstance(source.args[0], relax.Tuple):
            return None
        fields, axis = source.args[0].fields, int(call.attrs.axis)
        if axis != int(source.attrs.axis) or [shape_of(field)[axis] for field in fields] != sizes:
            return None
        return relax.Tuple(list(fields))

    def _reduce(self, call: relax.Call) -> relax.Expr | None:
        source = self.lookup(call.args[0])
        if op_name(source) != "relax.concat" or call.attrs.axis is None:
            return None
        rank = len(shape_of(call.args[0]))
        joined = int(source.attrs.axis) % rank
        axes = {int(a) % rank for a in call.attrs.axis}
        if joined in axes:
            return None
        reduced = (relax.Call(call.op, [f], call.attrs, call.ty_args, call.span) for f in source.args[0].fields)
        parts = [self.emit(part) for part in reduced]
        position = joined if call.attrs.keepdims else joined - sum(a < joined for a in axes)
        return relax.op.concat(parts, position)


@tvm.transform.module_pass(opt_level=0, name="SimplifyViews")
class SimplifyViews:
    """Remove rearrangements that cancel."""

    def transform_module(self, module: tvm.IRModule, _context) -> tvm.IRModule:
        """Rewrite ``main``."""
        return run_rewriter(_Simplifier, module)
