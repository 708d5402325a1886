"""Where a suite measures: on this machine, or on a device over TVM's RPC, whose own clock then counts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tvm
from tvm import tirx

from tvm_bnn import linker
from tvm_bnn.compiler import Compilation, compile_source
from tvm_bnn.errors import InputError
from tvm_bnn.frontend.source import load_source
from tvm_bnn.report import ceilings, machine, memory
from tvm_bnn.report.layer_times import LayerTime, layer_times, medians
from tvm_bnn.report.machine import Limits
from tvm_bnn.report.peers import PEERS, FloatNetwork, Peer, tvm_stock
from tvm_bnn.report.peers.peer import Elsewhere, Run
from tvm_bnn.report.timing import Seconds
from tvm_bnn.rpc import client
from tvm_bnn.rpc.client import Session
from tvm_bnn.rpc.remote_artifact import RemoteLibrary, kernel_seconds
from tvm_bnn.targets import Target, available_cpus, host, resolve

TargetOf = Callable[[int], Target]


class Site(Protocol):
    """What a suite asks of where it measures.

    peers : that can take part there. cpus : how many threads can be asked for. target : number of threads -> that of
    the place itself.
    """

    peers: Sequence[Peer]
    target: TargetOf

    @property
    def cpus(self) -> int:
        """See above."""

    def limits(self, target: Target) -> Limits:
        """What it can do with a target's instructions and threads."""

    def describe(self, target: Target, limits: Sequence[Limits]) -> dict[str, Any]:
        """See `machine.describe`."""

    def run(self, made: Compilation, arrays: Sequence[np.ndarray]) -> Run:
        """A run of a compiled network on these inputs, with its target's threads; an `Elsewhere` where it is one."""

    def layers(self, made: Compilation, run: Run, arrays: Sequence[np.ndarray], runs: int) -> list[LayerTime]:
        """See `layer_times`; empty where the site cannot tell."""

    def memory(self, path: Path, arrays: Sequence[np.ndarray], threads: int) -> memory.Memory | None:
        """Of an inference; None where the site cannot tell."""


class Here:
    """This machine."""

    peers: Sequence[Peer] = PEERS
    target: TargetOf = staticmethod(host)

    limits = staticmethod(machine.measure)
    describe = staticmethod(machine.describe)
    memory = staticmethod(memory.of_artifact)

    @property
    def cpus(self) -> int:
        """Of this process."""
        return available_cpus()

    def run(self, made: Compilation, arrays: Sequence[np.ndarray]) -> Run:
        """See `Site`."""
        return partial(made.artifact, *arrays)

    def layers(self, made: Compilation, run: Run, arrays: Sequence[np.ndarray], runs: int) -> list[LayerTime]:
        """See `Site`."""
        return layer_times(made, arrays, made.target.threads, runs)


HERE = Here()


class OnDevice:
    """A device in a session; every method raises DeviceError, with its name, where something goes wrong there.

    What a GPU can do at best is not measured over the wire: its limits are infinite.
    """

    def __init__(self, session: Session, target: TargetOf | None = None) -> None:
        """`target` : number of threads -> what it runs, by default what it says itself of its processor.

        Raises InputError where it does not, DeviceError where `target` is a GPU that it does not have.
        """
        self._session, self._described = session, client.describe(session)
        said = self._described.target if self._described else None
        if target is None:
            if said is None:
                raise InputError(f"{session.device} does not say what it is; name it: --target 'llvm -mcpu=NAME'")
            target = partial(resolve, said)
        self.target = target
        self._gpu = target(1).gpu
        if self._gpu:
            client.check_gpu(session, self._gpu.arch)
        self._names = (f"network{number}" for number in itertools.count())
        ours = Peer("tvm_bnn-float", ("tvm",), self._float, compiles=True)
        stock = Peer("tvm-stock", ("tvm",), self._stock, compiles=True)  # has no schedules for GPUs
        self.peers: Sequence[Peer] = (ours,) if self._gpu else (ours, stock)

    @property
    def cpus(self) -> int:
        """That its server may use; 1 where it does not tell, and of a GPU, whose kernels one thread starts."""
        return self._described.cpus if self._described and not self._gpu else 1

    def limits(self, target: Target) -> Limits:
        """See `Site`."""
        if target.gpu:
            return Limits(target.threads, math.inf, math.inf, None, {machine.MB: math.inf})
        return machine.measure(target, fastest=self._fastest)

    def describe(self, target: Target, limits: Sequence[Limits]) -> dict[str, Any]:
        """See `Site`; of a device that does not tell, its name."""
        told = self._described
        own = {"cpu": told.readings.cpu, "system": told.system} if told else {"cpu": "unknown", "system": "unknown"}
        if told and told.gpu and self._gpu:
            own["cpu"] = f"{told.gpu.name}, {own['cpu']}"
        return {**machine.describe(target, limits), **own, "cpus": self.cpus, "device": self._session.device}

    def run(self, made: Compilation, arrays: Sequence[np.ndarray]) -> Run:
        """See `Site`."""
        return self._loaded(made.artifact.library, arrays, made.target)

    def layers(self, made: Compilation, run: Run, arrays: Sequence[np.ndarray], runs: int) -> list[LayerTime]:
        """See `Site`."""
        assert isinstance(run, _Loaded)
        return medians(made, run.calls(runs))

    def memory(self, path: Path, arrays: Sequence[np.ndarray], threads: int) -> None:
        """See `Site`."""

    def _float(self, network: FloatNetwork, threads: int) -> Run:
        """The float network through our compiler."""
        made = compile_source(load_source(network.module, network.inputs), self.target(threads))
        return self._loaded(made.artifact.library, network.arrays(), made.target)

    def _stock(self, network: FloatNetwork, threads: int) -> Run:
        target = self.target(threads)
        library = linker.shared_object(tvm_stock.build(network.module, network.inputs, target), target.triple)
        return self._loaded(library, network.arrays(), target)

    def _loaded(self, library: bytes, arrays: Sequence[np.ndarray], target: Target) -> _Loaded:
        gpu = target.gpu.arch if target.gpu else None
        remote = RemoteLibrary(self._session, library, next(self._names), gpu)
        loaded = _Loaded(remote, arrays, partial(client.use_threads, self._session, target.threads))
        loaded.refresh()
        return loaded

    def _fastest(self, func: tirx.PrimFunc, arrays: Sequence[np.ndarray], target: Target, calls: int) -> float:
        client.use_threads(self._session, target.threads)
        library = linker.shared_object(ceilings.build(func, target), target.triple)
        return min(kernel_seconds(self._session, library, next(self._names), arrays, calls))


@dataclass(frozen=True)
class _Loaded(Elsewhere):
    """A network on a device. arrays : its inputs. use_threads : has the device use the right number."""

    remote: RemoteLibrary
    arrays: Sequence[np.ndarray]
    use_threads: Callable[[], object]

    def __call__(self) -> Any:
        self.use_threads()
        return self.remote.run()

    def refresh(self) -> None:
        """See `Elsewhere`."""
        self.remote.set_inputs([tvm.runtime.tensor(array) for array in self.arrays])

    def seconds(self) -> Seconds:
        """See `Elsewhere`."""
        self.use_threads()
        (taken,) = self.remote.seconds(1)
        return Seconds(taken)

    def calls(self, runs: int) -> list[list[tuple[str, float]]]:
        """See `RemoteLibrary.calls`."""
        self.use_threads()
        return self.remote.calls(runs)
