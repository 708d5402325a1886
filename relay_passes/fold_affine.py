"""Fold: chains of affine maps with constant coefficients become one.

``affine(affine(x, a, b), c, d)  ==  affine(x, a*c, b*c + d)`` and the same for ``* c``, ``/ c``, ``+ d``, ``- d``
behind an affine map; products are taken in float64 and rounded once. Declines where the inner map has other readers (it
would be computed twice) and where neither of the pair is a ``bnn.affine``: the rounding of a lone addition or
multiplication of real values is kept, since a sign behind it may rest on it.
"""

from typing import Any

import numpy as np
import tvm
from tvm import relax

from tvm_bnn import ops
from tvm_bnn.relay_passes.fold_constants import is_constant, value_of
from tvm_bnn.relay_passes.readers import readers_of
from tvm_bnn.relay_passes.rewriter import DataflowRewriter, op_name, run_rewriter, shape_of

_OUTER = {"bnn.affine", "relax.multiply", "relax.divide", "relax.add", "relax.subtract"}


def coefficients(call: relax.Call) -> tuple[relax.Expr, Any, Any] | None:
    """(x, scale, shift) in float64 where a call is ``x * scale + shift`` with constants, else None."""
    name = op_name(call)
    if name == "bnn.affine" and is_constant(call.args[1]) and is_constant(call.args[2]):
        return call.args[0], value_of(call.args[1]).astype(np.float64), value_of(call.args[2]).astype(np.float64)
    if name not in _OUTER or name == "bnn.affine":
        return None
    data, constant = call.args
    if is_constant(data) and name in ("relax.multiply", "relax.add"):
        data, constant = constant, data
    if is_constant(data) or not is_constant(constant):
        return None
    value = value_of(constant).astype(np.float64)
    one, zero = np.ones_like(value), np.zeros_like(value)
    if name == "relax.divide":
        return (data, one / value, zero) if np.all(value) else None
    scale, shift = {"relax.multiply": (value, zero), "relax.add": (one, value), "relax.subtract": (one, -value)}[name]
    return data, scale, shift


class _Folder(DataflowRewriter):
    def __init__(self, readers: dict[str, int]) -> None:
        super().__init__()
        self.readers = readers

    def rewrite(self, call: relax.Call, name: str) -> relax.Expr | None:
        outer = coefficients(call)
        if outer is None or call.ty.dtype != "float32":
            return None
        inner_call = self.lookup(outer[0])
        if "bnn.affine" not in (op_name(call), op_name(inner_call)) or self.readers.get(outer[0].name, 0) > 1:
            return None
        inner = coefficients(inner_call) if isinstance(inner_call, relax.Call) else None
        if inner is None or shape_of(inner_call) != shape_of(call):
            return None
        data, scale, shift = inner
        folded = (scale * outer[1], shift * outer[1] + outer[2])
        rank = len(call.ty.shape)
        constants = (relax.const(np.float32(v).reshape((1,) * (rank - v.ndim) + v.shape)) for v in folded)
        return ops.affine(data, *constants)


@tvm.transform.module_pass(opt_level=0, name="FoldAffine")
class FoldAffine:
    """Merge constant affine maps that follow one another."""

    def transform_module(self, module: tvm.IRModule, _context) -> tvm.IRModule:
        """Rewrite ``main``."""
        readers = {var.name: len(reading) for var, reading in readers_of(module["main"]).items()}
        return run_rewriter(lambda: _Folder(readers), module)
