"""The suite `kernels` on a GPU: one kernel of ours at a time, in turns with what else runs such a layer.

Times are of the device's clock, of many runs in a row on arguments that stay on the device, and in its cache where
they fit. Ours is launched as a CUDA graph of several runs, and so is any peer that can be: one launch of a small kernel
takes longer than the kernel.

    limit = binary MACs / best measured b1 ceiling + float maps that are read or written / copy bandwidth at that size
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch

from tvm_bnn.console import Progress
from tvm_bnn.report.gpu import cases
from tvm_bnn.report.gpu.ceilings import Ceilings
from tvm_bnn.report.gpu.driver import Driver
from tvm_bnn.report.gpu.kernel_call import GpuKernelCall
from tvm_bnn.report.gpu.peers import FAULTS, GpuPeer, Launch, Work, release
from tvm_bnn.report.gpu.rows import Row, compared, turn
from tvm_bnn.report.kernel_cases import Kernel
from tvm_bnn.report.kernels import work_of
from tvm_bnn.report.peers import prepared
from tvm_bnn.report.rows import OURS
from tvm_bnn.report.timing import Timing, interleave
from tvm_bnn.targets import Target

SUITE = "kernels"
ROWS: Sequence[Kernel] = cases.KERNELS
OWN: tuple[str, ...] = ()
#: Runs of a graph.
RUNS = 20


def measure(
    kernels: Sequence[Kernel],
    driver: Driver,
    ceilings: Ceilings,
    peers: Sequence[GpuPeer],
    target: Target,
    rounds: int,
    progress: Progress,
) -> Iterator[Row]:
    """One row per kernel, as soon as it is measured; `launched` says how ours was, where that is not as a graph."""
    for kernel in kernels:
        with progress.phase(kernel.name), torch.no_grad():
            built = kernel.build()
            ours = GpuKernelCall(built.module, built.value, built.data, target)
            launch, launched = as_graph(driver, ours)
            others, left_out = _others(kernel, peers, target)
            timings = timed({OURS: launch, **others}, driver, rounds)
            row = row_of(kernel, ceilings, timings, ours.kernel, ours.rule, left_out, launched)
        del ours, launch, others
        release()
        yield row


def _others(kernel: Kernel, peers: Sequence[GpuPeer], target: Target) -> tuple[dict[str, Launch], dict[str, str]]:
    assert kernel.twin is not None
    module, inputs = kernel.twin()
    work = Work(module, inputs, target, kernel.layer, RUNS)
    return prepared({peer.name: partial(peer.prepare, work) for peer in peers}, FAULTS)


def as_graph(driver: Driver, ours: GpuKernelCall) -> tuple[Launch, str | None]:
    """Ours as a graph of several runs; where it cannot be one, run by run, and why."""
    ours()
    driver.wait()
    try:
        return Launch(driver.graph(lambda stream: ours.on_stream(stream, RUNS)), RUNS), None
    except FAULTS as error:
        return Launch(ours), f"kernel by kernel, since it is no graph: {str(error).splitlines()[0]}"


def timed(launches: dict[str, Launch], driver: Driver, rounds: int) -> dict[str, Timing]:
    """In turns, by the device's clock."""

    def seconds(launch: Launch, calls: int) -> float:
        return driver.seconds(launch.call, calls) / launch.runs

    turns: dict[str, Callable[[], object]] = {n: turn(partial(seconds, each)) for n, each in launches.items()}
    return interleave(turns, rounds, settle=driver.wait)


def row_of(
    kernel: Kernel,
    ceilings: Ceilings,
    timings: dict[str, Timing],
    name: str,
    rule: str,
    left_out: dict[str, str],
    launched: str | None,
) -> Row:
    """The row of given times."""
    return {
        "suite": SUITE,
        "name": kernel.name,
        "kernel": name,
        "rule": rule,
        **compared(work_of(kernel), ceilings, timings),
        "binary_macs": kernel.binary_macs,
        "map_bytes": sum(kernel.maps),
        "valid_taps": kernel.valid_taps,
        "left_out": left_out,
        "launched": launched,
    }
