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
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch

from tvm_bnn.console import Progress
from tvm_bnn.report.kernel_call import KernelCall
from tvm_bnn.report.kernel_cases import KERNELS, Kernel
from tvm_bnn.report.limit import Work
from tvm_bnn.report.machine import Limits
from tvm_bnn.report.networks import ROUNDS
from tvm_bnn.report.peers import BINARY_PEERS, BinaryPeer, FloatNetwork, Peer, prepared
from tvm_bnn.report.rows import OURS, OURS_ALONE, Compared, compared
from tvm_bnn.report.timing import interleave, repeated
from tvm_bnn.targets import Target, host

SUITE = "kernels"
#: Ours without what a row is about, where there is such a thing.
UNFUSED = "unfused"
ROWS: Sequence[Kernel] = KERNELS


class Row(Compared):
    """One measured row.

    kernel, rule : name of the kernel that was measured, and the schedule's.
    binary_macs, float_macs, map_bytes : what the limit consists of. twin_macs : of the float twin; 0 where not counted.
    valid_taps : share of the taps that lie inside the map; None where there are none.
    left_out : peer -> why it could not run this layer.
    """

    suite: str
    name: str
    kernel: str
    rule: str
    binary_macs: int
    float_macs: int
    twin_macs: int
    map_bytes: int
    valid_taps: float | None
    left_out: dict[str, str]


def work_of(kernel: Kernel) -> Work:
    """What the limit of a kernel consists of."""
    maps = {str(number): float(size) for number, size in enumerate(kernel.maps)}
    return Work(kernel.binary_macs, kernel.float_macs, maps)


def measure(
    kernels: Sequence[Kernel],
    limits: Mapping[int, Limits],
    peers: Sequence[Peer],
    rounds: int = ROUNDS,
    progress: Progress | None = None,
    target: Callable[[int], Target] = host,
    binary_peers: Sequence[BinaryPeer] = BINARY_PEERS,
) -> list[Row]:
    """One row per kernel and number of threads.

    limits : number of threads -> what the machine can do with them.
    peers : those of `networks.present`; of `binary_peers` those take part that are installed.
    target : number of threads -> what ours is compiled for.
    """
    progress = progress or Progress(quiet=True)
    binary_peers = [peer for peer in binary_peers if peer.missing() is None]
    rows: list[Row] = []
    for kernel in kernels:
        with tempfile.TemporaryDirectory(prefix="tvm_bnn-") as folder, torch.no_grad():
            network = None
            if kernel.twin is not None:
                module, inputs = kernel.twin()
                network = FloatNetwork(module.eval(), inputs, Path(folder))
            for threads, limit in limits.items():
                with progress.phase(f"{kernel.name}, threads: {threads}"), ExitStack() as stack:
                    built = kernel.build()
                    calls = {
                        name: stack.enter_context(
                            closing(KernelCall(built.module, built.value, built.data, target(count)))
                        )
                        for name, count in ((OURS_ALONE, 1), (OURS, threads))
                        if name == OURS or threads > 1
                    }
                    if kernel.unfused is not None:
                        with patch.object(*kernel.unfused):
                            made = KernelCall(built.module, built.value, built.data, target(threads))
                        calls[UNFUSED] = stack.enter_context(closing(made))
                    makers: dict[str, Callable[[], Callable[[], object]]] = {}
                    if network is not None:
                        makers.update({peer.name: partial(peer.prepare, network, threads) for peer in peers})
                    if kernel.layer is not None:
                        layer, residual = kernel.layer, kernel.residual
                        makers.update(
                            {peer.name: partial(peer.prepare, layer, residual, threads) for peer in binary_peers}
                        )
                    others, left_out = prepared(makers)
                    runs: dict[str, Callable[[], object]] = {**calls, **others}
                    timings = interleave({name: repeated(run) for name, run in runs.items()}, rounds)
                    rows.append(
                        {
                            "suite": SUITE,
                            "name": kernel.name,
                            "kernel": calls[OURS].kernel,
                            "rule": calls[OURS].rule,
                            **compared(work_of(kernel), limit, timings),
                            "binary_macs": kernel.binary_macs,
                            "float_macs": kernel.float_macs,
                            "twin_macs": kernel.twin_macs,
                            "map_bytes": sum(kernel.maps),
                            "valid_taps": kernel.valid_taps,
                            "left_out": left_out,
                        }
                    )
    return rows
