"""What runs a network: ours, ours with tuning records, or a peer, by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tvm_bnn.compiler import Compilation, compile_source
from tvm_bnn.errors import BnnError
from tvm_bnn.frontend.source import load_source
from tvm_bnn.report.compare.config import TUNED
from tvm_bnn.report.compare.subjects import Subject
from tvm_bnn.report.memory import Memory, of_peer
from tvm_bnn.report.peers import FloatNetwork, Peer
from tvm_bnn.report.rows import OURS
from tvm_bnn.report.site import Site
from tvm_bnn.tuning.log import choices, found


class LeftOut(Exception):
    """Why an executor cannot run a network there."""


@dataclass(frozen=True)
class Prepared:
    """A network that can be run.

    run : once, on the subject's input. memory : of an inference; None where that cannot be told.
    made, path, seconds : of ours, what was compiled, its file, and how long that took. tuned : how many of its layers
        have a tuned schedule.
    """

    run: Callable[[], Any]
    memory: Callable[[], Memory | None]
    made: Compilation | None = None
    path: Path | None = None
    seconds: float | None = None
    tuned: int | None = None


def prepare(
    executor: str, subject: Subject, site: Site, threads: int, folder: Path, calibration: Sequence[tuple[Tensor, ...]]
) -> Prepared:
    """The subject in an executor.

    folder : for its files, one for each subject. calibration : inputs for peers that quantise. Raises LeftOut.
    """
    try:
        if executor in (OURS, TUNED):
            return _ours(executor, subject, site, threads, folder)
        return _peer(executor, subject, site, threads, folder, calibration)
    except (RuntimeError, BnnError) as error:
        lines = str(error).strip().splitlines()
        raise LeftOut(lines[-1] if lines else type(error).__name__) from error


def _ours(executor: str, subject: Subject, site: Site, threads: int, folder: Path) -> Prepared:
    target = site.target(threads)
    records = choices(found(target.name, threads).records) if executor == TUNED else {}
    start = time.perf_counter()
    made = compile_source(load_source(subject.module, (subject.pixels,)), target, records=records)
    seconds = time.perf_counter() - start
    tuned = sum(row["tuned"] for row in made.artifact.explain())
    if executor == TUNED and not tuned:
        raise LeftOut(
            f"no tuning record fits it on {target.name} with {threads} threads; python -m tvm_bnn.tune makes them"
        )
    path = folder / f"{executor}.{threads}.bnn"
    made.artifact.save(path)
    arrays = [subject.pixels.numpy()]
    return Prepared(site.run(made, arrays), lambda: site.memory(path, arrays, threads), made, path, seconds, tuned)


def _peer(
    executor: str, subject: Subject, site: Site, threads: int, folder: Path, calibration: Sequence[tuple[Tensor, ...]]
) -> Prepared:
    peers: dict[str, Peer] = {peer.name: peer for peer in site.peers}
    if executor not in peers:
        raise LeftOut("it does not run there; on a device, only what TVM compiles does")
    peer = peers[executor]
    if reason := peer.missing():
        raise LeftOut(reason)
    network = FloatNetwork(subject.module, (subject.pixels,), folder, calibration)
    run = peer.prepare(network, threads)
    return Prepared(run, lambda: None if peer.compiles else of_peer(peer, network, threads))
