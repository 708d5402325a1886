"""The property: a graph, its optimized form and its compiled form give the same bits; what is binary is called so."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tvm
from tvm import relax

from tests.properties.draws import from_list
from tests.properties.grammar import grow
from tests.properties.graph import Graph
from tvm_bnn import targets
from tvm_bnn.lower import lower
from tvm_bnn.reference import evaluate
from tvm_bnn.relay_passes.convert_binary import Decisions
from tvm_bnn.relay_passes.pipeline import optimize
from tvm_bnn.schedules import schedule_module
from tvm_bnn.schedules.apply import machine_code

Choices = tuple[int, ...]

TARGETS = {
    "avx512": "llvm -mcpu=x86-64-v4 -mattr=+avx512vpopcntdq",
    "avx2": "llvm -mcpu=x86-64-v3",
    "generic": "llvm -mcpu=x86-64-v2",
    "amx": "llvm -mcpu=x86-64-v4 -mattr=+avx512vpopcntdq,+amx-tile,+amx-int8",
}


@dataclass
class Built:
    """Graphs in one module: its arguments, the graphs, and how many results belong to each."""

    module: tvm.IRModule
    graphs: list[Graph]
    counts: list[int]

    @property
    def data(self) -> list[np.ndarray]:
        """The arguments of the module."""
        return [array for graph in self.graphs for array in graph.data]


@dataclass
class Outcome:
    """What became of a group of graphs.

    wrong : per graph that fails, what is wrong. steps, decisions : what was reached, for the coverage counts.
    """

    wrong: dict[Choices, str] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)
    decisions: list[tuple[str, str]] = field(default_factory=list)


def build(group: Sequence[Choices], told: frozenset[str] = frozenset(), plus: bool = True, first: int = 0) -> Built:
    """One module that computes all graphs of a group; first : number of the first one, which names its modules."""
    builder = relax.BlockBuilder()
    graphs, counts, results = [], [], []
    with builder.function("main"):
        with builder.dataflow():
            for number, choices in enumerate(group, first):
                graph = Graph(from_list(choices), f"g{number}", told, plus)
                fields = list(grow(graph).fields)
                results += fields
                counts.append(len(fields))
                graphs.append(graph)
            output = builder.emit_output(relax.Tuple(results))
        builder.emit_func_output(output, [variable for graph in graphs for variable in graph.variables])
    module = relax.transform.DeadCodeElimination()(builder.get())
    return Built(module, graphs, counts)


@functools.cache
def target(name: str) -> targets.Target:
    """A target of TARGETS."""
    return targets.resolve(TARGETS[name], threads=1)


def run_compiled(module: tvm.IRModule, data: list[np.ndarray], name: str) -> list[np.ndarray]:
    """The results of a module, compiled. Checks of argument shapes are left out: they are half of the code."""
    lowered = lower(module, target(name))
    scheduled = schedule_module(lowered.module, lowered.family_of, target(name))
    executable = machine_code(scheduled, target(name), {"tirx.disable_assert": True})
    machine = relax.VirtualMachine(executable, tvm.cpu())
    return _flat(machine["main"](*map(tvm.runtime.tensor, data)))


def _flat(value: Any) -> list[np.ndarray]:
    return [value.numpy()] if hasattr(value, "numpy") else [leaf for item in value for leaf in _flat(item)]


def check(group: Sequence[Choices], on: Sequence[str], sign_zero: str = "plus") -> Outcome:
    """Check a group of graphs on targets; where the group fails as a whole, each graph is checked alone."""
    try:
        return _check(group, on, sign_zero)
    except Exception as error:  # whatever it is belongs to one of the graphs
        if len(group) == 1:
            outcome = Outcome()
            outcome.wrong[tuple(group[0])] = f"{type(error).__name__}: {str(error).strip()[-2000:]}"
            return outcome
    whole = Outcome()
    for choices in group:
        part = check([choices], on, sign_zero)
        whole.wrong.update(part.wrong)
        whole.steps += part.steps
        whole.decisions += part.decisions
    return whole


def _check(group: Sequence[Choices], on: Sequence[str], sign_zero: str) -> Outcome:
    built = build(group)
    data = built.data
    decisions = Decisions()
    optimized = optimize(built.module, decisions, sign_zero)
    told = frozenset(decisions.guessed_signs)
    plus = sign_zero == "plus"
    original = build(group, told, plus) if told else built
    expected = list(evaluate(original.module, data))
    for index, graph in enumerate(built.graphs):
        for number, direct in enumerate(graph.direct):
            if told & direct:  # no layer reads the sign for this result: torch.sign's own zeros
                alone = build([group[index]], told - direct, plus, first=index)
                expected[sum(built.counts[:index]) + number] = evaluate(alone.module, alone.data)[number]
    outcome = Outcome()
    for index, message in _wrong_decisions(built, decisions):
        outcome.wrong[tuple(group[index])] = message
    found = {"optimized": list(evaluate(optimized, data))}
    found.update({name: run_compiled(optimized, data, name) for name in on})
    for where, results in found.items():
        for index, message in _differences(original, expected, results):
            outcome.wrong.setdefault(tuple(group[index]), f"{where}: {message}")
    outcome.steps = [step for graph in built.graphs for step in graph.steps]
    outcome.decisions = [(layer.decision, layer.reason) for layer in decisions.layers]
    return outcome


def _wrong_decisions(built: Built, decisions: Decisions) -> list[tuple[int, str]]:
    found = {layer.path: layer for layer in decisions.layers}
    wrong = []
    for index, graph in enumerate(built.graphs):
        for path, expected in graph.expected.items():
            if path in found and found[path].decision != expected:
                layer = found[path]
                wrong.append((index, f"{path} is {layer.decision} ({layer.reason}), and should be {expected}"))
        for path in graph.sharp & set(decisions.guessed_signs):
            wrong.append((index, f"{path} took a convention for sign(0), and has exact zeros of a discrete source"))
        read = frozenset[str]().union(*graph.direct) & set(decisions.guessed_signs)
        for path in read - set(decisions.mixed_signs):
            wrong.append((index, f"{path} took a convention for sign(0), a result has its 0, and nothing says so"))
    return wrong


def _differences(original: Built, expected: list[np.ndarray], found: list[np.ndarray]) -> list[tuple[int, str]]:
    """(graph, message) for each graph with a wrong result."""
    wrong = []
    position = 0
    for index, (graph, count) in enumerate(zip(original.graphs, original.counts, strict=True)):
        for number in range(count):
            message = _difference(expected[position + number], found[position + number])
            if message:
                wrong.append((index, f"result {number}: {message}"))
                break
        position += count
    return wrong


def _difference(expected: np.ndarray, found: np.ndarray) -> str:
    if (expected.shape, expected.dtype) != (found.shape, found.dtype):
        return f"{found.dtype}{list(found.shape)} instead of {expected.dtype}{list(expected.shape)}"
    differing = np.argwhere(expected != found)
    if not len(differing):
        return ""
    at = tuple(int(i) for i in differing[0])
    return f"{len(differing)} of {expected.size} elements differ, first at {at}: {found[at]} instead of {expected[at]}"
