"""Walks a Relax function binding by binding and computes every value with numpy."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tvm
from tvm import relax

from tvm_bnn.errors import InputError, UnsupportedError
from tvm_bnn.reference.operators import evaluate_call, plain_value

Observer = Callable[[str, Any], None]


def evaluate(
    mod: tvm.IRModule,
    inputs: Sequence[Any] | Mapping[str, Any],
    function: str = "main",
    force: Mapping[str, np.ndarray] | None = None,
    observe: Observer | None = None,
) -> tuple[np.ndarray, ...]:
    """Run a function of a Relax module in the defined arithmetic.

    inputs : one array a parameter, in order or by name (anything that numpy.asarray takes, CPU tensors of PyTorch
        included); weights that are parameters are inputs like the others.
    force : values that replace what is computed for the variables they name, after ``observe`` has seen it. With
        PyTorch's own intermediate results here, an error cannot travel from one layer to the next.
    observe : called as ``observe(variable name, computed value)`` for every binding, in order.

    Returns the results as a flat tuple of arrays.

    Raises InputError where the inputs do not fit the parameters, or ``force`` names no variable or has the wrong
    shape or dtype; UnsupportedError for an operator without an entry in OPERATORS.
    """
    if function not in [name.name_hint for name in mod.get_global_vars()]:
        raise InputError(
            f"the module has no function {function!r}; it has {', '.join(v.name_hint for v in mod.get_global_vars())}"
        )
    walk = _Walk(mod, dict(force or {}), observe)
    result = walk.run(mod[function], _arguments(mod[function], inputs))
    if walk.force:
        raise InputError(f"force names variables that the function does not bind: {', '.join(sorted(walk.force))}")
    return _flat(result)


def _flat(value: Any) -> tuple[np.ndarray, ...]:
    if isinstance(value, tuple):
        return tuple(leaf for field in value for leaf in _flat(field))
    return (value,)


def _arguments(function: relax.Function, inputs: Sequence[Any] | Mapping[str, Any]) -> list[Any]:
    names = [parameter.name for parameter in function.params]
    if isinstance(inputs, Mapping):
        if set(inputs) != set(names):
            raise InputError(f"found inputs {', '.join(sorted(inputs))}; the function takes {', '.join(names)}")
        inputs = [inputs[name] for name in names]
    if len(inputs) != len(names):
        raise InputError(f"found {len(inputs)} inputs; the function takes {len(names)}: {', '.join(names)}")
    return [_checked(value, parameter) for value, parameter in zip(inputs, function.params)]


def _checked(value: Any, variable: relax.Var) -> Any:
    """The value as an array of the variable's shape and dtype, or an InputError."""
    if isinstance(value, tuple | list) and isinstance(variable.ty, relax.TupleType):
        return tuple(np.asarray(field) for field in value)
    array = np.asarray(value)
    expected = variable.ty
    if not isinstance(expected, relax.TensorType):
        return array
    if not _agrees(array, expected):
        raise InputError(f"{variable.name} is {_described(array)}; the function takes {_stated(expected)}")
    return array


def _stated(ty: relax.TensorType) -> str:
    extents = [str(getattr(extent, "value", extent)) for extent in ty.shape or []]
    return f"{ty.dtype}[{', '.join(extents)}]"


class _Walk:
    """One evaluation: the values so far, dropped after their last reader."""

    def __init__(self, mod: tvm.IRModule, force: dict[str, np.ndarray], observe: Observer | None):
        self.mod, self.force, self.observe = mod, force, observe

    def run(self, function: relax.Function, arguments: Sequence[Any]) -> Any:
        values: dict[relax.Var, Any] = dict(zip(function.params, arguments))
        return self._sequence(function.body, values)

    def _sequence(self, body: relax.Expr, values: dict[relax.Var, Any]) -> Any:
        if not isinstance(body, relax.SeqExpr):
            return self._value(body, values)
        bindings = [binding for block in body.blocks for binding in block.bindings]
        dying = _last_readers(bindings, body.body)
        for index, binding in enumerate(bindings):
            values[binding.var] = self._bind(binding, values)
            for var in dying.get(index, ()):
                values.pop(var, None)
        return self._value(body.body, values)

    def _bind(self, binding: relax.Binding, values: dict[relax.Var, Any]) -> Any:
        computed = self._value(binding.value, values)
        name = binding.var.name
        assert _agrees(computed, binding.var.ty), f"{name} is {_described(computed)}, inferred {binding.var.ty}"
        if self.observe is not None:
            self.observe(name, computed)
        return _checked(self.force.pop(name), binding.var) if name in self.force else computed

    def _value(self, expr: relax.Expr, values: dict[relax.Var, Any]) -> Any:
        if isinstance(expr, relax.Var):
            return values[expr]
        if isinstance(expr, relax.Tuple):
            return tuple(self._value(field, values) for field in expr.fields)
        if isinstance(expr, relax.TupleGetItem):
            return self._value(expr.tuple_value, values)[expr.index]
        if isinstance(expr, relax.Call):
            return self._call(expr, [self._value(argument, values) for argument in expr.args], values)
        if isinstance(expr, relax.SeqExpr):
            return self._sequence(expr, values)
        if isinstance(expr, relax.If):
            branch = expr.true_branch if bool(self._value(expr.cond, values)) else expr.false_branch
            return self._sequence(branch, dict(values))
        if isinstance(expr, relax.Function):
            return expr
        return plain_value(expr)

    def _call(self, call: relax.Call, args: list[Any], values: dict[relax.Var, Any]) -> Any:
        callee = call.op
        if isinstance(callee, tvm.ir.GlobalVar):
            callee = self.mod[callee]
        elif isinstance(callee, relax.Var):
            callee = values[callee]
        if isinstance(callee, relax.Function):
            return self.run(callee, args)
        if isinstance(callee, tvm.ir.Op):
            return evaluate_call(call, args)
        raise UnsupportedError(
            f"the reference evaluator found a call of {call.op}; it takes Relax operators and Relax functions"
        )


def _agrees(value: Any, ty: Any) -> bool:
    """Whether a computed value has the shape and dtype that Relax inferred, as far as those are static."""
    if isinstance(ty, relax.TupleType):
        fields = list(ty.fields)
        return isinstance(value, tuple) and len(value) == len(fields) and all(map(_agrees, value, fields))
    if not isinstance(ty, relax.TensorType):
        return True
    return isinstance(value, np.ndarray) and str(value.dtype) == str(ty.dtype) and _fits(value, ty)


def _fits(array: np.ndarray, ty: relax.TensorType) -> bool:
    if ty.shape is None or not isinstance(ty.shape, relax.ShapeExpr):
        return ty.ndim in (-1, array.ndim)
    extents = list(ty.shape)
    return len(extents) == array.ndim and all(
        not isinstance(extent, tvm.tirx.IntImm) or int(extent) == found for extent, found in zip(extents, array.shape)
    )


def _described(value: Any) -> str:
    return f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__


def _last_readers(bindings: list[relax.Binding], result: relax.Expr) -> dict[int, list[relax.Var]]:
    """For each binding, the variables of this sequence that nothing reads after it."""
    last: dict[relax.Var, int] = {}

    def note(index: int) -> Callable[[relax.Expr], None]:
        return lambda expr: last.__setitem__(expr, index) if isinstance(expr, relax.Var) else None

    for index, binding in enumerate(bindings):
        last[binding.var] = index
        relax.analysis.post_order_visit(binding.value, note(index))
    relax.analysis.post_order_visit(result, note(len(bindings)))
    dying: dict[int, list[relax.Var]] = {}
    for var, index in last.items():
        dying.setdefault(index, []).append(var)
    return dying
