"""Instructions that an emulated processor executes: counted alike in every run, and all of them."""

import numpy as np
import pytest

from tests import emulator
from tests.schedules.conftest import build, scheduled
from tests.schedules.test_binary_conv import conv
from tvm_bnn.emulated import instructions, processor
from tvm_bnn.errors import DeviceError
from tvm_bnn.linker import shared_object
from tvm_bnn.schedules.apply import machine_code
from tvm_bnn.targets import resolve


@pytest.fixture(scope="module")
def network():
    """A library with a convolution from 64 to 32 channels at 8x8, its input, and the convolution's kernel."""
    emulator.need()
    target = resolve("llvm -mcpu=cortex-a72", threads=1)
    module, data, _ = build({"one": conv(64, 32, size=(8, 8))}, ["one"], ["one"])
    lowered, made = scheduled(module, target)
    (kernel,) = (name for name, family in lowered.family_of.items() if family == "conv")
    return shared_object(machine_code(made, target), target.triple), data, kernel


def test_counts_are_the_same_in_every_run(network):
    library, data, _ = network
    (first, results), (second, _) = (instructions.count(library, data, "cortex-a72") for _ in range(2))
    assert first == second
    assert all(len(np.unique(result)) > 1 for result in results)


def test_counts_are_those_of_the_code(network):
    """CNT counts the bits of 128 products at once, of the taps in rows that lie inside: 22 of 24."""
    library, data, kernel = network
    calls, _ = instructions.count(library, data, "cortex-a72")
    (call,) = (call for call in calls if call.kernel == kernel)
    assert call.of["cnt"] == 8 * 8 * 32 * 64 * 9 // 128 * 22 // 24
    assert sum(call.of.values()) == call.total
    assert 3 * call.of["cnt"] < call.total < 5 * call.of["cnt"]


def test_processor_that_the_emulator_does_not_know(network):
    library, data, _ = network
    with pytest.raises(DeviceError, match=r"the emulated cortex-a27 stopped, exit code .*cortex-a27"):
        instructions.count(library, data, "cortex-a27")


def test_missing_emulator_is_one_line(monkeypatch):
    monkeypatch.setattr(processor, "QEMU", "qemu-that-is-nowhere")
    with pytest.raises(DeviceError, match=r"^no qemu-that-is-nowhere here; try: apt-get install qemu-user "):
        instructions.count(b"", [], "cortex-a72")
