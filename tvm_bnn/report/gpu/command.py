"""`python -m tvm_bnn.report limits|kernels|networks --target cuda`: of this machine's first NVIDIA GPU.

A GPU of a device's is measured as any device is, see `tvm_bnn.report.site`.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tvm_bnn import gpus
from tvm_bnn.console import Progress
from tvm_bnn.errors import DeviceError, InputError
from tvm_bnn.report.commandline import console, select, writable, write_json
from tvm_bnn.report.gpu import ceilings, kernels, networks, peers, tables
from tvm_bnn.report.gpu.driver import Driver
from tvm_bnn.report.gpu.machine import describe
from tvm_bnn.report.gpu.rows import Row
from tvm_bnn.targets import Target, resolve

LIMITS = "limits"
#: Name -> module with ROWS, OWN (what else of ours has a column) and measure(rows, driver, ceilings, peers, target,
#: rounds, progress).
SUITES: Mapping[str, Any] = {suite.SUITE: suite for suite in (kernels, networks)}
_GPU = re.compile(r'\s*(cuda\b|nvidia/|\{.*"kind"\s*:\s*"cuda")', re.DOTALL)


def asked(texts: Sequence[str] | None) -> bool:
    """Whether one of some targets is a GPU."""
    return any(_GPU.match(text) for text in texts or ())


def run(options: argparse.Namespace) -> int:
    """The suites of a GPU."""
    _check(options)
    suite = SUITES.get(options.suite)
    chosen = select(options.rows, suite.ROWS) if suite else []
    writable(options.json)
    target = target_here(options.target[0])
    driver, shown = Driver(), console()
    described = describe(driver, target)
    shown.print(tables.machine(described))
    with Progress() as progress:
        with progress.phase("ceilings"):
            assert target.gpu is not None
            measured = ceilings.measure(driver, target.gpu)
        shown.print(tables.ceilings(measured))
        content: dict[str, Any] = {"machine": {**described, "ceilings": measured.json()}}
        if suite:
            taking_part, missing = peers.present()
            rows: list[Row] = []
            content |= {"rows": rows, "missing": missing}
            for row in suite.measure(chosen, driver, measured, taking_part, target, options.rounds, progress):
                rows.append(row)
                # what is measured is kept, whatever happens to the next one
                _written(options.json, content)
    if suite:
        shown.print(tables.rows(rows, [*suite.OWN, *(peer.name for peer in peers.PEERS)]))
        for note in tables.notes(rows, missing):
            shown.print(note)
    _written(options.json, content)
    if options.json:
        print(f"written to {options.json}")
    return 0


def _written(path: str | None, content: Mapping[str, Any]) -> None:
    if path:
        write_json(path, content)


def _check(options: argparse.Namespace) -> None:
    """Raises InputError for what GPUs do not take."""
    if options.suite not in (LIMITS, *SUITES):
        raise InputError(f"found a GPU with {options.suite}; it takes {', '.join((LIMITS, *SUITES))}")
    if len(options.target) > 1:
        raise InputError(f"found {len(options.target)} targets, one of them a GPU; a GPU is measured by itself")
    ignored = {"--threads": options.threads, "--mcpu": options.mcpu}
    ignored["--rows"] = options.rows if options.suite == LIMITS else None
    if given := [option for option, value in ignored.items() if value]:
        raise InputError(f"found {given[0]} with {options.suite} of a GPU, which is this machine's first")


def target_here(text: str) -> Target:
    """What to compile for; plain "cuda" is this machine's GPU.

    Raises DeviceError where there is no GPU, or none that runs such code; TargetError for a target that is unknown.
    """
    found = gpus.version_here()
    target = None if text.strip() == "cuda" else resolve(text, gpu=True)
    if found is None:
        raise DeviceError(
            "no NVIDIA GPU was found that TVM can use (it needs the driver, and libcudart.so.13 of the extra "
            '"cuda"); the reports of a GPU run on a machine with one'
        )
    if target is None:
        target = resolve(f"cuda -arch={row_for(found).arch}", gpu=True)
    if not target.native:
        raise DeviceError(
            f"found --target {text!r}, whose code does not run on this machine's GPU of compute capability "
            f"{found[0]}.{found[1]}; try --target cuda"
        )
    return target


def row_for(version: tuple[int, int]) -> gpus.Gpu:
    """The latest architecture whose code a GPU runs; raises DeviceError where there is none."""
    row = gpus.row_for(version)
    if row is None:
        accepted = ", ".join(gpu.arch for gpu in gpus.GPUS)
        raise DeviceError(
            f"no code is made for this machine's GPU of compute capability {version[0]}.{version[1]}; there is code "
            f"for {accepted}"
        )
    return row
