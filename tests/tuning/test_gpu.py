"""Tuning for a GPU: what is tried is right, records have a folder of their own, and what happens without a GPU."""

import itertools
import random
import re
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
import torch
import tvm
from torch import nn

from tests.cuda import simt
from tests.tuning import network
from tvm_bnn import compile, cubin, gpus, linker
from tvm_bnn.errors import TargetError
from tvm_bnn.frontend import source
from tvm_bnn.nn import BinaryConv2d, Sign
from tvm_bnn.schedules.apply import define_module, machine_code
from tvm_bnn.targets import host, resolve
from tvm_bnn.tune import main
from tvm_bnn.tuning import devices, log, worker
from tvm_bnn.tuning.devices import CandidateError, Device, Outcome
from tvm_bnn.tuning.space import Space
from tvm_bnn.tuning.tasks import tasks_of
from tvm_bnn.tuning.tuner import Tuner
from tvm_bnn.tuning.worker import Job, Place

TARGET = resolve("cuda -arch=sm_90", threads=2, gpu=True)
MODEL = f"{network.__name__}:tiny"


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """Of a network with one kernel that has something to decide."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(Sign(), BinaryConv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64)).eval()
        inputs = (torch.randn(1, 32, 9, 8),)
    return tasks_of(source.load_source(model, inputs), TARGET, tmp_path_factory.mktemp("data"))


@pytest.fixture
def task(tasks):
    """That kernel."""
    (found,) = (each for each in tasks if each.family == "tensor_conv")
    return found


def test_candidates_are_right(task):
    space = Space(task.kernel, task.family, TARGET, random.Random(0))
    with np.load(task.data) as content:
        arguments = [content[f"argument_{i}"] for i in range(int(content["count"]))]
        expected = {int(i): content[f"expected_{i}"] for i in content["written"]}
    drawn = [space.draw() for _ in range(4)]
    assert len({candidate.key for candidate in drawn}) == 4
    for candidate in drawn:
        found = simt.run(candidate.function, TARGET, arguments)
        for i, result in expected.items():
            np.testing.assert_array_equal(found[i], result, err_msg=candidate.key)


def test_what_is_built_carries_machine_code(task, tmp_path):
    space = Space(task.kernel, task.family, TARGET, random.Random(0))
    worker.build({worker.CANDIDATE: space.default.function}, TARGET, tmp_path / "kernel.so")
    assert b"a cubin in base64: " in (tmp_path / "kernel.so").read_bytes()


class Unbuilt:
    """Builds nothing, or fails."""

    def __init__(self, failure=None):
        self._failure = failure

    def submit(self, *_):
        done = Future()
        if self._failure:
            done.set_exception(self._failure)
        else:
            done.set_result(None)
        return done


class Faster:
    """Devices on which every candidate is faster than the last, and than the defaults in turns."""

    unit, devices, working = log.SECONDS, (), ()

    def __init__(self):
        self._numbers = itertools.count(1)

    def measure(self, jobs, _probe):
        for i, job in enumerate(jobs):
            one = 1 / next(self._numbers)
            yield i, Outcome([[one * place] * 3 for place in range(1, 1 + len(job.functions))], "", "a GPU")


class Silent:
    """Shows nothing."""

    def update(self, *_):
        """Nothing."""

    def say(self, *_):
        """Nothing."""


def test_records_are_where_compile_looks_for_them(tasks, task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tuner = Tuner(tasks, TARGET, Faster(), tmp_path, Path(log.FOLDER), 3, time.monotonic() + 100, Silent())
    tuner._builders = Unbuilt()
    tuner.run()
    assert [each.task.workload for each in tuner.states] == [task.workload]
    path = tmp_path / "tuning_logs" / "cuda-sm_90" / "1-threads.jsonl"
    assert [*(tmp_path / "tuning_logs").rglob("*.jsonl")] == [path] and tuner.trials == 3
    for threads in (None, 4):  # those of the processor decide nothing on a GPU
        found = compile._records(resolve("cuda -arch=sm_90", threads, gpu=True), None, untuned=False)
        ((workload, record),) = log.choices(found.records).items()
        assert workload == task.workload and len(record.decisions["tile"]) == 4 and record.gain == 2


def test_a_machine_that_cannot_compile_says_so(tasks, tmp_path):
    tuner = Tuner(tasks, TARGET, Faster(), tmp_path, tmp_path, 3, time.monotonic() + 100, Silent())
    tuner._builders = Unbuilt(TargetError("nvcc cannot compile kernels for sm_90: no g++"))
    with pytest.raises(TargetError, match=r"own decisions for 1: it cannot be built: nvcc cannot .*: no g\+\+"):
        tuner.run()


class Process:
    """A measuring process that loses its GPU for good with the first kernel that faults."""

    def __init__(self):
        self._proc, self._lost = self, False

    def send(self, function, arguments, timeout):
        self._asked = function, arguments[0]

    def recv(self):
        function, argument = self._asked
        if function is worker.connect:
            return "here", log.SECONDS
        self._lost |= argument.library.name == "faults.so"
        if self._lost:
            raise RuntimeError("CUDAError: an illegal memory access was encountered")
        return [[1.0]]

    def kill(self):
        """Another one is started when something is sent."""
        self._lost = False


def test_a_fault_costs_one_candidate(monkeypatch):
    monkeypatch.setattr(devices, "PopenWorker", Process)
    good, bad = (Job(Path(name), Path("data")) for name in ("good.so", "faults.so"))
    device = Device(Place(), 1, gpu="sm_90")
    assert device.measure(good, good) == [[1.0]]
    with pytest.raises(CandidateError, match="an illegal memory access was encountered"):
        device.measure(bad, good)
    assert device.measure(good, good) == [[1.0]] and not device.retired


def test_kernels_and_their_tensors_are_on_the_gpu(task, tmp_path, monkeypatch):
    """The processor stands in for it, with the kernel's definition for it."""
    asked = []
    monkeypatch.setattr(gpus, "device_of", lambda *which: asked.append(which) or tvm.cpu())
    monkeypatch.setattr(worker, "_device", None)
    module = define_module(tvm.IRModule({"main": task.kernel.with_attr("global_symbol", "main")}), ["main"])
    library = linker.shared_object(machine_code(module, host(1)), host(1).triple)
    (tmp_path / "kernel.so").write_bytes(library)
    with cubin.taken_out():  # so that what follows is undone
        assert worker.connect(Place(), 1, "sm_90") == ("here", log.SECONDS)
        assert tvm.get_global_func("tvm_callback_cuda_compile")(cubin.carried(b"code")) == b"code"
    assert asked == [("sm_90", None)]
    assert len(worker.measure(Job(tmp_path / "kernel.so", task.data, repeats=2))[0]) == 2


@pytest.mark.parametrize(
    ("here", "compiler", "message"),
    [
        (None, True, "cuda-sm_90 needs an NVIDIA GPU .*, and this machine has no .*; name a device of that kind: -"),
        ((8, 6), True, "cuda-sm_90 needs .*, and this machine has one of compute capability 8.6; name a device"),
        ((9, 0), False, "no nvcc was found"),
    ],
    ids=["no GPU", "another GPU", "no compiler"],
)  # fmt: skip
def test_what_is_missing_is_one_line_before_anything_is_compiled(here, compiler, message, monkeypatch, capsys):
    def absent():
        raise TargetError("no nvcc was found, which makes code for GPUs")

    monkeypatch.setattr(gpus, "version_here", lambda: here)
    monkeypatch.setattr("tvm_bnn.targets.version_here", lambda: here)
    monkeypatch.setattr(source, "load_source", lambda *_: pytest.fail("the model was loaded"))
    if not compiler:
        monkeypatch.setattr(cubin, "nvcc", absent)
    assert main([MODEL, "--target", "cuda -arch=sm_90"]) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(f"error: {message}.*\n", error), error
