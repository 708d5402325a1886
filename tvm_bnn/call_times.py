"""The time of each call in a network: TVM's virtual machine tells before and after it which function it calls.

What that costs, a few microseconds a call, lies outside the measured times.
"""

from __future__ import annotations

import time
from typing import Any

#: Name of the called function, and seconds.
Call = tuple[str, float]
#: Functions of the machine itself: allocation, checks of arguments.
_BUILTIN = "vm.builtin."
_WARM_UP = 2


def recorded(machine: Any, function: str, runs: int) -> list[list[Call]]:
    """The calls of each of `runs` runs, after two to warm up.

    machine : module of a virtual machine whose inputs for the function are set.
    """
    recorder = _Recorder()
    machine["set_instrument"](recorder)
    try:
        return [recorder.watch(lambda: machine["invoke_stateful"](function)) for _ in range(_WARM_UP + runs)][_WARM_UP:]
    finally:
        machine["set_instrument"](None)


class _Recorder:
    """What the virtual machine calls before and after each function."""

    def __init__(self) -> None:
        self._calls: list[Call] = []
        self._start = 0.0

    def watch(self, run: Any) -> list[Call]:
        """The calls of one run."""
        self._calls = []
        run()
        return self._calls

    def __call__(self, _function: Any, name: str, before: bool, _result: Any, *_arguments: Any) -> int:
        if before:
            self._start = time.perf_counter()
        elif not name.startswith(_BUILTIN):
            self._calls.append((name, time.perf_counter() - self._start))
        return 0
