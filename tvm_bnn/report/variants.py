"""What the suites `ablation` and `precision` share: a network compared with itself, compiled otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from tvm_bnn.compiler import Compilation, compile_source
from tvm_bnn.console import Progress
from tvm_bnn.frontend.source import load_source
from tvm_bnn.report.limit import work_of
from tvm_bnn.report.machine import Limits
from tvm_bnn.report.networks import ROUNDS, Network
from tvm_bnn.report.rows import OURS, compared
from tvm_bnn.report.timing import interleave
from tvm_bnn.runtime import Artifact
from tvm_bnn.targets import Target, host

#: A network as it is compiled -> its variants, by name.
Variants = Callable[[Compilation], Mapping[str, Artifact]]


def measure(
    suite: str,
    networks: Sequence[Network],
    variants: Variants,
    limits: Mapping[int, Limits],
    rounds: int = ROUNDS,
    progress: Progress | None = None,
    target: Callable[[int], Target] = host,
    *,
    alike: bool = False,
) -> list[dict[str, Any]]:
    """One row per network and number of threads, its `peers` being the variants, which run in turns.

    alike : whether all variants must give the same result, bit for bit. Raises AssertionError where one does not.
    """
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
                made = {OURS: whole.artifact, **variants(whole)}
            with progress.phase(f"{network.name}, threads: {threads}, measure"):
                if alike:
                    _check(network.name, made, arrays)
                timings = interleave({name: partial(artifact, *arrays) for name, artifact in made.items()}, rounds)
            row = {"suite": suite, "name": network.name, **compared(work_of(whole.optimized), limit, timings)}
            rows.append({**row, "valid_taps": None})
    return rows


def _check(network: str, made: Mapping[str, Artifact], arrays: Sequence[np.ndarray]) -> None:
    expected = _outputs(made[OURS], arrays)
    for name, artifact in made.items():
        if not all(map(np.array_equal, _outputs(artifact, arrays), expected)):
            raise AssertionError(f"{network} {name} gives another result")


def _outputs(artifact: Artifact, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    results = artifact(*arrays)
    return results if isinstance(results, tuple) else (results,)
