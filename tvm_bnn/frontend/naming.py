"""Give the values of an imported module the names of the nodes that they hold, and a single result its own type.

The importer's names (``lv``, ``lv1`` ...) are those that a builder of Relax hands out for any new value, so a value
that a later pass introduces may take the name of one that is gone. Named after their nodes (``convolution_3``),
values that are in both graphs can be compared by name; a pass keeps a name only for the same value.
"""

from dataclasses import replace

import tvm
from tvm import relax

from tvm_bnn.frontend.importer import Imported


def name_by_node(imported: Imported, single: bool = False) -> Imported:
    """The imported program with values named after nodes; `node_of` follows.

    A value that the importer made on the way to a node's is named ``node__1``, ``node__2``, ...
    single : the function returns its one result itself and not a tuple of one.
    """
    function = imported.module["main"]
    bindings = [binding for block in function.body.blocks for binding in block.bindings]
    node_of = _node_of(bindings, imported.node_of)
    names = _names([binding.var.name for binding in bindings], node_of)
    params = [relax.Var(param.name, param.ty) for param in function.params]
    new: dict[relax.Var, relax.Expr] = dict(zip(function.params, params, strict=True))
    builder = relax.BlockBuilder()
    with builder.function("main", params):
        with builder.dataflow():
            for binding in bindings:
                value = _substitute(binding.value, new)
                is_alias = isinstance(value, relax.Var | relax.Tuple)
                new[binding.var] = value if is_alias else builder.emit(value, names[binding.var.name])
            result = _substitute(function.body.body, new)
            if single and isinstance(result, relax.Tuple):
                (result,) = result.fields
            output = builder.emit_output(result)
        builder.emit_func_output(output)
    renamed = {names.get(name, name): node for name, node in node_of.items()}
    if isinstance(result, relax.Var) and result.name in renamed:
        renamed[output.name] = renamed[result.name]
    return replace(imported, module=tvm.IRModule({"main": builder.get()["main"]}), node_of=renamed)


def _node_of(bindings: list[relax.Binding], node_of: dict[str, str]) -> dict[str, str]:
    """node_of, where a batch normalisation (a tuple) stands for its first field.

    The field is the only one that inference reads, and what the operator becomes when it is decomposed.
    """
    normalised = {
        binding.var.name
        for binding in bindings
        if isinstance(binding.value, relax.Call) and binding.value.op == tvm.ir.Op.get("relax.nn.batch_norm")
    }
    moved = dict(node_of)
    for binding in bindings:
        value = binding.value
        if isinstance(value, relax.TupleGetItem) and value.index == 0 and value.tuple_value.name in normalised:
            if binding.var.name in moved:
                moved[value.tuple_value.name] = moved.pop(binding.var.name)
    return moved


def _names(variables: list[str], node_of: dict[str, str]) -> dict[str, str]:
    """New names: the node's, or that of the next node with a count; all different."""
    names: dict[str, str] = {}
    taken = set(node_of.values())
    waiting: list[str] = []
    for variable in variables:
        node = node_of.get(variable)
        if node is None:
            waiting.append(variable)
            continue
        names[variable] = node
        for number, step in enumerate(waiting, 1):
            names[step] = _free(f"{node}__{number}", taken)
        waiting = []
    for step in waiting:
        names[step] = _free("result", taken)
    return names


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _substitute(expr: relax.Expr, new: dict[relax.Var, relax.Expr]) -> relax.Expr:
    if isinstance(expr, relax.Var):
        return new[expr]
    if isinstance(expr, relax.Tuple):
        return relax.Tuple([_substitute(field, new) for field in expr.fields])
    if isinstance(expr, relax.TupleGetItem):
        return relax.TupleGetItem(_substitute(expr.tuple_value, new), expr.index)
    if isinstance(expr, relax.Call):
        arguments = [_substitute(argument, new) for argument in expr.args]
        return relax.Call(expr.op, arguments, expr.attrs, expr.ty_args, expr.span)
    return expr
