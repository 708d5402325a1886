"""Convert: softmax of binary scores, times the values, is a mean that a table weighs.

A score s of K signs is one of K + 1 integers, so that what scales it, and exp behind it, is a table: the operators as
they were imported are evaluated on all K + 1. With t(s) their result, ``softmax(t(s)) @ v`` over n keys is
``sum(w[s] * v) / sum(w[s])`` for ``w[s] = exp(t(s) - c)`` and any c. The largest of all t is known beforehand, hence no
search for a row's own; c is the middle of their range, so that neither a sum of weights overflows nor a weight loses
bits: half the range and log(n) stay below LARGEST. ``bnn.weighted_mean`` needs the scores once, in order, and no
memory that grows with queries times keys.

What only asks whether a score is infinite (scaled_dot_product_attention does, for rows that a mask leaves empty) has
an answer for all integers, and its ``where`` disappears.

Declines, with the reason in the scores' record, where a score depends on anything else (a mask, a factor that is
data), is made of several sums of bits, or reaches too far; and where softmax is not over the keys.
"""

from dataclasses import dataclass, replace
from math import log, prod

import numpy as np
import tvm
from tvm import relax

from tvm_bnn import arithmetic, ops
from tvm_bnn.errors import UnsupportedError
from tvm_bnn.reference import evaluate_call
from tvm_bnn.relay_passes.alphabet import describe
from tvm_bnn.relay_passes.arrangement import Arrangement, is_arrangement
from tvm_bnn.relay_passes.decisions import Decisions
from tvm_bnn.relay_passes.elementwise import ELEMENTWISE
from tvm_bnn.relay_passes.fold_constants import is_constant, value_of
from tvm_bnn.relay_passes.rewriter import DataflowRewriter, op_name, path_of, run_rewriter, shape_of

#: Largest logarithm of a sum of weights; exp of its negative is no denormal number.
LARGEST = 85.0


@dataclass(frozen=True)
class _Scores:
    """What is made of one sum of bits element by element, and rearranged.

    sums : the sum. order : how it comes to lie. values : at K - 2 * i for i in 0 ... K; None, with the reason, where
    something else matters too.
    """

    sums: relax.Var
    order: Arrangement | None
    values: np.ndarray | None
    reason: str = ""

    def refused(self, reason: str) -> "_Scores":
        """The same, without values."""
        return self if self.values is None else replace(self, values=None, reason=reason)


class _Weigher(DataflowRewriter):
    def __init__(self, decisions: Decisions) -> None:
        super().__init__()
        self.layers = [layer for layer in decisions.layers if layer.decision == "binary"]
        self._scores: dict[relax.Var, _Scores] = {}
        self._constant: dict[relax.Var, np.ndarray] = {}
        self._softmax: dict[relax.Var, _Scores] = {}

    def rewrite(self, call: relax.Call, name: str) -> relax.Expr | None:
        if op_name(call) == "relax.where":
            return self._decided(call)
        return self._weighed(call) if op_name(call) == "relax.matmul" else None

    def emit(self, expr: relax.Expr, name: str = "", span: tvm.ir.Span | None = None) -> relax.Expr:
        var = super().emit(expr, name, span)
        if isinstance(var, relax.Var) and isinstance(expr, relax.Call):
            self._note(var, expr)
        return var

    # --- what is made of scores -----------------------------------------------------------------------------------

    def _note(self, var: relax.Var, call: relax.Call) -> None:
        name = op_name(call)
        if name == "bnn.bmatmul":
            length = shape_of(call.args[0])[1]
            self._scores[var] = _Scores(var, Arrangement.identity(shape_of(var)), length - 2 * np.arange(length + 1))
        elif is_arrangement(call):
            for known in (self._scores, self._softmax):
                if call.args[0] in known:
                    before = known[call.args[0]]
                    order = before.order.then(call, shape_of(var)) if before.order is not None else None
                    known[var] = replace(before, order=order)
        elif name == "relax.nn.softmax" and call.args[0] in self._scores:
            self._softmax[var] = self._over_keys(self._scores[call.args[0]], call)
        elif name in ("relax.max", "relax.min") and call.args[0] in self._constant:
            self._constant[var] = self._constant[call.args[0]]
        elif name in ELEMENTWISE:
            self._note_elementwise(var, call)
        if var in self._scores and self._scores[var].values is not None:
            values = self._scores[var].values
            if values is not None and (values == values[0]).all():
                self._constant[var] = values[0]

    def _note_elementwise(self, var: relax.Var, call: relax.Call) -> None:
        tensors = [a for a in call.args if isinstance(a, relax.Var)]
        if tensors and all(a in self._constant for a in tensors):
            value = self._evaluated(call, self._constant)
            if value is not None:
                self._constant[var] = value
        read = [self._scores[a] for a in tensors if a in self._scores and shape_of(a) == shape_of(var)]
        if not read:
            return
        first = read[0]
        other = next((a for a in call.args if a not in self._scores and not _is_number(a)), None)
        if any(each.values is None for each in read):
            self._scores[var] = next(each for each in read if each.values is None)
        elif other is not None:
            self._scores[var] = first.refused(f"it depends on {self._described(other)}")
        elif any(each.sums != first.sums or each.order != first.order for each in read) or len(read) < len(tensors):
            self._scores[var] = first.refused("it is made of several sums of bits")
        else:
            values = self._evaluated(call, {a: self._scores[a].values for a in tensors})
            if values is None:
                self._scores[var] = first.refused(f"no values are known of {op_name(call)}")
            else:
                self._scores[var] = replace(first, values=values)

    def _described(self, other: relax.Expr) -> str:
        if is_constant(other):
            return "a constant that differs from score to score"
        definition = self.lookup(other)
        return describe(definition) if op_name(definition) else "an input of the model"

    def _evaluated(self, call: relax.Call, known: dict) -> np.ndarray | None:
        """The operator on known values of its variables; its constants are numbers."""
        arguments = [
            known[a] if isinstance(a, relax.Var) else value_of(a).reshape(()) if is_constant(a) else a
            for a in call.args
            if not is_constant(a) or value_of(a).size == 1
        ]
        if len(arguments) < len(call.args):
            return None
        try:
            return np.asarray(evaluate_call(call, arguments))
        except UnsupportedError:
            return None

    def _over_keys(self, scores: _Scores, call: relax.Call) -> _Scores:
        """What softmax is of, where that is scores of one query and all keys."""
        shape = shape_of(call)
        if not _lie(scores, shape, int(call.attrs.axis) % len(shape)):
            scores = scores.refused("its sum is not over the keys")
        elif scores.values is not None:
            middle, reach = _range(scores.values)
            keys = shape_of(scores.sums)[1]
            if not reach + log(keys) < LARGEST:
                scores = scores.refused(f"its scores reach {reach:.4g} to both sides of {middle:.4g}")
        if scores.values is None:
            self._record(scores.sums, f"float: softmax, since {scores.reason}")
        return scores

    def _record(self, sums: relax.Var, text: str) -> None:
        path = path_of(self.lookup(sums))
        for layer in self.layers:
            if layer.path == path and layer.op == "matmul":
                layer.note_epilogue(text)

    # --- rewriting ------------------------------------------------------------------------------------------------

    def _decided(self, call: relax.Call) -> relax.Expr | None:
        """What a ``where`` chooses, if that is the same for all scores."""
        condition, *branches = call.args
        if condition not in self._constant:
            return None
        chosen = branches[0] if self._constant[condition] else branches[1]
        return chosen if isinstance(chosen, relax.Var) and shape_of(chosen) == shape_of(call) else None

    def _weighed(self, call: relax.Call) -> relax.Expr | None:
        left, right = call.args
        if left in self._softmax:
            return self._mean(call, self._softmax[left], shape_of(left), right, turned=False)
        if right in self._softmax:
            return self._mean(call, self._softmax[right], shape_of(right), left, turned=True)
        return None

    def _mean(
        self, call: relax.Call, scores: _Scores, shape: tuple[int, ...], values: relax.Expr, turned: bool
    ) -> relax.Expr | None:
        """``P V``, or ``V P`` if turned; shape : of P."""
        leading, rank = shape[:-2], len(shape)
        if scores.values is None or rank < 2 or shape_of(values)[:-2] != leading or len(shape_of(values)) != rank:
            return None
        batch, keys, *plane = shape_of(scores.sums)
        if prod(leading) != batch or not _lie(scores, shape, rank - 2 if turned else rank - 1):
            return None
        depth = shape_of(values)[-2 if turned else -1]

        def bound(expr: relax.Expr) -> relax.Expr:
            return self.emit(expr, span=call.span)

        if not turned:
            flat = bound(relax.op.reshape(values, (batch, keys, depth)))
            values = bound(relax.op.permute_dims(flat, (0, 2, 1)))
        values = bound(relax.op.reshape(values, (batch, depth, 1, keys)))
        middle, _ = _range(scores.values)
        table = arithmetic.exp((scores.values.astype(np.float64) - middle).astype(np.float32))
        mean = bound(ops.weighted_mean(scores.sums, values, relax.const(table), call.span))
        self._record(scores.sums, f"softmax: {len(table)} weights")
        if turned:
            return relax.op.reshape(mean, shape_of(call))
        flat = bound(relax.op.reshape(mean, (batch, depth, prod(plane))))
        return relax.op.reshape(bound(relax.op.permute_dims(flat, (0, 2, 1))), shape_of(call))


def _is_number(argument: relax.Expr) -> bool:
    return not isinstance(argument, relax.Var) and (not is_constant(argument) or value_of(argument).size == 1)


def _range(values: np.ndarray) -> tuple[float, float]:
    """The middle of all values, and how far they reach from there."""
    low, high = float(values.min()), float(values.max())
    return (low + high) / 2, (high - low) / 2


def _lie(scores: _Scores, shape: tuple[int, ...], axis: int) -> bool:
    """Whether sums [B, N, H, W] come to lie as [..., H * W, N], or [..., N, H * W], axis being that of N."""
    batch, keys, *plane = shape_of(scores.sums)
    last = axis == len(shape) - 1
    if scores.order is None or axis < len(shape) - 2 or shape[axis] != keys:
        return False
    expected = Arrangement.identity(shape_of(scores.sums)).reshaped((batch, keys, prod(plane)))
    if expected is not None and last:
        expected = expected.permuted((0, 2, 1))
    return expected is not None and scores.order == expected.reshaped(shape)


@tvm.transform.module_pass(opt_level=0, name="WeighValues")
class WeighValues:
    """Replace softmax of binary scores times values by ``bnn.weighted_mean``; the scores' records say so."""

    def __init__(self, decisions: Decisions) -> None:
        self.decisions = decisions

    def transform_module(self, module: tvm.IRModule, _context) -> tvm.IRModule:
        """Rewrite ``main``."""
        return run_rewriter(lambda: _Weigher(self.decisions), module)
