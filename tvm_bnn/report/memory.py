"""The memory of an inference, each system in a process of its own.

Peak resident set after the first inference, less the resident set of the same process when its libraries are loaded,
its inputs are in memory, and it has not seen the network. What loading the network takes is part of it. How far the
peak rises in the inferences after the first tells whether each of them allocates.
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tvm_bnn import runtime
from tvm_bnn.report.peers import FloatNetwork, Peer
from tvm_bnn.runtime import Artifact

#: Inferences after the first.
LATER = 20


@dataclass(frozen=True)
class Memory:
    """Bytes. peak : of the first inference. growth : how far the peak rose in `LATER` more."""

    peak: int
    growth: int


def of_artifact(path: Path, arrays: Sequence[np.ndarray], threads: int) -> Memory:
    """Of a compiled network, loaded from its file; `arrays` are its inputs."""
    return _elsewhere(_artifact, path, list(arrays), threads)


def of_peer(peer: Peer, network: FloatNetwork, threads: int) -> Memory:
    """Of a float network in a peer."""
    return _elsewhere(_peer, peer, network.stored(), network.arrays(), threads)


def _elsewhere(work: Callable[..., Memory], *arguments: Any) -> Memory:
    """The result of work(*arguments) in a process that starts empty."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(work, *arguments).result()


def _artifact(path: Path, arrays: Sequence[np.ndarray], threads: int) -> Memory:
    inputs = [tensor.numpy() for tensor in _tensors(arrays)]

    def prepare() -> Callable[[], object]:
        loaded: Artifact = runtime.load(path)
        loaded.threads = threads
        return partial(loaded, *inputs)

    return _measured(prepare)


def _peer(peer: Peer, module: Path, arrays: Sequence[np.ndarray], threads: int) -> Memory:
    network = FloatNetwork(module, _tensors(arrays), module.parent)
    for name in peer.modules:
        importlib.import_module(name)
    if peer.load is not None:
        peer.load()
    return _measured(lambda: peer.prepare(network, threads))


def _tensors(arrays: Iterable[np.ndarray]) -> tuple[torch.Tensor, ...]:
    """PyTorch's own memory is aligned, so that nobody has to copy it."""
    return tuple(torch.from_numpy(array).clone() for array in arrays)


def _measured(prepare: Callable[[], Callable[[], object]]) -> Memory:
    gc.collect()
    # from now on the peak is that of what follows
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _status("VmRSS")
    run = prepare()
    run()
    first = _status("VmHWM")
    for _ in range(LATER):
        run()
    return Memory(first - before, _status("VmHWM") - first)


def _status(field: str) -> int:
    """Bytes, from /proc/self/status."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    assert found, f"Linux tells {field} of every process"
    return int(found.group(1)) << 10
