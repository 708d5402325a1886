"""What became of every layer: the rows of ``--explain``, their totals, and both as text and JSON (docs/explain.md)."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tvm
from rich.table import Table
from tvm import relax

from tvm_bnn.artifact import whole_file
from tvm_bnn.relay_passes.decisions import Decisions, Layer
from tvm_bnn.relay_passes.rewriter import bindings_of, op_name, path_of
from tvm_bnn.schedules.apply import RULE_ATTR, TUNED_ATTR

Row = dict[str, Any]

CONVOLUTIONS = frozenset({"conv1d", "conv2d", "conv3d", "conv2d_transpose"})
#: The rule of what no schedule of ours serves.
TVM_RULE = "tvm"
_BINARY_OPS = ("bnn.bconv2d", "bnn.bmatmul")
#: Of the rows and of --json. A key that changes its meaning or goes away raises it; new keys do not.
VERSION = 1


def rows(
    decisions: Decisions, optimized: tvm.IRModule, kernel_of: Mapping[str, str], scheduled: tvm.IRModule
) -> list[Row]:
    """One row per convolution, linear layer and matmul, in the order of the network.

    kernel_of : value of the optimized module -> name of its kernel in the scheduled one.

    A row has path (of the torch module), op, shape (of the operands), decision ("binary" or "float"), reason and
    advice ("" for a binary layer), rule (of its schedule; "tvm" where TVM compiles it, "" where nothing is left of
    it), macs, planes (pairs of bit planes that are multiplied), epilogue (how the bits behind it are made), and of a
    float layer precision ("fp32", "tf32", "bf16" or "int8") and stays_fp32 (why it is not the one that was asked for).
    """
    kernels = _LayerKernels(decisions, optimized, kernel_of)
    rules, tuned = _rules(scheduled), _tuned(scheduled)
    return [
        {
            "path": layer.path,
            "op": layer.op,
            "shape": layer.shape,
            "decision": layer.decision,
            "reason": layer.reason,
            "rule": rules.get(kernel, TVM_RULE) if (kernel := kernels.of(layer)) else "",
            "tuned": kernel in tuned,
            "macs": layer.macs,
            "advice": layer.advice,
            "planes": layer.planes,
            "epilogue": layer.epilogue,
            "precision": layer.precision if layer.decision == "float" else "",
            "stays_fp32": layer.stays_fp32,
        }
        for layer in decisions.layers
    ]


class _LayerKernels:
    """The kernel of each layer. A converted layer's own value may be folded away; its bconv2d bears its path.

    A layer of several planes has several bconv2d, and a shared module that is called n times has n times as many.
    Softmax probabilities times values have become a weighted mean, which bears their path as well.
    """

    def __init__(self, decisions: Decisions, optimized: tvm.IRModule, kernel_of: Mapping[str, str]) -> None:
        self.kernel_of = kernel_of
        self.calls = Counter(layer.path for layer in decisions.layers if layer.decision == "binary")
        self.binary: dict[str, list[str]] = {}
        self.means: dict[str, list[str]] = {}
        for binding in bindings_of(optimized["main"]):
            if op_name(binding.value) == "bnn.weighted_mean":
                self.means.setdefault(path_of(binding.value), []).append(binding.var.name)
            if isinstance(binding.value, relax.Call) and op_name(binding.value) in _BINARY_OPS:
                self.binary.setdefault(path_of(binding.value), []).append(binding.var.name)

    def of(self, layer: Layer) -> str:
        """Name of the layer's kernel; to be asked once a layer, in order, since a shared module has several."""
        waiting = self.binary.get(layer.path, []) if layer.decision == "binary" else []
        if not waiting:
            means = self.means.get(layer.path, []) if layer.op == "matmul" and layer.decision == "float" else []
            value = layer.value if layer.value in self.kernel_of or not means else means.pop(0)
            return self.kernel_of.get(value, "")
        taken = max(len(waiting) // self.calls[layer.path], 1)
        self.calls[layer.path] = max(self.calls[layer.path] - 1, 1)
        value = waiting[0]
        # equal calls may have become one, which then serves the layers to come as well
        del waiting[: min(taken, len(waiting) - 1)]
        return self.kernel_of.get(value, "")


def _rules(scheduled: tvm.IRModule) -> dict[str, str]:
    return {
        var.name_hint: str(function.attrs[RULE_ATTR])
        for var, function in scheduled.functions_items()
        if function.attrs and RULE_ATTR in function.attrs
    }


def _tuned(scheduled: tvm.IRModule) -> set[str]:
    """Kernels whose schedule has a record's decisions."""
    return {var.name_hint for var, function in scheduled.functions_items() if TUNED_ATTR in (function.attrs or {})}


def totals(layers: Iterable[Row]) -> dict[str, Any]:
    """Counts of layers, and the share of multiply-accumulates that is binary, over the rows of explain."""
    layers = list(layers)
    counts: dict[str, Any] = {}
    for group, chosen in (
        ("convolutions", [row for row in layers if row["op"] in CONVOLUTIONS]),
        ("products", [row for row in layers if row["op"] not in CONVOLUTIONS]),
    ):
        for decision in ("binary", "float"):
            counts[f"{group}_{decision}"] = sum(row["decision"] == decision for row in chosen)
    macs = sum(row["macs"] for row in layers)
    binary = sum(row["macs"] for row in layers if row["decision"] == "binary")
    return {**counts, "macs": macs, "binary_macs": binary, "binary_share": binary / macs if macs else 0.0}


def table(layers: Sequence[Row]) -> Table:
    """The rows as a table for the screen."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("path", "op", "shape", "decision", "precision", "rule"):
        shown.add_column(name, no_wrap=True)
    shown.add_column("MACs", justify="right", no_wrap=True)
    shown.add_column("reason", no_wrap=True)
    shown.add_column("advice", no_wrap=True)
    for row in layers:
        # artifacts of older versions have neither precision nor advice
        cells = [row["path"], row["op"], row["shape"], row["decision"], row.get("precision", "")]
        cells.append(row["rule"] + (" (tuned)" if row.get("tuned") else ""))
        cells += [f"{row['macs']:,}", row["reason"], row.get("advice", "")]
        shown.add_row(*cells, style="" if row["decision"] == "binary" else "yellow")
    return shown


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write what is known of a compilation as JSON, whole or not at all; raises OutputError."""
    with whole_file(path) as file:
        file.write(json.dumps(content, indent=1).encode() + b"\n")
