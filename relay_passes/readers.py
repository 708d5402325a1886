"""Who reads what: the bindings behind each value of a straight-line function."""

from tvm import relax

from tvm_bnn.relay_passes.rewriter import bindings_of


def operands(expr: relax.Expr) -> list[relax.Var]:
    """The variables that a bound expression reads, in order."""
    if isinstance(expr, relax.Var):
        return [expr]
    if isinstance(expr, relax.TupleGetItem):
        return operands(expr.tuple_value)
    if isinstance(expr, relax.Tuple):
        return [var for part in expr.fields for var in operands(part)]
    if isinstance(expr, relax.Call):
        return [var for part in expr.args for var in operands(part)]
    return []


def readers_of(function: relax.Function) -> dict[relax.Var, list[relax.Binding | None]]:
    """For each value in order, parameters first: the bindings that read it, once a read; None for the result."""
    readers: dict[relax.Var, list[relax.Binding | None]] = {param: [] for param in function.params}
    for binding in bindings_of(function):
        readers[binding.var] = []
        for operand in operands(binding.value):
            readers[operand].append(binding)
    for operand in operands(function.body.body):
        readers[operand].append(None)
    return readers
