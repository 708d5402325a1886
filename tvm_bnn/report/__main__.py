"""Measure, show and write down: `python -m tvm_bnn.report kernels|networks|ablation|precision|instructions|limits`.

[--rows PATTERN ...] [--threads N ...] [--rounds N] [--mcpu CPU] [--target TARGET ...] [--json FILE]
networks also on a device: [--rpc HOST:PORT | --tracker HOST:PORT --key KEY]
limits, kernels and networks of this machine's NVIDIA GPU: --target cuda; see `tvm_bnn.report.gpu`

And the whole report, `compare CONFIG.toml -o DIR`, with what goes with it: see `tvm_bnn.report.compare.command`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from tvm_bnn.console import ArgumentParser, Progress, main_guard, positive
from tvm_bnn.emulated import processor
from tvm_bnn.errors import DeviceError, InputError
from tvm_bnn.report import ablation, instructions, kernels, networks, older_cpu, precision, tables
from tvm_bnn.report.commandline import console, select, writable, write_json
from tvm_bnn.report.compare import command
from tvm_bnn.report.gpu import command as of_gpu
from tvm_bnn.report.machine import versions
from tvm_bnn.report.peers import BINARY_PEERS, Peer
from tvm_bnn.report.site import HERE, OnDevice, Site
from tvm_bnn.rpc import options as device_options
from tvm_bnn.targets import Target, resolve

#: Name -> module with ROWS and measure(rows, limits, peers, rounds, progress).
SUITES: Mapping[str, Any] = {suite.SUITE: suite for suite in (kernels, networks, ablation, precision)}


@main_guard
def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    given = sys.argv[1:] if arguments is None else arguments
    if given and given[0] in command.COMMANDS:
        return command.COMMANDS[given[0]](given[1:])
    options = _parser().parse_args(given)
    if of_gpu.asked(options.target) and not device_options.names_device(options):
        return of_gpu.run(options)
    if options.suite == of_gpu.LIMITS:
        raise InputError(f"found {of_gpu.LIMITS} without a GPU; --target cuda names this machine's")
    return _count(options) if options.suite == instructions.SUITE else _compare(options, given)


def _compare(options: argparse.Namespace, given: Sequence[str]) -> int:
    """The suites that measure times, beside what else could run it and against limits."""
    # what would fail at the end is refused at the start
    suite = SUITES[options.suite]
    chosen = select(options.rows, suite.ROWS)
    writable(options.json)
    if options.mcpu and (code := older_cpu.again(options.mcpu, "tvm_bnn.report", given)) is not None:
        return code
    shown = console()
    with ExitStack() as stack:
        site = opened(options, stack)
        targets = targets_of(options, site)
        threads = thread_counts(options.threads, site.cpus)
        peers, missing, names = competitors(options, site)
        with Progress() as progress:
            limits = {}
            for count in threads:
                with progress.phase(f"machine, threads: {count}"):
                    limits[count] = site.limits((targets[0] if options.mcpu else site.target)(count))
            described = {**site.describe(targets[0](1), list(limits.values())), "versions": versions()}
            shown.print(tables.machine(described))
            where = {"site": site} if suite is networks else {}
            rows = suite.measure(chosen, limits, peers, options.rounds, progress, *targets, **where)
    shown.print(tables.rows(rows, names))
    if suite is networks:
        shown.print(tables.memory(rows, names))
    for note in tables.notes(rows, missing):
        shown.print(note)
    if options.json:
        write_json(options.json, {"rows": rows, "machine": described, "missing": missing})
        print(f"written to {options.json}")
    return 0


def opened(options: argparse.Namespace, stack: ExitStack) -> Site:
    """Where to measure; a session with a device ends with the stack.

    Raises InputError for suites that cannot be measured there, DeviceError where it cannot be reached.
    """
    if not device_options.names_device(options):
        return HERE
    if options.suite != networks.SUITE or options.mcpu:
        found = "--mcpu" if options.mcpu else options.suite
        raise InputError(f"found a device with {found}; on a device, only {networks.SUITE} can be measured")
    session = stack.enter_context(device_options.place(options).session())
    return OnDevice(session, partial(resolve, options.target[0], gpu=True) if options.target else None)


def competitors(options: argparse.Namespace, site: Site) -> tuple[list[Peer], dict[str, str], list[str]]:
    """The peers that take part, why others cannot, by name, and the columns of the table."""
    if options.suite == ablation.SUITE:  # ours against ours
        return [], {}, [ablation.without(switch) for switch in ablation.SWITCHES]
    if options.suite == precision.SUITE:
        return [], {}, list(precision.VARIANTS)
    peers, missing = networks.present(site.peers)
    if options.mcpu:
        missing |= {peer.name: "it does not ask the processor" for peer in peers if not peer.asks_cpuid}
        peers = [peer for peer in peers if peer.asks_cpuid]
    names = [peer.name for peer in site.peers]
    if options.suite == kernels.SUITE:
        names += [kernels.UNFUSED, *(peer.name for peer in BINARY_PEERS)]
        missing |= {peer.name: reason for peer in BINARY_PEERS if (reason := peer.missing()) is not None}
    return peers, missing, names


def _count(options: argparse.Namespace) -> int:
    """The suite about an emulated processor, of which this machine's limits and peers say nothing."""
    ignored = {"--threads": options.threads, "--mcpu": options.mcpu, "a device": device_options.names_device(options)}
    if given := [option for option, value in ignored.items() if value]:
        raise InputError(f"found {given[0]} with {instructions.SUITE}; it takes --target, --rows and --json")
    chosen = select(options.rows, instructions.ROWS)
    targets = [instructions.target_of(text) for text in options.target or [instructions.TARGET]]
    writable(options.json)
    if reason := processor.why_not():
        raise DeviceError(reason)
    with Progress() as progress:
        rows = [row for target in targets for row in instructions.measure(chosen, target, progress)]
    shown = console()
    for table in instructions.tables(rows):
        shown.print(table)
    if options.json:
        write_json(options.json, {"rows": rows, "versions": versions()})
        print(f"written to {options.json}")
    return 0


def thread_counts(asked: Sequence[int] | None, cpus: int) -> list[int]:
    """The numbers of threads to measure with, each once; raises InputError for more than there are CPUs."""
    counts = list(dict.fromkeys(asked or [cpus]))
    if max(counts) > cpus:
        raise InputError(f"found --threads {max(counts)}; from 1 to {cpus} (the CPUs of the machine) can be used")
    return counts


def targets_of(options: argparse.Namespace, site: Site) -> list[Callable[[int], Target]]:
    """Number of threads -> what ours is compiled for, of each that `--target` names; else that of the site.

    Raises InputError for one that this machine cannot run, for two of one name, and for suites that compile for one.
    """
    if options.mcpu:
        return [partial(resolve, f"llvm -mcpu={options.mcpu}")]
    if options.target and options.suite != networks.SUITE:
        raise InputError(f"found --target with {options.suite}; only {networks.SUITE} and {instructions.SUITE} take it")
    for spec in options.target or ():
        if site is HERE and not (found := resolve(spec, 1, gpu=True)).native:
            raise InputError(
                f"found --target {spec!r} ({found.name}), whose code this machine cannot run; name a device that can "
                "(--rpc HOST:PORT, or --tracker HOST:PORT --key KEY), or leave it out"
            )
    names = [resolve(spec, 1, gpu=True).name for spec in options.target or ()]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise InputError(f"found {len(repeated)} targets with the schedules of {repeated[0]}; name each kind once")
    return [partial(resolve, spec, gpu=True) for spec in options.target or ()] or [site.target]


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="python -m tvm_bnn.report",
        description="Measure a machine, and what is compiled for it beside what else could run it.",
        epilog=f"Commands of their own, with --help of their own: {', '.join(command.COMMANDS)}.",
    )
    parser.add_argument("suite", choices=[*SUITES, instructions.SUITE, of_gpu.LIMITS], help="what to measure")
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
        help="of networks: compile ours for each of these, which take turns (default: the processor that runs it); "
        f"of instructions: the Arm processors that are emulated (default: {instructions.TARGET!r}); of limits, kernels "
        "and networks: cuda is this machine's NVIDIA GPU",
    )
    device_options.add_device(parser)
    parser.add_argument("--json", metavar="FILE", help="write the figures here as well")
    return parser


if __name__ == "__main__":
    sys.exit(main())
