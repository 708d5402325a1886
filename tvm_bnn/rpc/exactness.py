"""Does a device compute what it should, and do its times hold still? A few of our kernels, run there many times."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import tvm

from tvm_bnn import cubin, linker
from tvm_bnn.lower import lower
from tvm_bnn.reference import evaluate
from tvm_bnn.report.kernel_cases import Kernel, Layer, packing, resize_to_bits, stem, to_bits, to_float
from tvm_bnn.report.timing import MAX_SPREAD, Timing
from tvm_bnn.rpc.client import Session
from tvm_bnn.rpc.remote_artifact import RemoteLibrary
from tvm_bnn.schedules import schedule_module
from tvm_bnn.schedules.apply import machine_code
from tvm_bnn.targets import Target

#: Seconds of a turn of one kernel, and the most runs in one.
TURN = 0.02
MOST_RUNS = 1000
#: Slower by more than this share in the last third of the turns than in the first, a device is getting slower.
DRIFT = 0.1
#: Turns from which on times can be judged.
FEWEST = 5


@dataclass(frozen=True)
class Case:
    """A kernel of ours and what it has to compute.

    fused : whether it adds up floats, which only a processor with fused multiply-add does as the reference does.
    """

    kernel: Kernel
    fused: bool = False

    @property
    def name(self) -> str:
        """Of the kernel."""
        return self.kernel.name

    @cached_property
    def _built(self) -> Any:
        return self.kernel.build()

    @cached_property
    def expected(self) -> tuple[np.ndarray, ...]:
        """The results, by the reference."""
        return evaluate(self._built.module, self._built.data)

    @property
    def inputs(self) -> list[Any]:
        """Tensors of TVM's on this machine."""
        return [tvm.runtime.tensor(value) for value in self._built.data]

    def library(self, target: Target) -> bytes:
        """The kernel compiled and linked: a shared object with the Relax function `main`."""
        lowered = lower(self._built.module, target)
        scheduled = schedule_module(lowered.module, lowered.family_of, target)
        with cubin.code_of(target.gpu):
            executable = machine_code(scheduled, target)
        return linker.shared_object(executable, target.triple)


#: The first is small: it answers in a moment.
CASES = (
    Case(to_bits(Layer((9, 7, 33), 65), "bconv3x3")),
    Case(to_bits(Layer((28, 28, 128), 128), "bconv3x3")),
    Case(to_float(Layer((28, 28, 128), 128), "bconv3x3")),
    Case(packing((56, 56, 64), channels_last=False)),
    Case(resize_to_bits((16, 16, 64), 2), fused=True),
    Case(stem(Layer((64, 64, 3), 32, 3, 2)), fused=True),
)


def cases_for(target: Target) -> list[Case]:
    """Those whose results are defined to the last bit on the target; any GPU has fused multiply-add."""
    return [case for case in CASES if target.gpu or target.fuses or not case.fused]


@dataclass
class Measured:
    """What one kernel did in all its turns. wrong : how many of the compared results differed, of `compared`."""

    name: str
    compared: int = 0
    wrong: int = 0
    seconds: list[float] = field(default_factory=list)

    @property
    def timing(self) -> Timing:
        """Seconds per run."""
        return Timing(tuple(self.seconds))

    @property
    def drift(self) -> float:
        """How much slower the last third of the turns was than the first; 0 of fewer than three turns."""
        third = len(self.seconds) // 3
        if not third:
            return 0.0
        return statistics.median(self.seconds[-third:]) / statistics.median(self.seconds[:third]) - 1


def measure(
    session: Session,
    libraries: Sequence[tuple[Case, bytes]],
    seconds: float,
    progress: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = time.perf_counter,
    gpu: str | None = None,
) -> list[Measured]:
    """Run the kernels in turns until so many seconds are over; each is compared and timed at least once.

    libraries : of `Case.library`. progress : is told what runs. clock : what `time.perf_counter` does. gpu : see
    `RemoteLibrary`.

    Raises DeviceError where the device fails.
    """
    end = clock() + seconds
    rows = [Measured(case.name) for case, _ in libraries]
    loaded = []
    for number, (case, library) in enumerate(libraries):
        progress(case.name)
        loaded.append(RemoteLibrary(session, library, f"kernel{number}", gpu))
        loaded[-1].set_inputs(case.inputs)
    while True:
        for row, (case, _), remote in zip(rows, libraries, loaded, strict=True):
            progress(case.name)
            row.compared += 1
            row.wrong += not same(remote.run(), case.expected)
            (once,) = remote.seconds(1) if not row.seconds else row.seconds[-1:]
            row.seconds += remote.seconds(1, number=max(1, min(MOST_RUNS, int(TURN / max(once, 1e-9)))))
        if clock() >= end:
            return rows


def same(found: Any, expected: Sequence[np.ndarray]) -> bool:
    """Whether results are equal in every bit."""
    flat = _flat(found)
    return len(flat) == len(expected) and all(
        one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
        for one, other in zip(flat, expected, strict=True)
    )


def verdict(rows: Sequence[Measured]) -> tuple[bool, str]:
    """Whether all results were right, and one line that says so and what the times are worth."""
    wrong = [row for row in rows if row.wrong]
    if wrong:
        named = ", ".join(f"{row.name} ({row.wrong} of {row.compared} results)" for row in wrong)
        return False, f"WRONG: {named}; this device does not compute what it should"
    results = sum(row.compared for row in rows)
    spread = max(rows, key=lambda row: row.timing.spread)
    drift = max(rows, key=lambda row: row.drift)
    doubts = []
    if spread.timing.spread > MAX_SPREAD:
        doubts.append(f"times wander by {spread.timing.spread:.0%} ({spread.name})")
    if drift.drift > DRIFT:
        doubts.append(f"it became {drift.drift:.0%} slower ({drift.name})")
    exact = f"all {results} results of {len(rows)} kernels are exact"
    if min(row.compared for row in rows) < FEWEST:
        return True, f"{exact}; too few to say whether times are steady"
    if doubts:
        return True, f"{exact}, but {' and '.join(doubts)}: do not trust its times"
    return True, f"{exact}, and times are steady (spread up to {spread.timing.spread:.0%})"


def _flat(value: Any) -> list[np.ndarray]:
    return [value] if isinstance(value, np.ndarray) else [leaf for field in value for leaf in _flat(field)]
