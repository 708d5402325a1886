"""Compiled code on a device: loading it there, running it, and timing it there rather than over the wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm
from tvm.runtime.vm import VirtualMachine

from tvm_bnn import artifact, gpus
from tvm_bnn.call_times import Call
from tvm_bnn.errors import InputError
from tvm_bnn.rpc import client
from tvm_bnn.rpc.client import Session
from tvm_bnn.runtime import checked_inputs
from tvm_bnn.targets import check_runs_on

_MAIN = "main"
_NO_TUPLE = -1
_RUNNING = "running (an instruction that the processor lacks ends the session)"


class RemoteLibrary:
    """A library with the Relax function `main`, loaded on a device; its inputs and results stay there.

    Every method raises DeviceError, with the device's name, where something goes wrong there.
    """

    def __init__(self, session: Session, library: bytes, name: str = "network", gpu: str | None = None) -> None:
        """`library` : content of a shared object; `name` : of its file there, one for each library of a session.

        gpu : the architecture of the GPU that its kernels are for, None where they are for the processor.
        """
        if gpu is not None:
            client.check_gpu(session, gpu)
        remote = session.remote
        self._session, self._gpu, self._device = session, gpu, gpus.device_of(gpu, remote)
        # the folder is named because the loader would look for a bare name among the system's libraries
        path = f"./{name}.so"
        session.ask("receiving the compiled code", lambda: remote.upload(bytearray(library), path))
        self._machine = session.ask(
            "loading the compiled code, which may be for another processor",
            lambda: VirtualMachine(remote.load_module(path), self._device),
        )

    def set_inputs(self, inputs: Sequence[Any]) -> None:
        """Copy arguments of `main`, tensors of TVM's on this machine, to the device."""

        def copied() -> None:
            self._machine.set_input(_MAIN, *(value.copyto(self._device) for value in inputs))

        self._session.ask("receiving the inputs", copied)

    def run(self) -> Any:
        """One run on those inputs: its result, a numpy array or a tuple of results."""

        def result() -> Any:
            self._machine.invoke_stateful(_MAIN)
            return self._result()

        return self._session.ask(_RUNNING, result)

    def _result(self, *place: int) -> Any:
        """What the last run left at a place of its result; `VirtualMachine.get_outputs` would keep the session open."""
        module = self._machine.module
        fields = module["get_output_arity"](_MAIN, *place)
        if fields == _NO_TUPLE:
            return module["get_output"](_MAIN, *place).numpy()
        return tuple(self._result(*place, index) for index in range(fields))

    def seconds(self, repeat: int, number: int = 1) -> list[float]:
        """Seconds per run by the device's own clock, `repeat` times over `number` runs each, after one to warm up."""

        def measured() -> list[float]:
            evaluator = self._machine.time_evaluator("invoke_stateful", self._device, number=number, repeat=repeat)
            return [float(value) for value in evaluator(_MAIN).results]

        return self._session.ask(_RUNNING, measured)

    def calls(self, runs: int) -> list[list[Call]]:
        """The time of each call in each run, see `tvm_bnn.call_times`; empty where the server cannot tell.

        Calls of a GPU's kernels return before these have run.
        """
        return [] if self._gpu else client.calls(self._session, self._machine.module, _MAIN, runs)


def kernel_seconds(
    session: Session, library: bytes, name: str, arguments: Sequence[np.ndarray], repeat: int
) -> list[float]:
    """Seconds of `repeat` calls of the function `main` of a library, which is no network, after one to warm up.

    library, name : see `RemoteLibrary`; of a processor. arguments : what the function reads and writes there.
    """
    remote, path = session.remote, f"./{name}.so"

    def measured() -> list[float]:
        remote.upload(bytearray(library), path)
        tensors = [tvm.runtime.tensor(each, remote.cpu()) for each in arguments]
        evaluator = remote.load_module(path).time_evaluator(_MAIN, remote.cpu(), number=1, repeat=repeat)
        return [float(value) for value in evaluator(*tensors).results]

    return session.ask(_RUNNING, measured)


class RemoteArtifact:
    """A compiled network on a device; called and timed like `runtime.Artifact`, with the very same results.

    manifest : of the artifact. device : see `Session`.
    threads : how many run it; None where the device's server decides and does not tell.
    """

    def __init__(
        self, session: Session, library: bytes, manifest: artifact.Manifest, threads: int | None = None
    ) -> None:
        """Load it. threads : by default as compiled, as far as the device has CPUs.

        Raises ArtifactError where the device says that it is another processor than `manifest` asks for, DeviceError
        where it has no such GPU, InputError for a number of threads that it cannot use.
        """
        self.manifest = manifest
        self.device = session.device
        told_of = client.describe(session)
        if told_of is not None:
            target = told_of.target or "llvm -mcpu=NAME"
            machine = f"the device {self.device}"
            check_runs_on(manifest["target"], told_of.arch, told_of.system, frozenset(told_of.flags), machine, target)
        cpus = told_of.cpus if told_of else None
        if threads and cpus and threads > cpus:
            raise InputError(f"found {threads} threads; from 1 to {cpus} (the CPUs of {self.device}) can be used")
        self.threads = client.use_threads(session, threads or min(int(manifest["target"]["threads"]), cpus or 1))
        if threads and self.threads != threads:
            raise InputError(
                f"found {threads} threads; {self.device} uses {self.threads or 'a number of its own'}, and its server "
                "does not let clients choose; set TVM_NUM_THREADS there"
            )
        self._library = RemoteLibrary(session, library, gpu=manifest["target"].get("gpu"))

    def __call__(self, *inputs: Any) -> Any:
        """Run it on numpy arrays or torch tensors; the result is a numpy array, or a tuple of results."""
        self._library.set_inputs(checked_inputs(inputs, self.manifest))
        return self._library.run()

    def benchmark(self, *inputs: Any, repeat: int = 10, number: int = 1) -> list[float]:
        """Seconds per run, measured on the device; see `RemoteLibrary.seconds`."""
        self._library.set_inputs(checked_inputs(inputs, self.manifest))
        return self._library.seconds(repeat, number)


def load(session: Session, path: artifact.PathLike, threads: int | None = None) -> RemoteArtifact:
    """Read an artifact file and load it on a device. threads : see `RemoteArtifact`, which also raises.

    Raises ArtifactError for a file that is none.
    """
    with artifact.opened(path) as content:
        return RemoteArtifact(session, content.library.read(), content.manifest, threads)
