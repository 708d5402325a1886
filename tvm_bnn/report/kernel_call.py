"""Kernels of a compiled module, or all of it, ready to be called by themselves on the arguments that they had."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tvm
from tvm import relax

from tvm_bnn.lower import lower
from tvm_bnn.report.pool import own_pool
from tvm_bnn.report.timing import Seconds
from tvm_bnn.schedules import schedule_module
from tvm_bnn.schedules.apply import RULE_ATTR, machine_code
from tvm_bnn.targets import Target

#: The function of a module that calls its kernels.
_WHOLE = "main"
#: A function, and what it is called on.
Call = tuple[Callable[..., Any], list[Any]]


class KernelCall:
    """The kernel that makes one value of a module of Relax operators, those that make several, or all of them.

    results : of the whole module, as a flat list; what a test compares with the reference.
    kernel, rule : the kernel's name, and that of its schedule's rule, or all of them; "main" of all kernels together.

    A call runs the kernel alone and returns the seconds it took. TVM keeps a pool of workers per Python thread, so
    the kernel runs in a thread of its own; that thread, not the caller, looks at the clock.
    """

    def __init__(
        self, module: tvm.IRModule, value: str | Sequence[str] | None, data: Sequence[np.ndarray], target: Target
    ) -> None:
        """`value` : names of bindings in `main`, None for all kernels; `data` : one array per argument of `main`."""
        lowered = lower(module, target)
        values = [value] if isinstance(value, str) else value or []
        self._kernels = [lowered.kernel_of[each] for each in values]
        self.kernel = ", ".join(dict.fromkeys(self._kernels)) or _WHOLE
        scheduled = schedule_module(lowered.module, lowered.family_of, target)
        timed = self._kernels or lowered.family_of
        self.rule = ", ".join(dict.fromkeys(str(scheduled[name].attrs[RULE_ATTR]) for name in timed))
        executable = machine_code(scheduled, target)
        self._thread = own_pool(target.threads)
        self._machine = relax.VirtualMachine(executable, tvm.cpu())
        self._calls, self.results = self._thread.submit(captured, self._machine, self._kernels, data).result()

    def __call__(self) -> Seconds:
        """Run the kernel once."""
        return self._thread.submit(self._timed).result()

    def close(self) -> None:
        """End the thread and its workers."""
        self._thread.shutdown()

    def _timed(self) -> Seconds:
        start = time.perf_counter()
        for function, arguments in self._calls:
            function(*arguments)
        return Seconds(time.perf_counter() - start)

    @property
    def arguments(self) -> list[Any]:
        """Of the last kernel, its result included."""
        return self._calls[-1][1]


def captured(
    machine: Any, kernels: Sequence[str], data: Sequence[np.ndarray], device: Any = None
) -> tuple[list[Call], list[np.ndarray]]:
    """The kernels and the arguments of their last calls in one run of a module, and what the run returned.

    machine : a virtual machine of TVM's. kernels : by name; without any, the whole module is the only call.
    device : where it runs, by default this machine's processor.
    """
    calls: list[Call] = []
    device = device or tvm.cpu()

    def watch(function: Any, name: str, before: bool, _result: Any, *arguments: Any) -> int:
        if before and name in kernels:
            # copies, since the module's next kernels may write over these
            calls.append((function, [tvm.runtime.tensor(each.numpy(), device) for each in arguments]))
        return 0

    def given() -> list[Any]:
        return [tvm.runtime.tensor(each, device) for each in data]

    machine.set_instrument(watch)
    results = _flat(machine[_WHOLE](*given()))
    if not kernels:
        calls.append((machine[_WHOLE], given()))
    return calls[-max(len(kernels), 1) :], results


def _flat(value: Any) -> list[np.ndarray]:
    return [value.numpy()] if hasattr(value, "numpy") else [leaf for field in value for leaf in _flat(field)]
