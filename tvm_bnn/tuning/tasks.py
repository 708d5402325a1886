"""The distinct kernels of a network, each with arguments that it has in an inference, and what it is to make of them.

What a kernel is to compute is its definition: the loops before they are scheduled, in the order in which they are
written. They are run once on the example input here: code for the target itself where this machine's processor runs
it, since whether multiplications and additions are fused is a matter of the processor, else code for this machine. (The
kernels of GPUs say themselves what is fused.)
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import relax, tirx

from tvm_bnn.frontend.naming import name_by_node
from tvm_bnn.frontend.source import Source
from tvm_bnn.lower import lower
from tvm_bnn.lower.bounds import stores
from tvm_bnn.lower.in_place import IN_PLACE
from tvm_bnn.lower.module import Lowered
from tvm_bnn.relay_passes.decisions import Decisions, Layer
from tvm_bnn.relay_passes.pipeline import optimize
from tvm_bnn.relay_passes.rewriter import bindings_of, op_name
from tvm_bnn.report.layer_times import paths_of_kernels
from tvm_bnn.report.limit import Work
from tvm_bnn.schedules.apply import define_module, machine_code, workload_of
from tvm_bnn.targets import Target, host


@dataclass(frozen=True)
class Task:
    """A kernel to be tuned.

    kernel : before it is scheduled. uses : calls of it in an inference. layers : paths of what it computes.
    work : what a call has to do at least, without what it moves.
    data : an .npz file: `count`; `argument_I`, all arguments before a call; `written`, which of them a call writes;
    `expected_I`, their contents after it.
    """

    workload: str
    family: str
    kernel: tirx.PrimFunc
    uses: int
    layers: tuple[str, ...]
    work: Work
    data: Path

    @property
    def name(self) -> str:
        """For people."""
        more = f" and {len(self.layers) - 1} more" if len(self.layers) > 1 else ""
        return f"{self.layers[0]}{more}" if self.layers else f"{self.family}-{self.workload[:6]}"


def tasks_of(source: Source, target: Target, folder: Path, sign_zero: str = "plus") -> list[Task]:
    """All tasks of a network on a target; their data are written to a folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        imported = name_by_node(source.imported(), source.single).module
    decisions = Decisions()
    optimized = optimize(imported, decisions, sign_zero)
    lowered = lower(optimized, target)
    paths = paths_of_kernels(optimized, lowered.kernel_of)
    calls = _calls(lowered.module)
    first: dict[str, list[str]] = {}
    for name in calls:
        if name in lowered.family_of:
            first.setdefault(workload_of(lowered.module[name]), []).append(name)
    layer_of = {layer.path: layer for layer in decisions.layers}
    defined = lower(optimized, target, in_place=False)
    definitions = define_module(defined.module, defined.family_of)
    data = _captured(lowered, definitions, [names[0] for names in first.values()], source, target, folder)
    tasks = []
    for workload, names in first.items():
        uses = sum(calls[name] for name in names)
        layers = tuple(dict.fromkeys(path for name in names for path in paths.get(name, ())))
        work = _work((layer_of[path] for path in layers if path in layer_of), uses)
        kernel, family = lowered.module[names[0]], lowered.family_of[names[0]]
        tasks.append(Task(workload, family, kernel, uses, layers, work, data[names[0]]))
    return tasks


def _work(layers: Iterable[Layer], uses: int) -> Work:
    """What a call does of layers that take so many."""
    macs = {"binary": 0, "float": 0}
    for layer in layers:
        macs[layer.decision] += layer.macs
    return Work(macs["binary"] // uses, macs["float"] // uses)


def _calls(module: tvm.IRModule) -> Counter[str]:
    """How often `main` calls each kernel."""
    calls: Counter[str] = Counter()
    for binding in bindings_of(module["main"]):
        if op_name(binding.value).startswith("relax.call_tir"):
            calls[binding.value.args[0].name_hint] += 1
    return calls


def _captured(
    lowered: Lowered, defined: tvm.IRModule, kernels: list[str], source: Source, target: Target, folder: Path
) -> dict[str, Path]:
    """The data of kernels, of their first calls in an inference of their definitions."""
    processor = target if target.native and target.gpu is None else host()
    machine = relax.VirtualMachine(machine_code(defined, processor), tvm.cpu())
    waiting = {name: lowered.module[name] for name in kernels}
    before: list[np.ndarray] = []
    found: dict[str, Path] = {}

    def watch(_function: Any, name: str, first: bool, _result: Any, *arguments: Any) -> int:
        if name in waiting:
            arrays = [each.numpy() for each in arguments]
            if first:
                before[:] = arrays
            else:
                found[name] = folder / f"{name}.npz"
                _save(found[name], before, arrays, waiting.pop(name), _written(defined[name]))
        return 0

    machine.set_instrument(watch)
    machine["main"](*(tvm.runtime.tensor(value.numpy()) for value in source.inputs))
    return found


def _save(
    path: Path, before: list[np.ndarray], after: list[np.ndarray], kernel: tirx.PrimFunc, written: list[int]
) -> None:
    """The data of a call of a definition, as the kernel takes them: some outputs are written over arguments."""
    over = {int(output): int(argument) for output, argument in (kernel.attrs or {}).get(IN_PLACE, [])}
    kept = [i for i in range(len(before)) if i not in over]
    expected = {kept.index(over.get(i, i)): after[i] for i in written}
    content: dict[str, Any] = {"count": len(kept), "written": sorted(expected)}
    content |= {f"argument_{place}": before[i] for place, i in enumerate(kept)}
    content |= {f"expected_{place}": array for place, array in expected.items()}
    np.savez(path, **content)


def _written(kernel: tirx.PrimFunc) -> list[int]:
    """Which parameters a kernel writes."""
    stored = {store.buffer for store in stores(kernel.body)}
    return [i for i, buffer in enumerate(kernel.params) if buffer in stored]
