"""The suite `networks`: whole compiled networks against their float twins in every peer, and against the limit.

All competitors of a row run in this process, in turns, with the same number of threads, from an input in memory to a
class map in memory; argmax is part of every network.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from tvm_bnn.compiler import compile_source
from tvm_bnn.console import Progress
from tvm_bnn.examples.ding2024 import bench, example_inputs, float_twin
from tvm_bnn.frontend.source import load_source
from tvm_bnn.report.layer_times import LayerTime, layer_times
from tvm_bnn.report.limit import work_of
from tvm_bnn.report.machine import Limits
from tvm_bnn.report.peers import PEERS, FloatNetwork, Peer, Run
from tvm_bnn.report.timing import Timing, interleave, ratio
from tvm_bnn.targets import host

SUITE = "networks"
OURS = "tvm_bnn"
ROUNDS = 11


@dataclass(frozen=True)
class Network:
    """One network to measure.

    make : () -> (binary network, float twin, inputs of both), seeded, in eval mode.
    """

    name: str
    make: Callable[[], tuple[nn.Module, nn.Module, tuple[Tensor, ...]]]


class Row(TypedDict):
    """One measured row.

    limit_ms : the least time by the measured limits of this machine; ceiling_fraction is limit_ms / ours_ms.
    peers : name -> median in ms, of the peers that took part.
    spread : the widest interquartile range over the median in this row; spreads : that of each competitor.
    ratios : name -> how many times ours is faster; None where a spread is too wide for a ratio.
    agreement : name -> share of pixels with the same class as in PyTorch: of ours with the binary network, of a peer
        with the float twin.
    layers : each kernel of ours in the order of the calls; see `tvm_bnn.report.layer_times`.
    pytorch_agreement : the same share of PyTorch with itself, oneDNN off, on the binary network. With random weights
        one flipped bit spreads far, and this is what can be expected of ours.
    """

    suite: str
    name: str
    threads: int
    ours_ms: float
    limit_ms: float
    ceiling_fraction: float
    peers: dict[str, float]
    spread: float
    spreads: dict[str, float]
    ratios: dict[str, float | None]
    agreement: dict[str, float]
    pytorch_agreement: float
    layers: list[LayerTime]
    rounds: int


def ding2024(stem: str, size: tuple[int, int]) -> Network:
    """`bench` with K=1 at an input size (H, W)."""

    def make() -> tuple[nn.Module, nn.Module, tuple[Tensor, ...]]:
        network = bench(stem=stem)
        return network, float_twin(network.config), example_inputs(network, size)

    return Network(f"bench-{stem}-{size[0]}x{size[1]}", make)


NETWORKS: tuple[Network, ...] = (
    ding2024("3x3", (512, 1024)),
    ding2024("3x3", (256, 512)),
    ding2024("7x7", (512, 1024)),
    ding2024("7x7", (256, 512)),
)


ROWS: Sequence[Network] = NETWORKS


def present(peers: Iterable[Peer] = PEERS) -> tuple[list[Peer], dict[str, str]]:
    """The peers that can take part, and why the others cannot, by name."""
    reasons = {peer: peer.missing() for peer in peers}
    return (
        [peer for peer, reason in reasons.items() if reason is None],
        {peer.name: reason for peer, reason in reasons.items() if reason is not None},
    )


def measure(
    networks: Sequence[Network],
    limits: Mapping[int, Limits],
    peers: Sequence[Peer],
    rounds: int = ROUNDS,
    progress: Progress | None = None,
) -> list[Row]:
    """One row per network and number of threads.

    limits : number of threads -> what the machine can do with them.
    peers : those of `present`.
    """
    progress = progress or Progress(quiet=True)
    rows = []
    for network in networks:
        with tempfile.TemporaryDirectory(prefix="tvm_bnn-") as folder, torch.no_grad():
            model, twin, inputs = network.make()
            expected = {OURS: model(*inputs).numpy(), **dict.fromkeys((p.name for p in peers), twin(*inputs).numpy())}
            itself = _same(_without_onednn(model, inputs), expected[OURS])
            shared = FloatNetwork(twin, inputs, Path(folder))
            for threads, limit in limits.items():
                with progress.phase(f"{network.name}, threads: {threads}, prepare"):
                    made = compile_source(load_source(model, inputs), host(threads))
                    arrays = [value.numpy() for value in inputs]
                    runs: dict[str, Run] = {OURS: partial(made.artifact, *arrays)}
                    runs.update({peer.name: peer.prepare(shared, threads) for peer in peers})
                with progress.phase(f"{network.name}, threads: {threads}, measure"):
                    agreement = {name: _same(run(), expected[name]) for name, run in runs.items()}
                    timings = interleave(runs, rounds)
                    layers = layer_times(made, arrays, threads, rounds)
                seconds = work_of(made.optimized).seconds(limit)
                rows.append(_row(network.name, limit, seconds, timings, agreement, itself, layers))
    return rows


def _without_onednn(model: nn.Module, inputs: tuple[Tensor, ...]) -> np.ndarray:
    """The result of PyTorch's own kernels."""
    with warnings.catch_warnings():
        # of settings for graphics cards
        warnings.simplefilter("ignore")
        with torch.backends.mkldnn.flags(enabled=False):
            return model(*inputs).numpy()


def _same(found: np.ndarray, expected: np.ndarray) -> float:
    """Share of equal elements."""
    return float(np.mean(found == expected))


def _row(
    name: str,
    limits: Limits,
    limit: float,
    timings: Mapping[str, Timing],
    agreement: Mapping[str, float],
    pytorch_agreement: float,
    layers: list[LayerTime],
) -> Row:
    ours = timings[OURS]
    others = {other: timing for other, timing in timings.items() if other != OURS}
    return {
        "suite": SUITE,
        "name": name,
        "threads": limits.threads,
        "ours_ms": 1e3 * ours.median,
        "limit_ms": 1e3 * limit,
        "ceiling_fraction": limit / ours.median,
        "peers": {other: 1e3 * timing.median for other, timing in others.items()},
        "spread": max(timing.spread for timing in timings.values()),
        "spreads": {other: timing.spread for other, timing in timings.items()},
        "ratios": {other: ratio(timing, ours) for other, timing in others.items()},
        "agreement": dict(agreement),
        "pytorch_agreement": pytorch_agreement,
        "layers": layers,
        "rounds": len(ours.samples),
    }
