"""Candidates for an Arm board, linked here and measured there: on an emulated one, whose times mean nothing."""

import random

import pytest

from tests import emulator
from tests.tuning import network
from tvm_bnn.emulated import processor
from tvm_bnn.frontend.source import load_source
from tvm_bnn.rpc.address import Address
from tvm_bnn.targets import resolve
from tvm_bnn.tuning import worker
from tvm_bnn.tuning.devices import Device
from tvm_bnn.tuning.space import Space
from tvm_bnn.tuning.tasks import tasks_of

BOARD = resolve("llvm -mcpu=cortex-a72", threads=1)
_ELF_MACHINE, _AARCH64 = slice(18, 20), (183).to_bytes(2, "little")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """Of the small network, compiled for the board."""
    return tasks_of(load_source(network.tiny(), None), BOARD, tmp_path_factory.mktemp("data"))


def test_candidates_are_right_on_the_board(tasks, tmp_path):
    (task,) = (task for task in tasks if task.family == "conv")
    space = Space(task.kernel, task.family, BOARD, random.Random(0))
    candidates = [space.default, *(space.draw() for _ in range(4))]
    libraries = [tmp_path / f"{i}.so" for i in range(len(candidates))]
    for candidate, library in zip(candidates, libraries, strict=True):
        worker.build({worker.CANDIDATE: candidate.function}, BOARD, library)
        assert library.read_bytes()[_ELF_MACHINE] == _AARCH64
    emulator.need()
    jobs = [worker.Job(library, task.data, repeats=1) for library in libraries]
    with processor.listening("cortex-a72") as port:
        device = Device(worker.Place(server=Address("127.0.0.1", port)), BOARD.threads)
        costs = [device.measure(job, jobs[0]) for job in jobs]
        device.close()
    assert all(0 < cost < float("inf") for ((cost,),) in costs)
