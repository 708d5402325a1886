"""How often a sign whose zero took a convention meets an exact zero: then, and only then, the convention shows."""

from typing import TypedDict

import numpy as np
import tvm
from tvm import relax

from tvm_bnn.frontend.importer import Imported
from tvm_bnn.frontend.source import Source
from tvm_bnn.relay_passes.decisions import Decisions
from tvm_bnn.relay_passes.rewriter import bindings_of, op_name, path_of


class Zeros(TypedDict):
    """Of one module: elements of what its signs read, and how many of them are exactly 0."""

    path: str
    elements: int
    zeros: int


def count_zeros(source: Source, imported: Imported, decisions: Decisions) -> list[Zeros]:
    """One record per module in ``decisions.guessed_signs``, from the model's own values on the example inputs.

    imported : from `name_by_node`.
    """
    if not decisions.guessed_signs:
        return []
    read = _operands_of_signs(imported.module, set(decisions.guessed_signs))
    values = source.values(imported, {imported.node_of[name] for name in read if name in imported.node_of})
    values |= {parameter.name: array for parameter, array in _inputs(source, imported)}
    counted: dict[str, Zeros] = {path: {"path": path, "elements": 0, "zeros": 0} for path in decisions.guessed_signs}
    for name, paths in read.items():
        value = values.get(imported.node_of.get(name, name))
        if value is None:
            continue
        for path in paths:
            counted[path]["elements"] += value.size
            counted[path]["zeros"] += int(np.count_nonzero(value == 0))
    return list(counted.values())


def _inputs(source: Source, imported: Imported) -> list[tuple[relax.Var, np.ndarray]]:
    function = imported.module["main"]
    return [(parameter, value.numpy()) for parameter, value in zip(function.params, source.inputs, strict=True)]


def _operands_of_signs(module: tvm.IRModule, paths: set[str]) -> dict[str, list[str]]:
    """Variable -> the modules whose sign reads it, for values that depend on the input."""
    function = module["main"]
    depends = {parameter.name for parameter in function.params}
    found: dict[str, list[str]] = {}
    for binding in bindings_of(function):
        inner: list[relax.Var] = []
        relax.analysis.post_order_visit(
            binding.value, lambda expr, inner=inner: inner.append(expr) if isinstance(expr, relax.Var) else None
        )
        if not any(var.name in depends for var in inner):
            continue
        depends.add(binding.var.name)
        value = binding.value
        if isinstance(value, relax.Call) and op_name(value) == "relax.sign" and path_of(value) in paths:
            found.setdefault(value.args[0].name, []).append(path_of(value))
    return found
