"""The suite `networks` on a GPU: whole compiled networks against their float twins in every peer.

Times are of this machine's clock, from the first launch of several runs in a row to the end of the last, divided by
their number. Inputs are on the device, and results stay there. Peers that are graphs are launched once a run. Beside
them, the same network with its float layers rounded for tensor cores (`FLOATS`).

    limit = binary MACs / best measured b1 ceiling + float MACs / best measured fp16 ceiling
            + every tensor that must exist, moved once, at the copy bandwidth of its size
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch

from tvm_bnn.compiler import Compilation, compile_source
from tvm_bnn.console import Progress
from tvm_bnn.frontend.source import load_source
from tvm_bnn.report.gpu import cases
from tvm_bnn.report.gpu.ceilings import Ceilings
from tvm_bnn.report.gpu.driver import Driver
from tvm_bnn.report.gpu.peers import FAULTS, GpuPeer, Launch, Work, release
from tvm_bnn.report.gpu.rows import Row, compared, turn
from tvm_bnn.report.limit import work_of
from tvm_bnn.report.networks import Network
from tvm_bnn.report.peers import prepared
from tvm_bnn.report.rows import OURS
from tvm_bnn.report.timing import Timing, interleave
from tvm_bnn.runtime import Artifact
from tvm_bnn.targets import Target

SUITE = "networks"
ROWS: Sequence[Network] = cases.NETWORKS
#: What ours is called with its float layers in another precision -> that precision.
FLOATS = {f"{OURS}-{precision}": precision for precision in ("tf32", "bf16")}
OWN = tuple(FLOATS)


def measure(
    networks: Sequence[Network],
    driver: Driver,
    ceilings: Ceilings,
    peers: Sequence[GpuPeer],
    target: Target,
    rounds: int,
    progress: Progress,
) -> Iterator[Row]:
    """One row per network, as soon as it is measured."""
    for network in networks:
        with torch.no_grad():
            with progress.phase(f"{network.name}, compile"):
                model, twin, inputs = network.make()
                start = time.perf_counter()
                made = compile_source(load_source(model, inputs), target)
                seconds = time.perf_counter() - start
                artifacts = {OURS: made.artifact, **rounded(made)}
            with progress.phase(f"{network.name}, peers"):
                work = Work(twin, inputs, target)
                others, left_out = prepared({peer.name: partial(peer.prepare, work) for peer in peers}, FAULTS)
            with progress.phase(f"{network.name}, measure"):
                timings = timed(made.source.inputs, artifacts, others, driver, rounds)
            row = row_of(network.name, made, seconds, ceilings, timings, left_out)
        del made, artifacts, work, others
        release()
        yield row


def rounded(made: Compilation) -> dict[str, Artifact]:
    """The same network with its float layers in what the target's tensor cores multiply, of `FLOATS`."""
    gpu = made.target.gpu
    return {
        name: compile_source(made.source, made.target, float_precision=precision).artifact
        for name, precision in FLOATS.items()
        if gpu is not None and gpu.product_of(precision) is not None
    }


def timed(
    inputs: Sequence[torch.Tensor],
    artifacts: Mapping[str, Artifact],
    others: Mapping[str, Launch],
    driver: Driver,
    rounds: int,
) -> dict[str, Timing]:
    """In turns; ours by `Artifact.benchmark`, and the others as it does it."""
    arrays = [value.numpy() for value in inputs]

    def ours(artifact: Artifact, calls: int) -> float:
        return artifact.benchmark(*arrays, repeat=1, number=calls)[0]

    def other(launch: Launch, calls: int) -> float:
        launch.call()
        driver.wait()
        start = time.perf_counter()
        for _ in range(calls):
            launch.call()
        driver.wait()
        return (time.perf_counter() - start) / calls / launch.runs

    turns: dict[str, Callable[[], object]] = {name: turn(partial(ours, each)) for name, each in artifacts.items()}
    turns |= {name: turn(partial(other, launch)) for name, launch in others.items()}
    return interleave(turns, rounds, settle=driver.wait)


def row_of(
    name: str,
    made: Compilation,
    seconds: float,
    ceilings: Ceilings,
    timings: Mapping[str, Timing],
    left_out: dict[str, str],
) -> Row:
    """The row of given times; check : the artifact beside PyTorch's model, see `compiler.compare`."""
    work = work_of(made.optimized)
    return {
        "suite": SUITE,
        "name": name,
        "target": made.target.name,
        **compared(work, ceilings, timings),
        "binary_macs": work.binary_macs,
        "float_macs": work.float_macs,
        "left_out": left_out,
        "check": made.artifact.manifest["check"],
        "compile_s": seconds,
        "artifact_bytes": len(made.artifact.library),
    }
