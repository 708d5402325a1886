"""The suite `kernels`: one kernel at a time, in turns with what else runs such a layer, and against its limit.

    limit = binary MACs / popcount ceiling + float MACs / FMA ceiling
            + sum over the float maps that are read or written of  bytes / copy bandwidth at that size

Bits and weights are left out: they are small. So the limit of a layer from bits to bits is that of its arithmetic
alone, and of packing the bandwidth alone. Multiply-accumulates count padded taps, which a kernel may skip, so that the
fraction may exceed 1; `valid_taps` says by how much.

A peer runs the float layer from its own layout to its own layout, as a network of that layer alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TypedDict

import torch

from tvm_bnn.console import Progress
from tvm_bnn.report.kernel_call import KernelCall
from tvm_bnn.report.kernel_cases import KERNELS, Kernel
from tvm_bnn.report.machine import Limits
from tvm_bnn.report.networks import OURS, ROUNDS
from tvm_bnn.report.peers import BINARY_PEERS, BinaryPeer, FloatNetwork, Peer
from tvm_bnn.report.timing import Timing, interleave, ratio, repeated
from tvm_bnn.targets import host

SUITE = "kernels"
ROWS: Sequence[Kernel] = KERNELS


class Row(TypedDict):
    """One measured row; what it shares with `tvm_bnn.report.networks.Row` means the same there.

    kernel, rule : name of the kernel that was measured, and the schedule's.
    binary_macs, float_macs, map_bytes : what the limit consists of.
    valid_taps : share of the taps that lie inside the map; None where there are none.
    left_out : peer -> why it could not run this layer.
    """

    suite: str
    name: str
    threads: int
    kernel: str
    rule: str
    ours_ms: float
    limit_ms: float
    ceiling_fraction: float
    binary_macs: int
    float_macs: int
    map_bytes: int
    valid_taps: float | None
    peers: dict[str, float]
    spread: float
    spreads: dict[str, float]
    ratios: dict[str, float | None]
    left_out: dict[str, str]
    rounds: int


def limit_of(kernel: Kernel, limits: Limits) -> float:
    """Seconds that a kernel takes at least, by the measured limits of the machine."""
    moving = sum(size / limits.bandwidth(size) for size in kernel.maps)
    return kernel.binary_macs / limits.binary + kernel.float_macs / limits.fp32 + moving


def measure(
    kernels: Sequence[Kernel],
    limits: Mapping[int, Limits],
    peers: Sequence[Peer],
    rounds: int = ROUNDS,
    progress: Progress | None = None,
    binary_peers: Sequence[BinaryPeer] = BINARY_PEERS,
) -> list[Row]:
    """One row per kernel and number of threads.

    limits : number of threads -> what the machine can do with them.
    peers : those of `networks.present`; of `binary_peers` those take part that are installed.
    """
    progress = progress or Progress(quiet=True)
    binary_peers = [peer for peer in binary_peers if peer.missing() is None]
    rows = []
    for kernel in kernels:
        with tempfile.TemporaryDirectory(prefix="tvm_bnn-") as folder, torch.no_grad():
            network = None
            if kernel.twin is not None:
                module, inputs = kernel.twin()
                network = FloatNetwork(module.eval(), inputs, Path(folder))
            for threads, limit in limits.items():
                with progress.phase(f"{kernel.name}, threads: {threads}"), ExitStack() as stack:
                    built = kernel.build()
                    ours = stack.enter_context(
                        closing(KernelCall(built.module, built.value, built.data, host(threads)))
                    )
                    runs: dict[str, Callable[[], object]] = {OURS: ours}
                    if network is not None:
                        runs.update({peer.name: peer.prepare(network, threads) for peer in peers})
                    binary, left_out = _binary(kernel, binary_peers, threads)
                    runs.update(binary)
                    timings = interleave({name: repeated(run) for name, run in runs.items()}, rounds)
                    rows.append(_row(kernel, ours, limit, timings, left_out))
    return rows


def _binary(
    kernel: Kernel, peers: Sequence[BinaryPeer], threads: int
) -> tuple[dict[str, Callable[[], object]], dict[str, str]]:
    """How to run the layer in the peers that have binary layers, and why some cannot."""
    runs: dict[str, Callable[[], object]] = {}
    left_out: dict[str, str] = {}
    for peer in peers if kernel.layer is not None else ():
        assert kernel.layer is not None
        try:
            runs[peer.name] = peer.prepare(kernel.layer, kernel.residual, threads)
        except RuntimeError as error:
            left_out[peer.name] = str(error).strip().splitlines()[-1]
    return runs, left_out


def _row(
    kernel: Kernel, ours: KernelCall, limits: Limits, timings: Mapping[str, Timing], left_out: dict[str, str]
) -> Row:
    own = timings[OURS]
    others = {name: timing for name, timing in timings.items() if name != OURS}
    limit = limit_of(kernel, limits)
    return {
        "suite": SUITE,
        "name": kernel.name,
        "threads": limits.threads,
        "kernel": ours.kernel,
        "rule": ours.rule,
        "ours_ms": 1e3 * own.median,
        "limit_ms": 1e3 * limit,
        "ceiling_fraction": limit / own.median,
        "binary_macs": kernel.binary_macs,
        "float_macs": kernel.float_macs,
        "map_bytes": sum(kernel.maps),
        "valid_taps": kernel.valid_taps,
        "peers": {name: 1e3 * timing.median for name, timing in others.items()},
        "spread": max(timing.spread for timing in timings.values()),
        "spreads": {name: timing.spread for name, timing in timings.items()},
        "ratios": {name: ratio(timing, own) for name, timing in others.items()},
        "left_out": left_out,
        "rounds": len(own.samples),
    }
