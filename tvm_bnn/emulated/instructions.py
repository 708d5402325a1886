"""How many instructions an emulated processor executes for each kernel of a network: a count, no time.

It depends on the code and its data alone, so it is the same on every machine and in every run.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tvm_bnn.emulated import processor

#: Functions of TVM's virtual machine itself: allocation, checks of arguments.
_BUILTIN = "vm.builtin."
_COUNTER = "tvm_bnn.counter"  # see server.c


@dataclass(frozen=True)
class Call:
    """Instructions executed in one call of a kernel: all, and of each mnemonic."""

    kernel: str
    total: int
    of: dict[str, int]


def count(library: bytes, inputs: Sequence[np.ndarray], cpu: str) -> tuple[list[Call], list[np.ndarray]]:
    """The kernel calls of one inference, in their order, and its results; memory is warm.

    library : a Relax network, compiled for AArch64. inputs : one array per argument. cpu : of a name that qemu knows.

    Raises DeviceError where there is no emulator, or where the processor lacks an instruction.
    """
    with tempfile.TemporaryDirectory(prefix="tvm_bnn-counts-") as folder:
        with processor.listening(cpu, 1, Path(folder)) as port:
            network = processor.Network(processor.connected(port), library)
            network.set_inputs(inputs)
            network.run()
            network.machine.module["set_instrument"](_COUNTER)
            results = network.run()
        lines = (Path(folder) / "calls").read_text(encoding="utf-8").splitlines()
    calls = [json.loads(line) for line in lines]
    kept = [Call(call["function"], call["total"], call["of"]) for call in calls]
    return [call for call in kept if not call.kernel.startswith(_BUILTIN)], results
