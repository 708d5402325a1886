"""Canonicalize: an inference batch normalisation is one affine map per channel.

``(x - mean) / sqrt(var + eps) * gamma + beta  ==  x * a + b`` with
``a = gamma / sqrt(var + eps)`` and ``b = beta - mean * a``, both computed in float64 and rounded once. Declines where a
parameter is not constant, and where the statistics are measured on the input (training graphs).
"""

import numpy as np
import tvm
from tvm import relax

from tvm_bnn import ops
from tvm_bnn.relay_passes.fold_constants import is_constant, value_of
from tvm_bnn.relay_passes.rewriter import DataflowRewriter, op_name, run_rewriter


class _Decomposer(DataflowRewriter):
    def rewrite(self, call: relax.Call, name: str) -> relax.Expr | None:
        if op_name(call) != "relax.nn.batch_norm" or call.attrs.training:
            return None
        if not all(is_constant(parameter) for parameter in call.args[1:]):
            return None
        data = call.args[0]
        gamma, beta, mean, variance = (value_of(p).astype(np.float64) for p in call.args[1:])
        scale = (gamma if call.attrs.scale else 1.0) / np.sqrt(variance + float(call.attrs.epsilon))
        shift = (beta if call.attrs.center else 0.0) - mean * scale
        shape = [1] * len(data.ty.shape)
        shape[int(call.attrs.axis)] = -1
        constants = (relax.const(np.float32(v).reshape(shape)) for v in (scale, shift))
        normalised = self.emit(ops.affine(data, *constants), name, call.span)
        return relax.Tuple([normalised, call.args[3], call.args[4]])


@tvm.transform.module_pass(opt_level=0, name="DecomposeBatchNorm")
class DecomposeBatchNorm:
    """Replace inference batch normalisation by ``bnn.affine``."""

    def transform_module(self, module: tvm.IRModule, _context) -> tvm.IRModule:
        """Rewrite ``main``."""
        return run_rewriter(_Decomposer, module)
