"""Whether an exact zero of a real tensor is to be expected, or a rare accident.

A sum of many different products is exactly 0 next to never. But counts are (3 % of the sums of 576 signs, 10 % of those
of 64), so is half of what a mask has multiplied, and the border that a padding has written. ``sign`` of such a tensor
has a third level that no convention may touch.
"""

from collections.abc import Callable

import numpy as np
from tvm import relax

from tvm_bnn.relay_passes.fold_constants import is_constant, value_of
from tvm_bnn.relay_passes.hoist_upsample import is_nearest
from tvm_bnn.relay_passes.rewriter import op_name

Lookup = Callable[[relax.Expr], relax.Expr]
Known = Callable[[relax.Expr], bool]

#: Operators whose values are counts.
_COUNTS = {"bnn.bconv2d", "bnn.bmatmul"}
_SUMS = {"relax.add", "relax.subtract"}
_AVERAGES = {"relax.nn.avg_pool2d", "relax.nn.adaptive_avg_pool2d", "relax.mean", "relax.sum"}
_PRODUCTS = {"relax.nn.conv2d", "relax.nn.conv2d_transpose", "relax.matmul"}
_KEEPS_ZERO = {
    "relax.reshape", "relax.permute_dims", "relax.expand_dims", "relax.squeeze", "relax.strided_slice",
    "relax.broadcast_to", "relax.flatten", "relax.take", "relax.tile", "relax.repeat", "relax.flip",
    "relax.nn.relu", "relax.negative", "relax.abs", "relax.astype", "relax.nn.max_pool2d", "relax.multiply",
    "relax.divide", "relax.where", "relax.concat", "relax.split", "relax.nn.pad", "relax.clip", "relax.maximum",
    "relax.minimum", "relax.tanh", "relax.nn.leakyrelu", "relax.square", "relax.sqrt",
}  # fmt: skip


def zero_is_common(expr: relax.Expr, lookup: Lookup, is_steps: Known, has_zero: Known) -> bool:
    """Whether exact zeros of a tensor are common.

    lookup : what a variable is bound to. is_steps : whether a tensor has few levels (a sum of such cancels).
    has_zero : whether 0 is one of these, whatever a convention says.
    """
    return _Walk(lookup, is_steps, has_zero).is_common(expr)


class _Walk:
    def __init__(self, lookup: Lookup, is_steps: Known, has_zero: Known) -> None:
        self.lookup, self.is_steps, self.has_zero = lookup, is_steps, has_zero
        self._known: dict[tuple[str, relax.Var], bool] = {}

    def is_common(self, expr: relax.Expr) -> bool:
        """On a grid, or written by relu, a mask or a padding, and kept since."""
        return self._remembered("common", expr, self._is_common)

    def _remembered(self, what: str, expr: relax.Expr, decide: Callable[[relax.Expr], bool]) -> bool:
        if not isinstance(expr, relax.Var):
            return decide(expr)
        if (what, expr) not in self._known:
            self._known[what, expr] = decide(expr)
        return self._known[what, expr]

    def _is_common(self, expr: relax.Expr) -> bool:
        definition = self.lookup(expr)
        if isinstance(expr, relax.Var) and self.is_steps(expr):
            return self.has_zero(expr)
        if self._on_grid(expr) or _writes_zero(definition):
            return True
        if op_name(definition) in _SUMS:  # of what relu or a mask has written: where all of them have one
            operands = tensor_operands(definition)
            return len(operands) == len(definition.args) and all(self.is_common(operand) for operand in operands)
        return keeps_zero(definition) and any(self.is_common(operand) for operand in tensor_operands(definition))

    def _on_grid(self, expr: relax.Expr) -> bool:
        """Whether values lie on a coarse grid that 0 is on, so that sums of them cancel exactly."""
        return self._remembered("grid", expr, self._decide_grid)

    def _decide_grid(self, expr: relax.Expr) -> bool:
        definition = self.lookup(expr)
        name = op_name(definition)
        if name in _COUNTS or self.is_steps(expr):
            return True
        if name == "bnn.affine":  # a scale alone keeps the grid; a shift may move it
            count, scale, shift = definition.args
            return _in_step(value_of(shift), value_of(scale)) and self._on_grid(count)
        if name in _SUMS:
            return all(self._on_grid(operand) for operand in definition.args) or self._beside_border(definition)
        if name in _AVERAGES:
            return self._on_grid(definition.args[0])
        if name in _PRODUCTS:  # a count, whether it is converted or not
            return all(_one_magnitude(o) if is_constant(o) else self._on_grid(o) for o in definition.args[:2])
        every = all if name == "relax.multiply" else any
        operands = tensor_operands(definition)
        return keeps_zero(definition) and bool(operands) and every(self._on_grid(operand) for operand in operands)

    def _beside_border(self, added: relax.Call) -> bool:
        """The sum of a count and of what its border lacks, which is another shift a border class."""
        count, border = (self.lookup(operand) for operand in added.args)
        if op_name(count) != "bnn.affine" or op_name(border) != "bnn.border_bias":
            return False
        shift, scale = value_of(border.args[0]), value_of(count.args[1])
        return self._on_grid(added.args[0]) and _in_step(shift, scale.reshape(-1, 1, 1))


def tensor_operands(expr: relax.Expr) -> list[relax.Expr]:
    """The variable tensors that an expression reads, tuples opened; the condition of a where is none of them."""
    if isinstance(expr, relax.TupleGetItem):
        return [expr.tuple_value]
    if not isinstance(expr, relax.Call):
        return []
    arguments = expr.args[1:] if op_name(expr) == "relax.where" else expr.args
    opened = [field for a in arguments for field in (a.fields if isinstance(a, relax.Tuple) else [a])]
    return [operand for operand in opened if isinstance(operand, relax.Var)]


def keeps_zero(expr: relax.Expr) -> bool:
    """Whether an operator turns a zero into a zero."""
    return isinstance(expr, relax.TupleGetItem) or op_name(expr) in _KEEPS_ZERO or is_nearest(expr)


def _writes_zero(expr: relax.Expr) -> bool:
    """Whether an operator puts exact zeros where its operands had none."""
    name = op_name(expr)
    if name == "relax.nn.relu":
        return True
    if name == "relax.nn.pad":
        return float(expr.attrs.pad_value) == 0.0
    if name == "relax.clip":
        return any(float(bound.value) == 0.0 for bound in expr.args[1:])
    if name in ("relax.maximum", "relax.minimum", "relax.where"):
        return any(is_constant(a) and not np.all(value_of(a)) for a in expr.args[-2:])
    return False


def _in_step(shift: np.ndarray, scale: np.ndarray) -> bool:
    """Whether each shift is a whole multiple of half its scale, as of sums of {0, 1} or of {-1/2, 3/2}.

    Half, because counts of an even and of an odd number of signs lie on even and on odd numbers, and add up.
    """
    halves = 2 * shift.astype(np.float64)
    nearest = np.rint(halves / np.where(scale, scale, 1)) * scale
    return bool(np.all(np.abs(halves - nearest) <= 1e-6 * np.maximum(np.abs(scale), np.abs(halves))))


def _one_magnitude(constant: relax.Expr) -> bool:
    return len(np.unique(np.abs(value_of(constant)))) == 1
