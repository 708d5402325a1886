"""A kernel of ours on the GPU, ready to be called by itself on the arguments that it had."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tvm
import tvm_ffi
from tvm import relax

from tvm_bnn import cubin
from tvm_bnn.errors import TargetError
from tvm_bnn.lower import lower
from tvm_bnn.report.kernel_call import captured
from tvm_bnn.schedules import schedule_module
from tvm_bnn.schedules.apply import RULE_ATTR, machine_code
from tvm_bnn.targets import Target


class GpuKernelCall:
    """The kernels that make some values of a module of Relax operators, or all of them, compiled by nvcc.

    kernel, rule : their names, and those of their schedules' rules.
    results : of the whole module, as a flat list. A call launches the kernels, and does not wait for them.
    """

    def __init__(
        self, module: tvm.IRModule, values: Sequence[str] | None, data: Sequence[np.ndarray], target: Target
    ) -> None:
        """`values` : names of bindings in `main`, None for all kernels; `data` : one array per argument of `main`."""
        self.scheduled, names, timed = scheduled(module, values, target)
        self.kernel = ", ".join(dict.fromkeys(names)) or "main"
        self.rule = ", ".join(dict.fromkeys(str(self.scheduled[name].attrs[RULE_ATTR]) for name in timed))
        if target.gpu is None:
            raise TargetError(f"found {target.name}, which is no GPU")
        self._device = tvm.cuda()
        # machine code is made when TVM compiles, and taken out when it is loaded, at the latest by the first call
        with cubin.compiled_for(target.gpu.arch):
            machine = relax.VirtualMachine(machine_code(self.scheduled, target), self._device)
            self._calls, self.results = captured(machine, names, data, self._device)

    def __call__(self) -> None:
        """Launch."""
        for function, arguments in self._calls:
            function(*arguments)

    def on_stream(self, stream: int, times: int) -> None:
        """Launch on a stream, so many times."""
        with tvm_ffi.use_raw_stream(self._device, stream):
            for _ in range(times):
                self()


def scheduled(
    module: tvm.IRModule, values: Sequence[str] | None, target: Target
) -> tuple[tvm.IRModule, list[str], list[str]]:
    """A module's kernels with their schedules; names of those that make the values, and of those that are timed."""
    lowered = lower(module, target)
    names = [lowered.kernel_of[value] for value in values or ()]
    made = schedule_module(lowered.module, lowered.family_of, target)
    return made, names, names or list(lowered.family_of)
