"""PyTorch's own values of the nodes of an exported program."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps the values of some nodes."""

    def __init__(self, module: fx.GraphModule, wanted: Collection[str]) -> None:
        super().__init__(module)
        self.wanted = wanted
        self.kept: dict[str, np.ndarray] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name in self.wanted and isinstance(value, Tensor):
            self.kept[n.name] = value.detach().numpy().copy()
        return value


def run_program(program: ExportedProgram, inputs: Sequence[Tensor], wanted: Collection[str]) -> dict[str, np.ndarray]:
    """Values of the wanted nodes of an exported program, computed by PyTorch."""
    return run_with_outputs(program, inputs, wanted)[0]


def run_with_outputs(
    program: ExportedProgram, inputs: Sequence[Tensor], wanted: Collection[str]
) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """(values of the wanted nodes, results of the program), computed by PyTorch."""
    recorder = _Recorder(program.graph_module, frozenset(wanted))
    with torch.no_grad():
        returned = recorder.run(*_arguments(program, inputs))
    return recorder.kept, [value.numpy() for value in pytree.tree_leaves(returned)]


def _arguments(program: ExportedProgram, inputs: Sequence[Tensor]) -> Iterator[Any]:
    """What the graph takes: parameters, buffers and constants before the inputs."""
    lookup: Callable[[str], Any] = {**program.constants, **program.state_dict}.__getitem__
    given = iter(inputs)
    for spec in program.graph_signature.input_specs:
        yield next(given) if spec.kind is InputKind.USER_INPUT else lookup(str(spec.target))
