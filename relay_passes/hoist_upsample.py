"""Hoist: what is done to each pixel of a nearest-upsampled map is done before the upsampling.

``f(up(x), c)  ==  up(f(x, c))`` for elementwise f and a c that is constant over the plane. Signs, thresholds and
activations then run at the low resolution and only bits are repeated. Two maps upsampled in the same way combine before
the upsampling too. Declines where an operand varies over the high-resolution plane.

A convolution with one tap, without stride and padding, reads of each pixel that pixel alone, so it moves as well.
"""

from math import prod

import tvm
import tvm_ffi
from tvm import relax

from tvm_bnn import ops
from tvm_bnn.relay_passes.elementwise import ELEMENTWISE
from tvm_bnn.relay_passes.fold_constants import is_constant
from tvm_bnn.relay_passes.rewriter import DataflowRewriter, op_name, run_rewriter, shape_of


def is_nearest(expr: relax.Expr) -> bool:
    """Whether expr is a nearest-neighbour resize."""
    return op_name(expr) == "relax.image.resize2d" and str(expr.attrs.method) == "nearest_neighbor"


def _is_flat(expr: relax.Expr) -> bool:
    """Whether an operand is the same for all pixels of a plane: a literal, or extents of 1."""
    return not isinstance(expr.ty, relax.TensorType) or all(extent == 1 for extent in shape_of(expr)[-2:])


class _Hoister(DataflowRewriter):
    def rewrite(self, call: relax.Call, name: str) -> relax.Expr | None:
        if is_pointwise(call):
            resize = self.lookup(call.args[0])
            return self._before(call, resize, [resize.args[0], call.args[1]]) if _enlarges(resize) else None
        if op_name(call) not in ELEMENTWISE or len(shape_of(call)) != 4:
            return None
        definitions = [self.lookup(argument) for argument in call.args]
        resizes = [d for d in definitions if is_nearest(d)]
        others = [a for d, a in zip(definitions, call.args, strict=True) if not is_nearest(d)]
        if not resizes or not all(_is_flat(other) for other in others):
            return None
        first = resizes[0]
        if any(not _same_resize(first, other) for other in resizes) or shape_of(first) != shape_of(call):
            return None
        return self._before(
            call, first, [d.args[0] if is_nearest(d) else a for d, a in zip(definitions, call.args, strict=True)]
        )

    def _before(self, call: relax.Call, resize: relax.Call, operands: list[relax.Expr]) -> relax.Call:
        """An operator of such operands, resized."""
        inner = self.emit(relax.Call(call.op, operands, call.attrs, call.ty_args, call.span), span=call.span)
        return relax.Call(resize.op, [inner, *resize.args[1:]], resize.attrs, resize.ty_args, resize.span)


def is_pointwise(call: relax.Call) -> bool:
    """Whether a call is a convolution with constant weights whose results read one pixel each, at their own place."""
    if op_name(call) not in ("bnn.bconv2d", "relax.nn.conv2d") or not is_constant(call.args[1]):
        return False
    made = ops.BConv2DAttrs.from_call if op_name(call) == "bnn.bconv2d" else ops.BConv2DAttrs.from_conv2d
    geometry = made(call.attrs)
    return shape_of(call.args[1])[2:] == (1, 1) and geometry.strides == (1, 1) and not any(geometry.padding)


def _enlarges(resize: relax.Expr) -> bool:
    """Whether a resize makes more pixels than it reads."""
    return is_nearest(resize) and prod(shape_of(resize)) > prod(shape_of(resize.args[0]))


def _same_resize(a: relax.Call, b: relax.Call) -> bool:
    return shape_of(a.args[0])[2:] == shape_of(b.args[0])[2:] and tvm_ffi.structural_equal(a.attrs, b.attrs)


@tvm.transform.module_pass(opt_level=0, name="HoistUpsample")
class HoistUpsample:
    """Move nearest upsampling behind the elementwise operators that follow it."""

    def transform_module(self, module: tvm.IRModule, _context) -> tvm.IRModule:
        """Rewrite ``main``."""
        return run_rewriter(_Hoister, module)
