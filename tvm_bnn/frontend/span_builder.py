"""A block builder that marks each call with the layer that it comes from."""

import tvm
from tvm import relax


class SpanBuilder(relax.BlockBuilder):
    """Stamps the span of the current layer on each call that has none."""

    span: tvm.ir.Span | None = None

    def enter(self, path: str) -> None:
        """From now on calls come from this layer; '' is the model itself."""
        self.span = tvm.ir.Span(tvm.ir.SourceName(path or "model"), 0, 0, 0, 0)

    def leave(self) -> None:
        """From now on calls come from nowhere."""
        self.span = None

    def emit(self, expr, name_hint: str = "") -> relax.Var:
        """Bind an expression, and before it the calls inside."""
        return super().emit(self._stamped(expr, {}), name_hint)

    def normalize(self, expr: relax.Expr) -> relax.Expr:
        """Bind the calls inside an expression."""
        return super().normalize(self._stamped(expr, {}))

    def _exit_function_scope(self, exc_type, exc_val, exc_tb) -> None:
        if exc_type is not None:
            # a block that is left open is warned of when the builder dies, and users have the error already
            self._end_block()
        super()._exit_function_scope(exc_type, exc_val, exc_tb)

    def _stamped(self, expr, done: dict):
        """The expression with a span and with variables in the place of calls inside.

        Were those left to the normaliser, it would make the outer call anew, without its span.
        """
        if self.span is None:
            return expr
        if isinstance(expr, relax.Call):
            arguments = [self._bound(argument, done) for argument in expr.args]
            return relax.Call(expr.op, arguments, expr.attrs, expr.ty_args, expr.span or self.span)
        if isinstance(expr, relax.TupleGetItem):
            return relax.TupleGetItem(self._bound(expr.tuple_value, done), expr.index)
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([self._bound(field, done) for field in expr.fields])
        return expr

    def _bound(self, expr, done: dict):
        if isinstance(expr, relax.Tuple):
            return self._stamped(expr, done)
        if not isinstance(expr, relax.Call | relax.TupleGetItem):
            return expr
        if expr not in done:
            done[expr] = super().emit(self._stamped(expr, done))
        return done[expr]
