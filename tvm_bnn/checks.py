"""Is the compiled network the model? Three checks, since PyTorch is no bit-exact oracle.

(a) `against_reference`: the artifact equals the reference evaluator on the optimized graph, bit for bit.
(b) `teacher_forced`: each value of the optimized graph, computed from PyTorch's own values, equals PyTorch's: floats
    within TOLERANCE of the tensor's largest magnitude, bits wherever the compared values differ by more than that.
    An error cannot travel from one layer to the next, so this finds a wrong layer however small its effect.
(c) `end_to_end`: how far artifact and PyTorch are apart on whole inputs, beside PyTorch and itself with oneDNN off. A
    value near a threshold may round to either side, and one flipped bit spreads over the receptive field: the artifact
    is held to ALLOWED_SPREAD times PyTorch's own spread.

Values are compared by name: the graph must come from `frontend.naming.name_by_node`, and a pass keeps a name only for
the same value. What passes introduce (accumulators, packed bits, hoisted signs) has no counterpart and is not compared.
"""

import operator
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import tvm
from torch import Tensor, fx
from torch.export import ExportedProgram

from tvm_bnn.frontend.importer import Imported
from tvm_bnn.frontend.recorder import run_program, run_with_outputs
from tvm_bnn.reference import evaluate
from tvm_bnn.relay_passes.rewriter import bindings_of, dtype_of, shape_of
from tvm_bnn.runtime import Artifact

#: Of check (b): largest absolute difference over the largest magnitude in PyTorch's tensor (the infinity norm).
TOLERANCE = 1e-5
#: Of check (c): how many times PyTorch's own spread.
ALLOWED_SPREAD = 2

_COMPARISONS = frozenset(getattr(torch.ops.aten, name) for name in ("ge", "gt", "le", "lt", "eq", "ne"))

Arrays = Mapping[str, np.ndarray]


# --- (a) --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OutputDifference:
    """Elements of one output that differ in any bit (NaN equals NaN), of so many."""

    differing: int
    elements: int


def against_reference(artifact: Artifact, optimized: tvm.IRModule, inputs: Sequence[Tensor]) -> list[OutputDifference]:
    """Check (a): one record per output; all are exact where every `differing` is 0."""
    arrays = [value.numpy() for value in inputs]
    computed = artifact(*arrays)
    computed = computed if isinstance(computed, tuple) else (computed,)
    return [
        OutputDifference(_differing_bits(found, expected), expected.size)
        for found, expected in zip(computed, evaluate(optimized, arrays), strict=True)
    ]


def _differing_bits(found: np.ndarray, expected: np.ndarray) -> int:
    assert found.shape == expected.shape and found.dtype == expected.dtype, (found.shape, expected.shape)
    as_bits = f"u{found.dtype.itemsize}"
    same = np.ascontiguousarray(found).view(as_bits) == np.ascontiguousarray(expected).view(as_bits)
    if np.issubdtype(found.dtype, np.floating):
        same |= np.isnan(found) & np.isnan(expected)
    return int(np.sum(~same))


# --- (b) --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """One value of check (b).

    error : of a float, the largest difference over the largest magnitude; of whole numbers, the share that differs; of
        bits, the share that differs although the compared values are further apart than the tolerance.
    near : bits that differ where the compared values are not.
    """

    name: str
    node: str
    dtype: str
    elements: int
    error: float
    near: int = 0

    @property
    def exact_enough(self) -> bool:
        """Whether it is within the tolerance."""
        return self.error <= (TOLERANCE if self.dtype.startswith("float") else 0.0)


def teacher_forced(imported: Imported, optimized: tvm.IRModule, inputs: Sequence[Tensor]) -> list[Figure]:
    """Check (b): one figure per value that both graphs have, in the order of the optimized graph.

    imported : from `name_by_node`. inputs : tensors as the program takes them.
    """
    comparable = _comparable(imported, optimized)
    nodes = {node.name: node for node in imported.exported.graph.nodes}
    operands = {name for node in comparable.values() for name in _operands(nodes[node])}
    values = run_program(imported.exported, inputs, {*comparable.values(), *operands})
    figures: list[Figure] = []

    def observe(name: str, computed: Any) -> None:
        if name in comparable:
            node = nodes[comparable[name]]
            figures.append(_figure(name, node, np.asarray(computed), values))

    force = {name: values[node] for name, node in comparable.items()}
    evaluate(optimized, [value.numpy() for value in inputs], force=force, observe=observe)
    return figures


def _comparable(imported: Imported, optimized: tvm.IRModule) -> dict[str, str]:
    """Variable of the optimized module -> node, for values of the same shape and dtype."""
    shapes = {
        node.name: (tuple(node.meta["val"].shape), str(node.meta["val"].dtype).removeprefix("torch."))
        for node in imported.exported.graph.nodes
        if isinstance(node.meta.get("val"), Tensor)
    }
    found: dict[str, str] = {}
    for binding in bindings_of(optimized["main"]):
        node = imported.node_of.get(binding.var.name)
        if isinstance(binding.var.ty, tvm.relax.TensorType) and node is not None:
            if shapes.get(node) == (shape_of(binding.var), dtype_of(binding.var)):
                found[binding.var.name] = node
    return found


def _figure(name: str, node: fx.Node, computed: np.ndarray, values: Arrays) -> Figure:
    expected = values[node.name]
    dtype = str(expected.dtype)
    if dtype.startswith("float"):
        return Figure(name, node.name, dtype, expected.size, _relative(computed, expected))
    wrong = computed != expected
    near = np.zeros_like(wrong)
    if dtype == "bool" and _operands(node):
        near = wrong & _is_near(node, values)
    return Figure(name, node.name, dtype, expected.size, float(np.mean(wrong & ~near)), int(near.sum()))


def _relative(computed: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference over the largest magnitude; NaN and infinities must be the same."""
    finite = np.isfinite(expected)
    if not np.array_equal(computed[~finite], expected[~finite], equal_nan=True):
        return float("inf")
    difference = np.max(np.abs(computed[finite].astype(np.float64) - expected[finite]), initial=0.0)
    magnitude = np.max(np.abs(expected[finite]), initial=0.0)
    return float(difference / magnitude) if magnitude else float(difference)


def _operands(node: fx.Node) -> list[str]:
    """Names of the nodes that a comparison compares; empty for any other node."""
    if getattr(node.target, "overloadpacket", None) not in _COMPARISONS:
        return []
    return [argument.name for argument in node.args if isinstance(argument, fx.Node)]


def _is_near(node: fx.Node, values: Arrays) -> np.ndarray:
    """Where the two sides of a comparison are closer than the tolerance allows them to be told apart."""
    left, right = (
        values[argument.name].astype(np.float64) if isinstance(argument, fx.Node) else float(argument)  # type: ignore[arg-type]
        for argument in node.args[:2]
    )
    magnitude = max(np.max(np.abs(left), initial=0.0), np.max(np.abs(right), initial=0.0))
    return np.abs(left - right) <= TOLERANCE * magnitude


# --- (c) --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Distance:
    """How far two runs are apart.

    flipped : bits that differ, of all `bits` that both graphs have.
    changed : elements of the outputs that differ, of `elements`: classes where the outputs are class maps, else the
        largest along axis 1.
    """

    flipped: int
    bits: int
    changed: int
    elements: int

    def __add__(self, other: "Distance") -> "Distance":
        return Distance(*(operator.add(*pair) for pair in zip(vars(self).values(), vars(other).values(), strict=True)))

    def __str__(self) -> str:
        return (
            f"{self.flipped} of {self.bits} bits flipped, "
            f"{100 * (1 - self.changed / max(self.elements, 1)):.4f} % of {self.elements} predictions equal"
        )


@dataclass(frozen=True)
class EndToEnd:
    """The artifact against PyTorch, and PyTorch without oneDNN against PyTorch."""

    compiled: Distance
    pytorch: Distance

    @property
    def no_worse(self) -> bool:
        """Whether the artifact is within ALLOWED_SPREAD times PyTorch's own spread."""
        return (
            self.compiled.flipped <= ALLOWED_SPREAD * self.pytorch.flipped
            and self.compiled.changed <= ALLOWED_SPREAD * self.pytorch.changed
        )

    def __str__(self) -> str:
        return f"compiled against PyTorch: {self.compiled}\nPyTorch, oneDNN off: {self.pytorch}"


def end_to_end(
    imported: Imported, optimized: tvm.IRModule, artifact: Artifact, batches: Sequence[Sequence[Tensor]]
) -> EndToEnd:
    """Check (c), summed over several inputs (each a sequence of tensors, as the program takes them).

    The artifact keeps no inner bits, so these are those of the reference evaluator, which check (a) has shown equal.
    """
    comparable = _comparable(imported, optimized)
    bits = {name: node for name, node in comparable.items() if _is_bool(imported.exported, node)}
    compiled = pytorch = Distance(0, 0, 0, 0)
    for inputs in batches:
        ours = _observed(optimized, inputs, bits)
        theirs, outputs = run_with_outputs(imported.exported, inputs, bits.values())
        with _without_onednn():
            plain, plain_outputs = run_with_outputs(imported.exported, inputs, bits.values())
        made = artifact(*(value.numpy() for value in inputs))
        compiled += _distance(ours, theirs, made if isinstance(made, tuple) else (made,), outputs)
        pytorch += _distance(plain, theirs, plain_outputs, outputs)
    return EndToEnd(compiled, pytorch)


@contextmanager
def _without_onednn() -> Iterator[None]:
    with warnings.catch_warnings():
        # the flags touch settings of GPUs, and PyTorch warns that there is none
        warnings.simplefilter("ignore")
        with torch.backends.mkldnn.flags(enabled=False):
            yield


def _is_bool(program: ExportedProgram, name: str) -> bool:
    return any(node.name == name and node.meta["val"].dtype == torch.bool for node in program.graph.nodes)


def _observed(module: tvm.IRModule, inputs: Sequence[Tensor], wanted: Mapping[str, str]) -> dict[str, np.ndarray]:
    seen: dict[str, np.ndarray] = {}

    def observe(name: str, computed: Any) -> None:
        if name in wanted:
            seen[wanted[name]] = computed

    evaluate(module, [value.numpy() for value in inputs], observe=observe)
    return seen


def _distance(
    found: Arrays, expected: Arrays, outputs: Sequence[np.ndarray], expected_outputs: Sequence[np.ndarray]
) -> Distance:
    pairs = [(_predictions(a), _predictions(b)) for a, b in zip(outputs, expected_outputs, strict=True)]
    return Distance(
        sum(int(np.sum(found[name] != value)) for name, value in expected.items()),
        sum(value.size for value in expected.values()),
        sum(int(np.sum(a != b)) for a, b in pairs),
        sum(b.size for _, b in pairs),
    )


def _predictions(output: np.ndarray) -> np.ndarray:
    return output.argmax(1) if np.issubdtype(output.dtype, np.floating) and output.ndim > 1 else output
