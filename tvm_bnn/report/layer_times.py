"""The time of each kernel of a compiled network, in the order in which they run.

Their sum is less than the time of the whole network by that of the calls; see `tvm_bnn.call_times`.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np
import tvm
from tvm.runtime.vm import VirtualMachine

from tvm_bnn.call_times import Call, recorded
from tvm_bnn.compiler import Compilation
from tvm_bnn.lower import lower
from tvm_bnn.relay_passes.rewriter import bindings_of, op_name, path_of
from tvm_bnn.report.limit import CONTRACTIONS
from tvm_bnn.report.pool import own_pool
from tvm_bnn.runtime import load_library

MAIN = "main"


class LayerTime(TypedDict):
    """One call of a kernel.

    kernel : its name.
    layers : paths of the torch modules that it computes; those with products where it has any. Empty where none is
        known, as of copies into another layout.
    ms : median.
    """

    kernel: str
    layers: list[str]
    ms: float


def layer_times(made: Compilation, arrays: Sequence[np.ndarray], threads: int, runs: int) -> list[LayerTime]:
    """One row per kernel call of an inference, with the medians of `runs` inferences after two to warm up."""
    library, file = load_library(made.artifact.library)
    file.close()
    machine = VirtualMachine(library, tvm.cpu())
    machine.set_input(MAIN, *(tvm.runtime.tensor(array) for array in arrays))
    with own_pool(threads) as pool:
        return medians(made, pool.submit(recorded, machine.module, MAIN, runs).result())


def medians(made: Compilation, inferences: Sequence[Sequence[Call]]) -> list[LayerTime]:
    """The same of what `tvm_bnn.call_times` wrote down of a network's inferences; no rows of none."""
    if not inferences:
        return []
    names = [name for name, _ in inferences[0]]
    times = [statistics.median(taken) for taken in zip(*([s for _, s in calls] for calls in inferences), strict=True)]
    # lowering the same module again gives the same names
    paths_of = paths_of_kernels(made.optimized, lower(made.optimized, made.target).kernel_of)
    layers = layers_of_calls(names, paths_of)
    return [
        {"kernel": name, "layers": paths, "ms": 1e3 * taken}
        for name, paths, taken in zip(names, layers, times, strict=True)
    ]


def layers_of_calls(calls: Sequence[str], paths: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """The layers of each call, in order.

    calls : kernel names in the order of the calls.
    paths : kernel name -> the layers that it computes in all its calls, in the order of the network. Equal layers share
        a kernel; where it has as many layers as calls, the n-th call is the n-th layer, and otherwise any of them.
    """
    count = Counter(calls)
    seen: Counter[str] = Counter()
    found = []
    for name in calls:
        own = list(paths.get(name, ()))
        found.append([own[seen[name]]] if len(own) == count[name] else list(dict.fromkeys(own)))
        seen[name] += 1
    return found


def paths_of_kernels(optimized: tvm.IRModule, kernel_of: Mapping[str, str]) -> dict[str, list[str]]:
    """Kernel -> paths of what it computes: of its contractions, or of anything else where it has none."""
    contractions: dict[str, list[str]] = {}
    others: dict[str, list[str]] = {}
    for binding in bindings_of(optimized["main"]):
        kernel = kernel_of.get(binding.var.name)
        if kernel is None or not (path := path_of(binding.value)):
            continue
        (contractions if op_name(binding.value) in CONTRACTIONS else others).setdefault(kernel, []).append(path)
    return {**{kernel: list(dict.fromkeys(paths)) for kernel, paths in others.items()}, **contractions}
