"""Analysis: which tensors hold only two values, which two, and which predicate picks between them.

A tensor is *two-level* when every element is ``high`` where a predicate holds and ``low`` elsewhere. The analysis
proves this by walking up from a tensor to a comparison, through operators that keep it:

* ``where(p, a, b)`` with constant a, b: the comparison itself, levels a and b; a cast of p: levels 1 and 0;
* ``sign(x)`` of a real tensor: +-1 by the convention that the caller chose for 0;
* a function of one value (relu, clip, negation, + or * a constant ...): the same predicate, mapped levels;
* a rearrangement (reshape, permute, slice, split, concat of equal levels, nearest resize): the same levels, the
  rearranged predicate, so that later stages only ever move bits;
* max-pooling: the pooled predicate, where high > low.

Anything else is real, with the reason in words for the model's author.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from tvm import relax

from tvm_bnn.reference import evaluate_call
from tvm_bnn.relay_passes.fold_constants import is_constant, value_of
from tvm_bnn.relay_passes.hoist_upsample import is_nearest
from tvm_bnn.relay_passes.rewriter import DataflowRewriter, dtype_of, op_name, path_of, shape_of


@dataclass(frozen=True)
class TwoLevel:
    """``high`` where ``bits`` holds, ``low`` elsewhere; bits is emitted only when someone asks for it."""

    low: float
    high: float
    bits: Callable[[], relax.Expr]


@dataclass(frozen=True)
class Real:
    """Not provably two-level, and why."""

    reason: str


Alphabet = TwoLevel | Real

_UNARY = {
    "relax.nn.relu", "relax.negative", "relax.abs", "relax.clip", "relax.astype", "relax.sign", "relax.tanh",
    "relax.nn.leakyrelu", "relax.round", "relax.sqrt", "relax.square", "relax.exp", "relax.sigmoid",
}  # fmt: skip
_BINARY = {"relax.add", "relax.subtract", "relax.multiply", "relax.divide", "relax.maximum", "relax.minimum"}
_VIEWS = {
    "relax.reshape", "relax.permute_dims", "relax.expand_dims", "relax.squeeze", "relax.strided_slice",
    "relax.broadcast_to", "relax.flatten", "relax.take", "relax.tile", "relax.repeat",
}  # fmt: skip
#: Operators whose values are counts, so that an exact zero is common.
_DISCRETE = {"bnn.bconv2d"}
_SUMS = {"relax.add", "relax.subtract"}
_AVERAGES = {"relax.nn.avg_pool2d", "relax.nn.adaptive_avg_pool2d", "relax.mean", "relax.sum"}
_PRODUCTS = {"relax.nn.conv2d", "relax.nn.conv2d_transpose", "relax.matmul"}
_KEEPS_ZERO = _VIEWS | {
    "relax.nn.relu", "relax.negative", "relax.abs", "relax.astype", "relax.nn.max_pool2d", "relax.multiply",
    "relax.where", "relax.concat", "relax.split", "relax.nn.pad", "relax.clip", "relax.maximum", "relax.minimum",
}  # fmt: skip


class AlphabetAnalysis:
    """Alphabets of the values that a rewriter has emitted so far.

    sign_zero : what ``sign(0)`` of a real tensor becomes, "plus" or "minus".
    guessed : module paths where that convention was used, in order.
    """

    def __init__(self, rewriter: DataflowRewriter, sign_zero: str = "plus") -> None:
        if sign_zero not in ("plus", "minus"):
            raise ValueError(f"sign_zero is {sign_zero!r}; plus and minus are accepted")
        self._rewriter = rewriter
        self._known: dict[relax.Var, Alphabet] = {}
        self._emitted: dict[tuple[relax.Var, str], relax.Expr] = {}
        self._rules: dict[str, Callable[[relax.Var, relax.Call], Alphabet]] = {
            **dict.fromkeys(_UNARY, self._unary),
            **dict.fromkeys(_BINARY, self._binary),
            **dict.fromkeys(_VIEWS, self._view),
            "relax.where": self._where,
            "relax.sign": self._sign,
            "relax.nn.max_pool2d": self._max_pool,
            "relax.concat": self._concat,
        }
        self.sign_zero = sign_zero
        self.guessed: list[str] = []

    def of(self, expr: relax.Expr) -> Alphabet:
        """The alphabet of a value."""
        if not isinstance(expr, relax.Var):
            return Real("a constant")
        if expr not in self._known:
            self._known[expr] = self._derive(expr)
        return self._known[expr]

    def _derive(self, var: relax.Var) -> Alphabet:
        definition = self._rewriter.lookup(var)
        if definition is var:
            return Real("the input of the model is real-valued")
        if isinstance(definition, relax.TupleGetItem):
            return self._split(var, definition)
        rule = self._view if is_nearest(definition) else self._rules.get(op_name(definition))
        return rule(var, definition) if rule else Real(f"{_where_from(definition)} is real-valued")

    def _emit(self, key: relax.Var, what: str, make: Callable[[], relax.Expr], like: relax.Call) -> relax.Expr:
        if (key, what) not in self._emitted:
            self._emitted[key, what] = self._rewriter.emit(make(), span=like.span)
        return self._emitted[key, what]

    def _where(self, _var: relax.Var, call: relax.Call) -> Alphabet:
        condition, high, low = call.args
        levels = [_scalar(self._rewriter.lookup(level)) for level in (low, high)]
        if levels[0] is None or levels[1] is None or shape_of(condition) != shape_of(call):
            return Real(f"{_where_from(call)} chooses between values that are not two constants")
        return TwoLevel(levels[0], levels[1], lambda: condition)

    def _sign(self, _var: relax.Var, call: relax.Call) -> Alphabet:
        data = call.args[0]
        inner = self.of(data)
        if isinstance(inner, TwoLevel):
            return self._mapped(call, 0)
        if self._zero_is_common(data):
            return Real(
                f"{_where_from(call)} takes the sign of a discrete value, which can be exactly 0: write "
                "torch.where(x >= 0, 1., -1.) to choose a sign for it"
            )

        def bits() -> relax.Expr:
            self.guessed.append(path_of(call) or "the model")
            zero = relax.const(0.0, dtype_of(data))
            compare = relax.op.greater_equal if self.sign_zero == "plus" else relax.op.greater
            return compare(data, zero)

        return TwoLevel(-1.0, 1.0, lambda: self._emit(data, f"sign {self.sign_zero}", bits, call))

    def _is_discrete(self, expr: relax.Expr) -> bool:
        """Whether values lie on a coarse grid, so that sums of them cancel exactly."""
        definition = self._rewriter.lookup(expr)
        name = op_name(definition)
        if name in _DISCRETE or isinstance(self.of(expr), TwoLevel):
            return True
        if name == "bnn.affine":  # a scale alone keeps the grid through 0; a shift moves it
            return not np.any(value_of(definition.args[2])) and self._is_discrete(definition.args[0])
        if name in _SUMS:
            return all(self._is_discrete(operand) for operand in definition.args)
        if name in _AVERAGES:
            return self._is_discrete(definition.args[0])
        if name in _PRODUCTS:  # a count, whether it is converted or not
            return all(_one_magnitude(o) if is_constant(o) else self._is_discrete(o) for o in definition.args)
        every = all if name == "relax.multiply" else any
        return _keeps_zero(definition) and every(self._is_discrete(operand) for operand in _operands(definition))

    def _zero_is_common(self, expr: relax.Expr) -> bool:
        """Whether an exact zero is no rare accident: on a grid, or written by relu, a mask or a padding."""
        definition, alphabet = self._rewriter.lookup(expr), self.of(expr)
        if isinstance(alphabet, TwoLevel):
            return 0.0 in (alphabet.low, alphabet.high)
        if self._is_discrete(expr) or _writes_zero(definition):
            return True
        return _keeps_zero(definition) and any(self._zero_is_common(operand) for operand in _operands(definition))

    def _unary(self, _var: relax.Var, call: relax.Call) -> Alphabet:
        if op_name(call) == "relax.astype" and dtype_of(call.args[0]) == "bool":
            return TwoLevel(0.0, 1.0, lambda: call.args[0])
        return self._mapped(call, 0)

    def _mapped(self, call: relax.Call, position: int) -> Alphabet:
        inner = self.of(call.args[position])
        if isinstance(inner, Real):
            return inner
        levels = []
        for level in (inner.low, inner.high):
            arguments = [value_of(a) if is_constant(a) else a for a in call.args]
            arguments[position] = np.full((1,) * len(call.args[position].ty.shape), level, np.float32)
            result = np.asarray(evaluate_call(call, arguments))
            if result.size != 1 and np.ptp(result) != 0:
                return Real(f"{_where_from(call)} gives each channel its own levels")
            if not np.all(np.isfinite(result)):
                return Real(f"{_where_from(call)} turns a level into {result.flat[0]}")
            levels.append(float(result.flat[0]))
        return replace(inner, low=levels[0], high=levels[1])

    def _binary(self, _var: relax.Var, call: relax.Call) -> Alphabet:
        constant = [is_constant(a) for a in call.args]
        if not any(constant):
            return Real(f"{_where_from(call)} combines two tensors, so more than two values are possible")
        position = 1 if constant[0] else 0
        if shape_of(call.args[position]) != shape_of(call):
            return Real(f"{_where_from(call)} broadcasts its operand")
        return self._mapped(call, position)

    def _view(self, var: relax.Var, call: relax.Call) -> Alphabet:
        inner = self.of(call.args[0])
        if isinstance(inner, Real):
            return inner

        def moved() -> relax.Expr:
            return relax.Call(call.op, [inner.bits(), *call.args[1:]], call.attrs, call.ty_args, call.span)

        return replace(inner, bits=lambda: self._emit(var, "bits", moved, call))

    def _max_pool(self, var: relax.Var, call: relax.Call) -> Alphabet:
        inner = self.of(call.args[0])
        if isinstance(inner, TwoLevel) and inner.high < inner.low:
            return Real(f"{_where_from(call)} pools a tensor whose larger level is the False one")
        return self._view(var, call)

    def _concat(self, var: relax.Var, call: relax.Call) -> Alphabet:
        fields = list(call.args[0].fields) if isinstance(call.args[0], relax.Tuple) else []
        parts = [self.of(field) for field in fields]
        for part in parts:
            if isinstance(part, Real):
                return part
        known = [part for part in parts if isinstance(part, TwoLevel)]
        if not known or any((p.low, p.high) != (known[0].low, known[0].high) for p in known):
            return Real(f"{_where_from(call)} joins tensors with different levels")

        def joined() -> relax.Expr:
            return relax.op.concat([part.bits() for part in known], int(call.attrs.axis))

        return replace(known[0], bits=lambda: self._emit(var, "bits", joined, call))

    def _split(self, var: relax.Var, item: relax.TupleGetItem) -> Alphabet:
        split = self._rewriter.lookup(item.tuple_value)
        if op_name(split) != "relax.split":
            return Real(f"{_where_from(split)} is real-valued")
        inner = self.of(split.args[0])
        if isinstance(inner, Real):
            return inner

        def pieces() -> relax.Expr:
            return relax.Call(split.op, [inner.bits()], split.attrs, split.ty_args, split.span)

        def piece() -> relax.Expr:
            parts = self._emit(item.tuple_value, "bits", pieces, split)
            return relax.TupleGetItem(parts, item.index)

        return replace(inner, bits=lambda: self._emit(var, "bits", piece, split))


def _operands(expr: relax.Expr) -> list[relax.Expr]:
    """The variable tensors that an expression reads, tuples opened; the condition of a where is none of them."""
    if isinstance(expr, relax.TupleGetItem):
        return [expr.tuple_value]
    arguments = expr.args[1:] if op_name(expr) == "relax.where" else expr.args
    opened = [field for a in arguments for field in (a.fields if isinstance(a, relax.Tuple) else [a])]
    return [operand for operand in opened if isinstance(operand, relax.Var)]


def _keeps_zero(expr: relax.Expr) -> bool:
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


def _scalar(expr: relax.Expr) -> float | None:
    if not is_constant(expr):
        return None
    value = value_of(expr)
    return float(value.flat[0]) if value.size and np.all(value == value.flat[0]) else None


def _one_magnitude(constant: relax.Expr) -> bool:
    return len(np.unique(np.abs(value_of(constant)))) == 1


def _where_from(expr: relax.Expr) -> str:
    operator = op_name(expr).split(".")[-1] or "a tuple"
    path = path_of(expr) if isinstance(expr, relax.Call) else ""
    return f"{operator} in {path}" if path and path != "model" else operator
