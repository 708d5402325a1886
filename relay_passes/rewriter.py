"""One walk over a straight-line Relax function: the driver that the passes share."""

from collections.abc import Callable

import tvm
from tvm import relax


def op_name(expr) -> str:
    """Name of the operator that expr calls, '' when expr is no operator call."""
    if isinstance(expr, relax.Call) and isinstance(expr.op, tvm.ir.Op):
        return expr.op.name
    return ""


def bindings_of(function: relax.Function):
    """All bindings of a straight-line function, in order."""
    for block in function.body.blocks:
        yield from block.bindings


def shape_of(expr: relax.Expr) -> tuple[int, ...]:
    """Static shape of a tensor expression."""
    return tuple(int(extent) for extent in expr.ty.shape)


def dtype_of(expr: relax.Expr) -> str:
    """Element type of a tensor expression, as numpy spells it."""
    return str(expr.ty.dtype)


def path_of(expr: relax.Expr) -> str:
    """Path of the torch module a call came from."""
    return expr.span.source_name.name if expr.span is not None else ""


class DataflowRewriter:
    """Rebuild ``main`` binding by binding; a pass overrides ``rewrite``.

    ``definition[var]`` is the expression that a new variable is bound to. Names and spans of values survive, so that
    a value can be followed from the imported graph to the last one; what a pass emits on the way to a value is named
    after it, and never takes the name of another.
    """

    def __init__(self) -> None:
        self.builder = relax.BlockBuilder()
        self.definition: dict[relax.Var, relax.Expr] = {}
        self._new: dict[relax.Var, relax.Expr] = {}
        self._result_name = ""

    def rewrite(self, call: relax.Call, name: str) -> relax.Expr | None:
        """The replacement of a call whose arguments are already new; None keeps it."""
        raise NotImplementedError

    def emit(self, expr: relax.Expr, name: str = "", span: tvm.ir.Span | None = None) -> relax.Expr:
        """Bind expr, a call of bound values, to a new variable (constants and variables stay themselves)."""
        if isinstance(expr, relax.Var | tvm.ir.GenericConst | relax.Tuple | relax.ShapeExpr):
            return expr
        if span is not None and isinstance(expr, relax.Call) and expr.span is None:
            expr = relax.Call(expr.op, expr.args, expr.attrs, expr.ty_args, span)
        var = self.builder.emit(expr, name or f"{self._result_name}_part")
        self.definition[var] = expr
        return var

    def lookup(self, expr: relax.Expr) -> relax.Expr:
        """What a (new) variable is bound to; anything else is itself."""
        return self.definition.get(expr, expr) if isinstance(expr, relax.Var) else expr

    def transform(self, module: tvm.IRModule) -> tvm.IRModule:
        """Run over ``main`` and return a new module."""
        function = module["main"]
        params = [relax.Var(p.name, p.ty) for p in function.params]
        self._new = dict(zip(function.params, params, strict=True))
        with self.builder.function("main", params):
            with self.builder.dataflow():
                self.begin(params)
                for binding in bindings_of(function):
                    self._new[binding.var] = self._rewrite_value(binding.value, binding.var.name)
                result = self._substitute(function.body.body)
                output = self.builder.emit_output(result)
            self.builder.emit_func_output(output)
        rebuilt = self.builder.get()
        if function.attrs:
            rebuilt.update_func(rebuilt.get_global_var("main"), rebuilt["main"].with_attrs(function.attrs))
        return relax.transform.DeadCodeElimination()(rebuilt)

    def begin(self, params: list[relax.Var]) -> None:
        """Called once inside the new function, before the first binding."""

    def _rewrite_value(self, value: relax.Expr, name: str) -> relax.Expr:
        self._result_name = name
        if isinstance(value, relax.TupleGetItem):
            source = self._substitute(value.tuple_value)
            bound = self.lookup(source)
            if isinstance(bound, relax.Tuple):
                return bound.fields[value.index]
            return self.emit(relax.TupleGetItem(source, value.index), name)
        if isinstance(value, relax.Call):
            call = relax.Call(
                value.op, [self._substitute(a) for a in value.args], value.attrs, value.ty_args, value.span, value.ty
            )
            replaced = self.rewrite(call, name)
            return self.emit(call if replaced is None else replaced, name, value.span)
        return self._substitute(value)

    def _substitute(self, expr: relax.Expr) -> relax.Expr:
        if isinstance(expr, relax.Var):
            return self._new[expr]
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([self._substitute(field) for field in expr.fields])
        return expr


def run_rewriter(make: Callable[[], DataflowRewriter], module: tvm.IRModule) -> tvm.IRModule:
    """Apply a fresh rewriter to ``main``."""
    return make().transform(module)
