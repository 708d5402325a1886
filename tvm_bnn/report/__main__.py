"""Measure, show and write down: `python -m tvm_bnn.report kernels|networks|ablation|precision`.

[--rows PATTERN ...] [--threads N ...] [--rounds N] [--mcpu CPU] [--target TARGET ...] [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rich.console import Console

from tvm_bnn import artifact
from tvm_bnn.console import ArgumentParser, Progress, main_guard, positive
from tvm_bnn.errors import InputError, OutputError
from tvm_bnn.report import ablation, kernels, machine, networks, older_cpu, precision, tables
from tvm_bnn.report.peers import BINARY_PEERS, PEERS
from tvm_bnn.targets import Target, available_cpus, host, resolve

#: Name -> module with ROWS and measure(rows, limits, peers, rounds, progress).
SUITES: Mapping[str, Any] = {suite.SUITE: suite for suite in (kernels, networks, ablation, precision)}
WIDTH = 260
DISTRIBUTIONS = ("tvm_bnn", "apache-tvm", "torch", "onnxruntime", "openvino")


class Named(Protocol):
    """What a suite can measure."""

    @property
    def name(self) -> str:
        """Of its row."""


Choice = TypeVar("Choice", bound=Named)


@main_guard
def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(given)
    # what would fail at the end is refused at the start
    suite = SUITES[options.suite]
    chosen = select(options.rows, suite.ROWS)
    threads = thread_counts(options.threads)
    writable(options.json)
    if options.mcpu and (code := older_cpu.again(options.mcpu, "tvm_bnn.report", given)) is not None:
        return code
    target = partial(resolve, f"llvm -mcpu={options.mcpu}") if options.mcpu else host
    targets = own_targets(options.target, suite.SUITE) or [target]
    peers, missing = networks.present()
    if options.mcpu:
        missing |= {peer.name: "it does not ask the processor" for peer in peers if not peer.asks_cpuid}
        peers = [peer for peer in peers if peer.asks_cpuid]
    names = [peer.name for peer in PEERS]
    if suite is kernels:
        names += [kernels.UNFUSED, *(peer.name for peer in BINARY_PEERS)]
        missing |= {peer.name: reason for peer in BINARY_PEERS if (reason := peer.missing()) is not None}
    # where no terminal sets a width, no column is cut
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDTH)
    if suite is ablation:  # ours against ours
        missing, names = {}, [ablation.without(switch) for switch in ablation.SWITCHES]
    if suite is precision:
        missing, names = {}, list(precision.VARIANTS)
    with Progress() as progress:
        limits = {}
        for count in threads:
            with progress.phase(f"machine, threads: {count}"):
                limits[count] = machine.measure(target(count))
        described = {**machine.describe(target(), limits.values()), "versions": versions()}
        console.print(tables.machine(described))
        rows = suite.measure(chosen, limits, peers, options.rounds, progress, *targets)
    console.print(tables.rows(rows, names))
    if suite is networks:
        console.print(tables.memory(rows, names))
    for note in tables.notes(rows, missing):
        console.print(note)
    if options.json:
        write_json(options.json, {"rows": rows, "machine": described, "missing": missing})
        print(f"written to {options.json}")
    return 0


def select(patterns: Sequence[str] | None, known: Sequence[Choice]) -> list[Choice]:
    """The rows whose name a pattern matches, in the order of the suite; all without patterns.

    Raises InputError for a pattern that matches nothing.
    """
    for pattern in patterns or ():
        if not any(fnmatch.fnmatchcase(row.name, pattern) for row in known):
            names = ", ".join(row.name for row in known)
            raise InputError(f"found no row {pattern!r}; the rows are {names}; patterns such as '*3x3*' match")
    return [row for row in known if not patterns or any(fnmatch.fnmatchcase(row.name, pattern) for pattern in patterns)]


def thread_counts(asked: Sequence[int] | None) -> list[int]:
    """The numbers of threads to measure with, each once; raises InputError for more than this machine has CPUs."""
    counts = list(dict.fromkeys(asked or [available_cpus()]))
    if max(counts) > available_cpus():
        raise InputError(f"found --threads {max(counts)}; from 1 to {available_cpus()} (the CPUs here) can be used")
    return counts


def own_targets(specs: Sequence[str] | None, suite: str) -> list[Callable[[int], Target]]:
    """Number of threads -> target, of each that `--target` names.

    Raises InputError for one that this machine cannot run, and for suites that compile for one alone.
    """
    if specs and suite != networks.SUITE:
        raise InputError(f"found --target with {suite}; only {networks.SUITE} takes it: leave it out")
    for spec in specs or ():
        if not (found := resolve(spec, 1)).native:
            raise InputError(
                f"found --target {spec!r} ({found.name}), whose code this machine cannot run; leave it out, or name "
                "one that it can, such as 'llvm -mcpu=x86-64-v3'"
            )
    return [partial(resolve, spec) for spec in specs or ()]


def writable(path: str | None) -> None:
    """Raise OutputError where no file can be made at `path`; nothing is left behind."""
    if path is None:
        return
    target = Path(path)
    if target.is_dir() or not os.access(target.parent, os.W_OK):
        raise OutputError(f"cannot write {path}: it is a folder, or in none that can be written to; try another path")


def write_json(path: str, content: Mapping[str, Any]) -> None:
    """Write the file whole or not at all; raises OutputError."""
    with artifact.whole_file(path) as file:
        file.write(json.dumps(content, indent=1).encode() + b"\n")


def versions() -> dict[str, str]:
    """The versions of what is compared, as far as it is installed."""
    found = {}
    for name in DISTRIBUTIONS:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="python -m tvm_bnn.report",
        description="Measure this machine, and what is compiled for it beside what else could run it.",
    )
    parser.add_argument("suite", choices=list(SUITES), help="what to measure")
    parser.add_argument(
        "--rows", nargs="+", metavar="PATTERN", help="only these of its rows, such as 'bench-3x3*' (default: all)"
    )
    parser.add_argument(
        "--threads", nargs="+", type=positive, metavar="N", help="numbers of threads (default: all CPUs)"
    )
    parser.add_argument(
        "--rounds", type=positive, default=networks.ROUNDS, help=f"rounds that count (default: {networks.ROUNDS})"
    )
    parser.add_argument(
        "--mcpu",
        choices=older_cpu.CPUS,
        help="hide from everything that is compared what this processor has beyond that",
    )
    parser.add_argument(
        "--target",
        nargs="+",
        metavar="TARGET",
        help="of networks: compile ours for each of these, which take turns (default: this processor)",
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures here as well")
    return parser


if __name__ == "__main__":
    sys.exit(main())
