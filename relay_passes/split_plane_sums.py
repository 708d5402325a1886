"""Fuse: a sum or mean over planes becomes sums of rows, and their sum.

The reference evaluator defines a sum over (y, x) as the sum of the rows' sums, so no bit changes. What makes the map
can then add up its rows while it has them, and the map is not read again. Small planes are left as they are.
"""

from math import prod

import numpy as np
import tvm
from tvm import relax

from tvm_bnn.relay_passes.rewriter import DataflowRewriter, dtype_of, op_name, run_rewriter, shape_of

#: Pixels of a plane that is read from the caches in less time than a kernel takes to begin.
_SMALL = 1 << 10


class _Splitter(DataflowRewriter):
    def rewrite(self, call: relax.Call, name: str) -> relax.Expr | None:
        if op_name(call) not in ("relax.mean", "relax.sum") or dtype_of(call) != "float32":
            return None
        data, keep = call.args[0], bool(call.attrs.keepdims)
        shape = shape_of(data)
        if len(shape) != 4 or call.attrs.axis is None or sorted(int(a) % 4 for a in call.attrs.axis) != [2, 3]:
            return None
        if prod(shape[2:]) < _SMALL or shape[3] < 2:
            return None
        rows = self.emit(relax.op.sum(data, [3], keepdims=True), f"{name}_rows", call.span)
        total = relax.op.sum(rows, [2, 3], keepdims=keep)
        if op_name(call) == "relax.sum":
            return total
        count = relax.const(np.float32(prod(shape[2:])))
        return relax.op.divide(self.emit(total, f"{name}_sum", call.span), count)


@tvm.transform.module_pass(opt_level=0, name="SplitPlaneSums")
class SplitPlaneSums:
    """Replace sums and means over large planes by sums of rows, and sums of those."""

    def transform_module(self, module: tvm.IRModule, _context) -> tvm.IRModule:
        """Rewrite ``main``."""
        return run_rewriter(_Splitter, module)
