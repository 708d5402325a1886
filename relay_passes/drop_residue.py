"""Canonicalize: the residue of a straight-through estimator disappears.

For the sake of its gradient, training code writes ``S.detach() - t.detach() + t`` where it means S: forwards, t
cancels. Exporting drops the detach, and ``(S - t) + t`` stays in the graph, where it rounds. The same sum in its other
orders:

    (S - t) + t,  t + (S - t),  S + (t - t),  (t - t) + S,  t - (t - S)   ->   S

t is often an expression written twice (a polynomial, tanh, clip), so that equal operators on equal operands count as
one value. Declines where t is a single number: ``(x - c) + c`` with a large c is a way to round on purpose.
"""

import numpy as np
import tvm
import tvm_ffi
from tvm import relax

from tvm_bnn.relay_passes.fold_constants import is_constant, value_of
from tvm_bnn.relay_passes.rewriter import DataflowRewriter, op_name, run_rewriter, shape_of


class _Dropper(DataflowRewriter):
    def __init__(self) -> None:
        super().__init__()
        self._same: dict[tuple[relax.Expr, relax.Expr], bool] = {}

    def rewrite(self, call: relax.Call, name: str) -> relax.Expr | None:
        kept = None
        if op_name(call) == "relax.add":
            first, second = call.args
            kept = self._from_sum(first, second)
            kept = self._from_sum(second, first) if kept is None else kept
        elif op_name(call) == "relax.subtract":
            kept = self._from_difference(*call.args)
        # broadcasting may have widened the sum
        return kept if kept is not None and shape_of(kept) == shape_of(call) else None

    def _from_sum(self, first: relax.Expr, second: relax.Expr) -> relax.Expr | None:
        """S of ``(S - t) + t`` or of ``(t - t) + S``."""
        difference = self.lookup(first)
        if op_name(difference) != "relax.subtract":
            return None
        minuend, residue = difference.args
        if not _may_vary(residue):
            return None
        if self.same(residue, second):
            return minuend
        return second if self.same(minuend, residue) else None

    def _from_difference(self, residue: relax.Expr, second: relax.Expr) -> relax.Expr | None:
        """S of ``t - (t - S)``."""
        difference = self.lookup(second)
        if op_name(difference) != "relax.subtract" or not _may_vary(residue):
            return None
        return difference.args[1] if self.same(difference.args[0], residue) else None

    def same(self, a: relax.Expr, b: relax.Expr) -> bool:
        """Whether two expressions are one value: the same variable, or equal operators on the same values."""
        if a.same_as(b):
            return True
        if is_constant(a) and is_constant(b):
            return shape_of(a) == shape_of(b) and np.array_equal(value_of(a), value_of(b))
        if not (isinstance(a, relax.Var) and isinstance(b, relax.Var)):
            return bool(tvm_ffi.structural_equal(a, b))
        if (a, b) not in self._same:
            self._same[a, b] = self._same_call(self.lookup(a), self.lookup(b))
        return self._same[a, b]

    def _same_call(self, a: relax.Expr, b: relax.Expr) -> bool:
        if not (isinstance(a, relax.Call) and isinstance(b, relax.Call)):
            return False
        return (
            a.op.same_as(b.op)
            and len(a.args) == len(b.args)
            and bool(tvm_ffi.structural_equal(a.attrs, b.attrs))
            and all(self.same(x, y) for x, y in zip(a.args, b.args, strict=True))
        )


def _may_vary(residue: relax.Expr) -> bool:
    return not (is_constant(residue) and value_of(residue).size == 1)


@tvm.transform.module_pass(opt_level=0, name="DropResidue")
class DropResidue:
    """Replace straight-through sums by the value that they forward."""

    def transform_module(self, module: tvm.IRModule, _context) -> tvm.IRModule:
        """Rewrite ``main``."""
        return run_rewriter(_Dropper, module)
