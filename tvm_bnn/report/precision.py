"""The suite `precision`: a network as it is compiled, and with its float layers in bfloat16 and int8.

The variants give different results: what that costs is a matter of the trained network (docs/precision.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tvm_bnn.compiler import Compilation, compile_source
from tvm_bnn.console import Progress
from tvm_bnn.report import variants
from tvm_bnn.report.machine import Limits
from tvm_bnn.report.networks import NETWORKS, ROUNDS, Network
from tvm_bnn.report.peers import Peer
from tvm_bnn.runtime import Artifact
from tvm_bnn.targets import Target, host

SUITE = "precision"
ROWS: Sequence[Network] = NETWORKS
#: What a network is compared with, as a peer would be: itself in these.
VARIANTS = ("bf16", "int8")


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
    return variants.measure(SUITE, networks, _variants, limits, rounds, progress, target)


def _variants(whole: Compilation) -> dict[str, Artifact]:
    return {name: compile_source(whole.source, whole.target, float_precision=name).artifact for name in VARIANTS}
