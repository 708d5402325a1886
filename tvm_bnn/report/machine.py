"""What this machine can do at best, measured: arithmetic ceilings and copy bandwidth per number of threads."""

from __future__ import annotations

import bisect
import contextlib
import math
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import tvm
from tvm import tirx

from tvm_bnn.report import ceilings
from tvm_bnn.report.ceilings import Ceiling
from tvm_bnn.report.pool import own_pool
from tvm_bnn.rpc.board import cpu_name
from tvm_bnn.targets import Target, available_cpus

MB = 1 << 20
#: Sizes, in MB, of the array whose copying is timed.
COPY_SIZES = (1, 4, 16, 64, 256)
#: Calls of one kernel, of which the fastest counts: short ones and many, so that some fall between disturbances.
CALLS = 40
STEPS = 150_000
COPIED_PER_SIZE = 1024 * MB
DISTRIBUTIONS = ("tvm_bnn", "apache-tvm", "torch", "onnxruntime", "openvino")


@dataclass(frozen=True)
class Limits:
    """What a number of threads can do at best.

    binary, fp32, int8 : multiply-accumulates per second on vectors; int8 is None where no instruction was found for it.
    copy : size of the copied array in bytes -> bytes read plus written per second.
    tiles : int8 multiply-accumulates per second on tiles (AMX); None on a processor without.
    """

    threads: int
    binary: float
    fp32: float
    int8: float | None
    copy: Mapping[int, float]
    tiles: float | None = None

    def bandwidth(self, size: float) -> float:
        """Bytes read plus written per second for a tensor of `size` bytes.

        Between measured sizes the logarithm of the size decides; outside of them the nearest one holds.
        """
        sizes = sorted(self.copy)
        if size <= sizes[0] or size >= sizes[-1]:
            return self.copy[sizes[0] if size <= sizes[0] else sizes[-1]]
        above = bisect.bisect_right(sizes, size)
        low, high = sizes[above - 1], sizes[above]
        share = math.log(size / low) / math.log(high / low)
        return self.copy[low] * (1 - share) + self.copy[high] * share

    def json(self) -> dict[str, Any]:
        """Plain data; copy sizes in MB."""
        return {
            "binary_macs_per_s": self.binary,
            "fp32_macs_per_s": self.fp32,
            "int8_macs_per_s": self.int8,
            "int8_tile_macs_per_s": self.tiles,
            "copy_bytes_per_s": {f"{size / MB:g}": rate for size, rate in sorted(self.copy.items())},
        }


#: (function, its arguments, target, calls) -> seconds of the fastest of so many calls.
Fastest = Callable[[tirx.PrimFunc, Sequence[np.ndarray], Target, int], float]


def measure(
    target: Target,
    *,
    calls: int = CALLS,
    steps: int = STEPS,
    copy_sizes: Sequence[int] = COPY_SIZES,
    fastest: Fastest | None = None,
) -> Limits:
    """Measure a machine with a target's instructions and number of threads; takes some 5 seconds.

    calls, steps : calls of every kernel, and the length of its loop.
    copy_sizes : in MB.
    fastest : runs a function on the machine, by default on this one.
    """
    threads, timed = target.threads, fastest or fastest_here

    def run() -> Limits:
        return Limits(
            threads,
            _highest(ceilings.binary(target, threads, steps), target, calls, timed) or 0.0,
            _highest(ceilings.fp32(target, threads, steps), target, calls, timed) or 0.0,
            _highest(ceilings.int8(target, threads, steps), target, calls, timed),
            {size * MB: _copy_rate(size * MB, threads, target, calls, timed) for size in copy_sizes},
            # an instruction of 16 cycles where others take one
            _highest(ceilings.tiles(target, threads, max(1, steps // 8)), target, calls, timed),
        )

    with own_pool(threads) as own_thread:
        return own_thread.submit(run).result()


def _highest(kernels: Iterable[Ceiling], target: Target, calls: int, timed: Fastest) -> float | None:
    """Multiply-accumulates per second of the fastest; None of none."""
    rates = []
    for kernel in kernels:
        # ones are finite in every dtype, and stay so: 1 * 1 + 1, ...
        arrays = [np.ones(kernel.shape, kernel.dtype) for _ in range(2)]
        rates.append(kernel.macs / timed(kernel.func, arrays, target, calls))
    return max(rates, default=None)


def _copy_rate(size: int, threads: int, target: Target, calls: int, timed: Fastest) -> float:
    grain = threads * ceilings.COPY_LANES
    count = size // 4 // grain * grain
    arrays = [np.ones(count, np.float32) for _ in range(2)]
    calls = max(2, min(calls, COPIED_PER_SIZE // size))
    return 2 * 4 * count / timed(ceilings.copy(count, threads), arrays, target, calls)


def fastest_here(func: tirx.PrimFunc, arrays: Sequence[np.ndarray], target: Target, calls: int) -> float:
    """Seconds of the fastest call on this machine, after one to warm up."""
    run = ceilings.build(func, target)["main"]
    arguments = [tvm.runtime.tensor(array) for array in arrays]
    run(*arguments)
    best = math.inf
    for _ in range(calls):
        start = time.perf_counter()
        run(*arguments)
        best = min(best, time.perf_counter() - start)
    return best


def describe(target: Target, limits: Iterable[Limits]) -> dict[str, Any]:
    """The machine as plain data, what is compiled for on it, and its limits by number of threads."""
    return {
        "cpu": cpu_name(),
        "cpus": available_cpus(),
        "target": target.name,
        "system": platform.platform(),
        "limits": {str(each.threads): each.json() for each in limits},
    }


def versions() -> dict[str, str]:
    """The versions of what is compared, as far as it is installed."""
    found = {}
    for name in DISTRIBUTIONS:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
