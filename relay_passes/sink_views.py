"""Sink: elementwise operators act on a product's result before it is rearranged, and chains of rearrangements shrink.

``f(view(x), view(y), c)  ==  view(f(x, y, c'))`` for reshape and permute, with the constant c rearranged back, where x
comes from a product of two activations by elementwise operators alone. Importers write attention with a transposition
here and a reshape there; behind this pass, scores are scaled, compared and packed as the product leaves them. Chains
of reshapes and permutations become the shortest that means the same, often none.

Declines where operands are rearranged differently, and where the rearranged constant would be larger than it was.
"""

import tvm
from tvm import relax

from tvm_bnn.relay_passes.arrangement import Arrangement, is_arrangement
from tvm_bnn.relay_passes.elementwise import ELEMENTWISE
from tvm_bnn.relay_passes.fold_constants import is_constant, value_of
from tvm_bnn.relay_passes.rewriter import DataflowRewriter, op_name, run_rewriter, shape_of


class _Sinker(DataflowRewriter):
    def __init__(self) -> None:
        super().__init__()
        self._arranged: dict[relax.Var, tuple[relax.Expr, Arrangement]] = {}
        self._of_product: set[relax.Var] = set()

    def rewrite(self, call: relax.Call, name: str) -> relax.Expr | None:
        if is_arrangement(call):
            return self._shortest(call)
        if op_name(call) in ELEMENTWISE:
            return self._sunk(call)
        return None

    def emit(self, expr: relax.Expr, name: str = "", span: tvm.ir.Span | None = None) -> relax.Expr:
        var = super().emit(expr, name, span)
        if isinstance(var, relax.Var):
            self._note(var, expr)
        return var

    def _note(self, var: relax.Var, expr: relax.Expr) -> None:
        if op_name(expr) == "bnn.bmatmul":
            self._of_product.add(var)
        elif op_name(expr) in ELEMENTWISE:
            if any(argument in self._of_product and shape_of(argument) == shape_of(var) for argument in expr.args):
                self._of_product.add(var)
        elif is_arrangement(expr):
            source, before = self._source(expr.args[0])
            after = before.then(expr, shape_of(var))
            if after is None:
                source, after = expr.args[0], Arrangement.identity(shape_of(expr.args[0])).then(expr, shape_of(var))
            assert after is not None
            self._arranged[var] = (source, after)

    def _source(self, expr: relax.Expr) -> tuple[relax.Expr, Arrangement]:
        """What a value is a rearrangement of, and how."""
        known = self._arranged.get(expr) if isinstance(expr, relax.Var) else None
        return known or (expr, Arrangement.identity(shape_of(expr)))

    def _shortest(self, call: relax.Call) -> relax.Expr | None:
        source, before = self._source(call.args[0])
        after = before.then(call, shape_of(call))
        if after is None or source is call.args[0]:
            return None
        return after.applied(source, lambda expr: self.emit(expr, span=call.span))

    def _sunk(self, call: relax.Call) -> relax.Expr | None:
        moved = [a for a in call.args if isinstance(a, relax.Var)]
        known = [self._arranged[a] for a in moved if a in self._arranged]
        if not known or len(known) != len(moved) or any(shape_of(a) != shape_of(call) for a in moved):
            return None
        arrangement = known[0][1]
        if any(source not in self._of_product or other != arrangement for source, other in known):
            return None
        arguments = []
        for argument in call.args:
            if isinstance(argument, relax.Var):
                arguments.append(self._arranged[argument][0])
            elif is_constant(argument) and value_of(argument).size == 1:
                arguments.append(argument)
            else:
                return None
        inner = self.emit(relax.Call(call.op, arguments, call.attrs, call.ty_args, call.span))
        return arrangement.applied(inner, lambda expr: self.emit(expr, span=call.span))


@tvm.transform.module_pass(opt_level=0, name="SinkViews")
class SinkViews:
    """Move elementwise operators before the rearrangements of products, and shorten those."""

    def transform_module(self, module: tvm.IRModule, _context) -> tvm.IRModule:
        """Rewrite ``main``."""
        return run_rewriter(_Sinker, module)
