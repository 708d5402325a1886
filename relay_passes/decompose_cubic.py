"""Canonicalize: a cubic resize is two sums of four weighted copies, along the columns and then along the rows.

``y = sum_k w[k] * take(x, position[k])`` with the tables of the reference evaluator; each product and each sum is
rounded by itself. It comes behind ConvertBinary, which calls the whole an interpolation. Declines for other layouts
than NCHW, and where taps outside the image are excluded.
"""

from functools import reduce

import numpy as np
import tvm
from tvm import relax

from tvm_bnn.reference.resize import cubic_table
from tvm_bnn.relay_passes.rewriter import DataflowRewriter, op_name, run_rewriter, shape_of


class _Decomposer(DataflowRewriter):
    def rewrite(self, call: relax.Call, name: str) -> relax.Expr | None:
        if op_name(call) != "relax.image.resize2d" or str(call.attrs.method) != "cubic":
            return None
        if str(call.attrs.layout) != "NCHW" or int(call.attrs.cubic_exclude):
            return None
        result = call.args[0]
        for axis in (3, 2):
            result = self._along(axis, result, call)
        return result

    def _along(self, axis: int, data: relax.Expr, call: relax.Call) -> relax.Expr:
        size, out = shape_of(data)[axis], shape_of(call)[axis]
        mode, alpha = str(call.attrs.coordinate_transformation_mode), float(call.attrs.cubic_alpha)
        column = [-1 if i == axis else 1 for i in range(4)]
        parts = []
        for positions, weights in zip(*cubic_table(size, out, mode, alpha), strict=True):
            taken = self.emit(relax.op.take(data, relax.const(np.ascontiguousarray(positions)), axis), span=call.span)
            weighted = relax.op.multiply(taken, relax.const(weights.reshape(column)))
            parts.append(self.emit(weighted, span=call.span))
        return reduce(lambda total, part: self.emit(relax.op.add(total, part), span=call.span), parts)


@tvm.transform.module_pass(opt_level=0, name="DecomposeCubic")
class DecomposeCubic:
    """Replace cubic resizing by takes, products and sums."""

    def transform_module(self, module: tvm.IRModule, _context) -> tvm.IRModule:
        """Rewrite ``main``."""
        return run_rewriter(_Decomposer, module)
