"""What parallel branches cost: the same network with K = 1, 2, ... in turns, and the bytes that it has to move."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from tvm_bnn.compiler import compile_source
from tvm_bnn.console import Progress
from tvm_bnn.examples import ding2024 as ding
from tvm_bnn.frontend.source import load_source
from tvm_bnn.report.compare.config import SweepTable
from tvm_bnn.report.compare.content import BranchCount, BranchSweep
from tvm_bnn.report.compare.latency import latency
from tvm_bnn.report.limit import work_of
from tvm_bnn.report.machine import Limits
from tvm_bnn.report.timing import interleave, repeated
from tvm_bnn.targets import host


def measure(
    table: SweepTable, machine: str, limits: Limits, rounds: int, seed: int, progress: Progress
) -> dict[str, Any]:
    """A `BranchSweep` of the demonstration's network with random weights, as plain data."""
    made = {}
    for count in table.branches:
        with progress.phase(f"branches: compile K={count}"):
            network = ding.build(replace(ding.DEMO, branches=count, input_size=table.size), seed)
            inputs = ding.example_inputs(network, table.size)
            made[count] = compile_source(load_source(network, inputs), host(limits.threads)), inputs[0].numpy()
    with progress.phase("branches: measure"):
        runs = {str(count): repeated(partial(one.artifact, pixels)) for count, (one, pixels) in made.items()}
        times = {name: latency(timing.samples) for name, timing in interleave(runs, rounds).items()}
    alone = times[str(table.branches[0])].median_ms
    counts = []
    for count, (one, _) in made.items():
        work = work_of(one.optimized)
        counts.append(
            BranchCount(
                branches=count,
                latency=times[str(count)],
                moved_bytes=round(sum(work.tensors.values())),
                binary_macs=work.binary_macs,
                float_macs=work.float_macs,
                limit_ms=1e3 * work.seconds(limits),
                multiple=count * alone / times[str(count)].median_ms,
            )
        )
    name = f"ding2024 demo, random weights (seed {seed})"
    sweep = BranchSweep(network=name, machine=machine, threads=limits.threads, size=table.size, counts=counts)
    return sweep.model_dump()
