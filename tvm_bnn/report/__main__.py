"""`python -m tvm_bnn.report networks [--rows PATTERN ...] [--threads N ...] [--json FILE]`: measure and compare."""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console

from tvm_bnn import artifact
from tvm_bnn.console import ArgumentParser, Progress, main_guard, positive
from tvm_bnn.errors import InputError, OutputError
from tvm_bnn.report import machine, networks, tables
from tvm_bnn.report.peers import PEERS
from tvm_bnn.targets import available_cpus

#: Suite -> names of its rows.
SUITES: Mapping[str, Sequence[str]] = {networks.SUITE: [network.name for network in networks.NETWORKS]}
WIDTH = 160
DISTRIBUTIONS = ("tvm_bnn", "apache-tvm", "torch", "onnxruntime", "openvino")


@main_guard
def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    options = _parser().parse_args(arguments)
    # what would fail at the end is refused at the start
    chosen = select(options.rows, networks.NETWORKS)
    threads = thread_counts(options.threads)
    writable(options.json)
    peers, missing = networks.present()
    # where no terminal sets a width, no column is cut
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDTH)
    with Progress() as progress:
        limits = {}
        for count in threads:
            with progress.phase(f"machine, threads: {count}"):
                limits[count] = machine.measure(count)
        described = {**machine.describe(limits.values()), "versions": versions()}
        console.print(tables.machine(described))
        rows = networks.measure(chosen, limits, peers, options.rounds, progress)
    console.print(tables.rows(rows, [peer.name for peer in PEERS]))
    for note in tables.notes(rows, missing):
        console.print(note)
    if options.json:
        write_json(options.json, {"rows": rows, "machine": described, "missing": missing})
        print(f"written to {options.json}")
    return 0


def select(patterns: Sequence[str] | None, known: Sequence[networks.Network]) -> list[networks.Network]:
    """The networks whose name a pattern matches, in the order of the suite; all without patterns.

    Raises InputError for a pattern that matches nothing.
    """
    for pattern in patterns or ():
        if not any(fnmatch.fnmatchcase(network.name, pattern) for network in known):
            names = ", ".join(network.name for network in known)
            raise InputError(f"found no row {pattern!r}; the rows are {names}; patterns such as 'bench-3x3*' match")
    return [
        network
        for network in known
        if not patterns or any(fnmatch.fnmatchcase(network.name, pattern) for pattern in patterns)
    ]


def thread_counts(asked: Sequence[int] | None) -> list[int]:
    """The numbers of threads to measure with, each once; raises InputError for more than this machine has CPUs."""
    counts = list(dict.fromkeys(asked or [available_cpus()]))
    if max(counts) > available_cpus():
        raise InputError(f"found --threads {max(counts)}; from 1 to {available_cpus()} (the CPUs here) can be used")
    return counts


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
        "--rows", nargs="+", metavar="PATTERN", help=f"only these of its rows ({', '.join(SUITES[networks.SUITE])})"
    )
    parser.add_argument(
        "--threads", nargs="+", type=positive, metavar="N", help="numbers of threads (default: all CPUs)"
    )
    parser.add_argument(
        "--rounds", type=positive, default=networks.ROUNDS, help=f"rounds that count (default: {networks.ROUNDS})"
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures here as well")
    return parser


if __name__ == "__main__":
    sys.exit(main())
