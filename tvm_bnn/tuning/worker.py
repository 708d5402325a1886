"""What the processes of a tuner do: some build candidates, each of the others measures them on one device.

A candidate that crashes, or never ends, takes its process along and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import tirx

from tvm_bnn import cubin, gpus, linker
from tvm_bnn.rpc import client
from tvm_bnn.rpc.client import Place
from tvm_bnn.runtime import use_threads
from tvm_bnn.schedules.apply import machine_code
from tvm_bnn.targets import Target, host_flags
from tvm_bnn.tuning.log import INSTRUCTIONS, SECONDS

#: What the functions of a library are called: a candidate, and the template's own schedule beside it.
CANDIDATE, DEFAULT = "main", "default"
#: One timing runs a function for about so long, in seconds.
_LEAST_S = 0.01


class WrongResult(Exception):
    """A device returned something else than the kernel's definition gives."""


@dataclass(frozen=True)
class Job:
    """Functions of a library, to be checked and timed.

    data : an .npz file of a `Task`. repeats : timings of each function, in turns. slow : a function whose first timing
    takes longer than so many seconds has no others.
    """

    library: Path
    data: Path
    functions: tuple[str, ...] = (CANDIDATE,)
    repeats: int = 5
    slow: float = math.inf


def build(functions: dict[str, tirx.PrimFunc], target: Target, library: Path) -> None:
    """Compile scheduled kernels into a library for a target."""
    module = tvm.IRModule({name: f.with_attr("global_symbol", name) for name, f in functions.items()})
    with cubin.code_of(target.gpu):
        executable = machine_code(module, target)
    library.write_bytes(linker.shared_object(executable, target.triple))


class _Device:
    """The device of this process.

    A kernel that faults on a GPU leaves the process that launched it (here this one, elsewhere that of the session)
    without one: whatever it measures next fails, until a `devices.Device` puts another in its place.
    """

    def __init__(self, place: Place, threads: int, gpu: str | None) -> None:
        self.name, self._remote, self.count = "here", None, None
        if not place.here:
            session = self._session = place.session()  # which closes with the last reference
            if gpu is not None:
                client.check_gpu(session, gpu)
            self.name, self._remote = session.device, session.remote
            self.count = client.counter(session)
            client.use_threads(session, threads)
        else:
            host_flags()  # asks Linux for the tile registers
            cubin.accept()
            use_threads(threads)
        self.device = gpus.device_of(gpu, self._remote)
        self._data: tuple[Path, list[np.ndarray], dict[int, np.ndarray], list[Any]] | None = None

    def load(self, library: Path) -> Any:
        """The library as a module on the device."""
        if self._remote is None:
            return tvm.runtime.load_module(str(library))
        path = f"./{library.name}"  # the loader would look for a bare name among the system's libraries
        self._remote.upload(str(library), path)
        try:
            return self._remote.load_module(path)
        finally:
            with suppress(AttributeError):  # a server without this keeps its files until the session ends
                self._remote.remove(path)

    def arguments(self, data: Path) -> tuple[list[np.ndarray], dict[int, np.ndarray], list[Any]]:
        """Of a task: arrays, expected contents of those that are written, and the arrays on the device."""
        if self._data is None or self._data[0] != data:
            with np.load(data) as content:
                arrays = [content[f"argument_{i}"] for i in range(int(content["count"]))]
                expected = {i: content[f"expected_{i}"] for i in map(int, content["written"])}
            self._data = data, arrays, expected, [tvm.runtime.tensor(array, self.device) for array in arrays]
        return self._data[1:]


_device: _Device | None = None


def connect(place: Place, threads: int, gpu: str | None = None) -> tuple[str, str]:
    """Take a device, for as long as this process lives; returns its name, and the unit of what it measures.

    gpu : the architecture that kernels are for, None where they are for its processor. Raises DeviceError where there
    is no such device.
    """
    global _device
    _device = _Device(place, threads, gpu)
    return _device.name, INSTRUCTIONS if _device.count else SECONDS


def measure(job: Job) -> list[list[float]]:
    """Seconds of a call of each function, timing by timing; raises WrongResult.

    Of an emulated processor, whose seconds mean nothing: instructions, which are the same each time.
    """
    assert _device, "a device is taken before anything is measured"
    module = _device.load(job.library)
    arrays, expected, tensors = _device.arguments(job.data)
    for name in job.functions:
        for i in expected:
            tensors[i].copyfrom(arrays[i])
        module[name](*tensors)
        for i, result in expected.items():
            _check(tensors[i].numpy(), result, name)
    if _device.count:
        return [[float(_device.count(module, name, *tensors))] * job.repeats for name in job.functions]
    numbers = []
    for name in job.functions:
        once = _seconds(module, name, tensors, 1)
        if once > job.slow:
            return [[once] for _ in job.functions]
        numbers.append(max(1, math.ceil(_LEAST_S / max(once, 1e-9))))
    costs: list[list[float]] = [[] for _ in job.functions]
    for _ in range(job.repeats):
        for name, number, timings in zip(job.functions, numbers, costs, strict=True):
            timings.append(_seconds(module, name, tensors, number))
    return costs


def _seconds(module: Any, name: str, tensors: Sequence[Any], number: int) -> float:
    assert _device
    evaluator = module.time_evaluator(name, _device.device, number=number, repeat=1)
    return float(evaluator(*tensors).mean)


def _check(found: np.ndarray, expected: np.ndarray, name: str) -> None:
    differing = np.count_nonzero(found.view(f"u{found.itemsize}") != expected.view(f"u{expected.itemsize}"))
    if differing:
        raise WrongResult(f"{name}: {differing:,} of {found.size:,} elements differ from the kernel's definition")
