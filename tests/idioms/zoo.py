"""Idioms compiled together, since a compilation of forty costs little more than one of a single idiom.

Where the whole fails, each idiom is compiled by itself, so that only the one at fault fails its test.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tests.idioms.families import FAMILIES
from tests.idioms.idiom import EXEMPT, Idiom
from tvm_bnn import checks
from tvm_bnn.compiler import Compilation, compile_source
from tvm_bnn.errors import BnnError
from tvm_bnn.frontend.importer import module_path
from tvm_bnn.frontend.source import load_source
from tvm_bnn.reference import evaluate
from tvm_bnn.relay_passes.convert_binary import Layer
from tvm_bnn.targets import resolve

# what a fault in a single idiom's graph may raise, in the importer, in a pass, or in TVM
_FAULTS = (BnnError, AssertionError, ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
#: So many idioms at most go into one compilation.
TOGETHER = 40


class Zoo(nn.Module):
    """Modules side by side; each takes its own inputs and returns one tensor."""

    def __init__(self, cases: Sequence[nn.Module], counts: Sequence[int]) -> None:
        super().__init__()
        self.cases = nn.ModuleDict({f"c{index}": case for index, case in enumerate(cases)})
        self.counts = list(counts)

    def forward(self, *inputs):
        results, given = [], iter(inputs)
        for case, count in zip(self.cases.values(), self.counts, strict=True):
            results.append(case(*[next(given) for _ in range(count)]))
        return tuple(results)


@dataclass(frozen=True)
class Outcome:
    """What became of one idiom.

    path : of its module in the compilation.
    layers : those under test.
    pytorch, imported, optimized, compiled : its result, four times.
    figures : of check (b), the values that differ by more than allowed; empty where the numbers are exact.
    guessed, kept, weights : paths that the compilation names for their zeros.
    """

    path: str
    layers: list[Layer]
    pytorch: np.ndarray
    imported: np.ndarray
    optimized: np.ndarray
    compiled: np.ndarray
    figures: list[checks.Figure]
    guessed: list[str]
    kept: list[str]
    weights: list[str]

    def spoken(self, text: str) -> str:
        """A reason as it would read for the idiom alone."""
        return text.replace(f" in {self.path}.", " in ").replace(f" in {self.path}", "").replace(f"{self.path}.", "")


def outcomes(idioms: Mapping[str, Idiom]) -> dict[str, Outcome | Exception]:
    """The outcome of each idiom, or what its compilation raised."""
    names = list(idioms)
    found: dict[str, Outcome | Exception] = {}
    for convention in dict.fromkeys(idiom.sign_zero for idiom in idioms.values()):
        chosen = [name for name in names if idioms[name].sign_zero == convention]
        for start in range(0, len(chosen), TOGETHER):
            part = chosen[start : start + TOGETHER]
            found.update(zip(part, _together([idioms[name] for name in part], convention), strict=True))
    return {name: found[name] for name in names}


def _together(idioms: Sequence[Idiom], sign_zero: str) -> Sequence[Outcome | Exception]:
    try:
        return _compiled(idioms, sign_zero)
    except _FAULTS as error:
        if len(idioms) == 1:
            return [error]
        middle = len(idioms) // 2
        return [*_together(idioms[:middle], sign_zero), *_together(idioms[middle:], sign_zero)]


def _compiled(idioms: Sequence[Idiom], sign_zero: str) -> list[Outcome]:
    inputs = [idiom.inputs() for idiom in idioms]
    zoo = Zoo([idiom.make().eval() for idiom in idioms], [len(own) for own in inputs]).eval()
    flat = tuple(value for own in inputs for value in own)
    made = compile_source(load_source(zoo, flat), resolve("llvm", 1), sign_zero=sign_zero)
    results = zip(*_columns(made, flat), strict=True)
    bad = _wrong_figures(made, flat) if not all(idiom.exact for idiom in idioms) else {}
    return [
        _outcome(made, f"cases.c{index}", own, bad.get(f"cases.c{index}", []))
        for index, own in enumerate(results)
    ]


def _columns(made: Compilation, inputs: Sequence[Tensor]) -> tuple[Sequence[np.ndarray], ...]:
    """PyTorch's results, the imported graph's, the optimized graph's and the artifact's."""
    arrays = [value.numpy() for value in inputs]
    with np.errstate(all="ignore"):
        return (
            [value.numpy() for value in made.source.expected],
            evaluate(made.imported.module, arrays),
            evaluate(made.optimized, arrays),
            _tuple(made.artifact(*arrays)),
        )


def _tuple(value):
    return value if isinstance(value, tuple) else (value,)


def _wrong_figures(made: Compilation, inputs: Sequence[Tensor]) -> dict[str, list[checks.Figure]]:
    """Check (b): what is wrong, by the path of the idiom."""
    nodes = {node.name: node for node in made.imported.exported.graph.nodes}
    found: dict[str, list[checks.Figure]] = {}
    for figure in checks.teacher_forced(made.imported, made.optimized, inputs):
        if not figure.exact_enough:
            found.setdefault(_case_of(module_path(nodes[figure.node])), []).append(figure)
    return found


def _case_of(path: str) -> str:
    return ".".join(path.split(".")[:2])


def _outcome(made: Compilation, path: str, results: Sequence[np.ndarray], figures: list[checks.Figure]) -> Outcome:
    def own(paths: Sequence[str]) -> list[str]:
        return [found for found in paths if _case_of(found) == path]

    decisions = made.decisions
    layers = [layer for layer in decisions.layers if _case_of(layer.path) == path]
    pytorch, imported, optimized, artifact = results
    return Outcome(
        path,
        [layer for layer in layers if not layer.path.removeprefix(f"{path}.").startswith(EXEMPT)],
        pytorch,
        imported,
        optimized,
        artifact,
        figures,
        own(decisions.guessed_signs),
        own(decisions.kept_zeros),
        own(decisions.zero_weights),
    )


@functools.cache
def of_family(family: str) -> dict[str, Outcome | Exception]:
    """The outcomes of a family of FAMILIES, compiled once."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tensors this small are slower on threads that wait for each other
    try:
        return outcomes(FAMILIES[family])
    finally:
        torch.set_num_threads(threads)
