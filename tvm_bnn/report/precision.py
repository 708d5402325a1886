"""The suite `precision`: a network as it is compiled, and with its float layers in bfloat16 and int8.

The variants run in turns, like a comparison with peers. They give different results: what that costs is a matter of the
trained network (docs/precision.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from tvm_bnn.compiler import compile_source
from tvm_bnn.console import Progress
from tvm_bnn.frontend.source import load_source
from tvm_bnn.relay_passes.float_precision import PRECISIONS
from tvm_bnn.report.limit import work_of
from tvm_bnn.report.machine import Limits
from tvm_bnn.report.networks import NETWORKS, ROUNDS, Network
from tvm_bnn.report.peers import Peer
from tvm_bnn.report.rows import OURS, compared
from tvm_bnn.report.timing import interleave
from tvm_bnn.targets import Target, host

SUITE = "precision"
ROWS: Sequence[Network] = NETWORKS
#: What a network is compared with, as a peer would be: itself in these.
VARIANTS = PRECISIONS[1:]


def measure(
    networks: Sequence[Network],
    limits: Mapping[int, Limits],
    peers: Sequence[Peer] = (),
    rounds: int = ROUNDS,
    progress: Progress | None = None,
    target: Callable[[int], Target] = host,
) -> list[dict[str, Any]]:
    """One row per network and number of threads, its `peers` being the variants; no other `peers` take part."""
    del peers
    progress = progress or Progress(quiet=True)
    rows = []
    for network in networks:
        with torch.no_grad():
            model, _, inputs = network.make()
        arrays = [value.numpy() for value in inputs]
        for threads, limit in limits.items():
            source = load_source(model, inputs)
            with progress.phase(f"{network.name}, threads: {threads}, compile"):
                whole = compile_source(source, target(threads))
                made = {OURS: whole.artifact}
                for variant in VARIANTS:
                    made[variant] = compile_source(source, target(threads), float_precision=variant).artifact
            with progress.phase(f"{network.name}, threads: {threads}, measure"):
                timings = interleave({name: partial(artifact, *arrays) for name, artifact in made.items()}, rounds)
            row = {"suite": SUITE, "name": network.name, **compared(work_of(whole.optimized), limit, timings)}
            rows.append({**row, "valid_taps": None})
    return rows
