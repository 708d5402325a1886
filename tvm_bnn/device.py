"""`python -m tvm_bnn.device serve|tracker|list|check`: devices that run code over TVM's RPC (docs/devices.md)."""

from __future__ import annotations

import argparse
import functools
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from tvm_bnn.console import ArgumentParser, Progress, main_guard, positive
from tvm_bnn.errors import DeviceError, InputError
from tvm_bnn.interrupt import EXIT_INTERRUPTED, held_back
from tvm_bnn.rpc import options as device_options
from tvm_bnn.rpc.address import LOOPBACK, Address, check_exposure

if TYPE_CHECKING:
    # loaded inside the commands: TVM takes seconds, PyTorch more, and a board may have no PyTorch
    from tvm_bnn.rpc.board import Description
    from tvm_bnn.rpc.client import Session
    from tvm_bnn.rpc.exactness import Measured
    from tvm_bnn.rpc.inventory import Row
    from tvm_bnn.rpc.server import Server

DEVICE_PORT = 9090
TRACKER_PORT = 9190
CHECK_S = 10
#: Seconds that a check may take beside its runs: to compile, to load the code, and for a device that answers slowly.
MARGIN_S = 120
WIDTH = 200
_WATCH_S = 0.5
_WRONG = 1


@main_guard
def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    options = _parser().parse_args(arguments)
    return {"serve": _serve, "tracker": _track, "list": _list, "check": _check}[options.command](options)


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="python -m tvm_bnn.device", description="Devices that run compiled code over TVM's RPC, and using them."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="serve|tracker|list|check")
    serve = commands.add_parser("serve", help="make this machine a device", description="Make this machine a device.")
    _add_listening(serve, DEVICE_PORT)
    device_options.add_tracker(serve)
    serve.add_argument("--key", default="", help="what it is called at the tracker, such as pi4")
    serve.add_argument(
        "--advertise", metavar="HOST", help="host under which clients reach it, where the tracker sees another one"
    )
    serve.add_argument(
        "--emulate",
        metavar="CPU",
        help="be an emulated 64-bit Arm processor instead, such as cortex-a72: its results are right, and it counts "
        "instructions where others take time",
    )
    tracker = commands.add_parser(
        "tracker", help="lend devices to one client at a time", description="Lend devices to one client at a time."
    )
    _add_listening(tracker, TRACKER_PORT)
    stock = commands.add_parser(
        "list", help="show a tracker's devices, and try those that are free", description="Show a tracker's devices."
    )
    device_options.add_tracker(stock, required=True)
    check = commands.add_parser(
        "check",
        help="does a device compute what it should, and do its times hold still",
        description="Run some kernels on a device again and again, and compare every result with the reference.",
    )
    device_options.add_device(check)
    check.add_argument("--target", help="what to compile for (default: what the device says)")
    check.add_argument("--seconds", type=positive, default=CHECK_S, help=f"how long to run (default: {CHECK_S})")
    return parser


def _add_listening(parser: argparse.ArgumentParser, port: int) -> None:
    parser.add_argument("--host", default=LOOPBACK, help=f"address to listen at (default: {LOOPBACK})")
    parser.add_argument("--port", type=positive, default=port, help=f"(default: {port})")
    parser.add_argument(
        "--expose-to-network",
        action="store_true",
        help="allow 0.0.0.0 and ::, every network of this machine: anyone who can reach the port can run any code as "
        "this user",
    )


# --- being a device, or a tracker ----------------------------------------------------------------------------------


def _serve(options: argparse.Namespace) -> int:
    if bool(options.tracker) != bool(options.key):
        raise InputError("found one of --tracker and --key; a device needs both to be at a tracker, or neither")
    if options.key and options.key.split() != [options.key]:
        raise InputError(f"found the key {options.key!r}; one word is needed, such as pi4")
    if options.advertise and not options.tracker:
        raise InputError("found --advertise without --tracker, which is whom it tells")
    address = _listening(options, "this server")
    with held_back():
        from tvm_bnn.rpc import board, server
        from tvm_bnn.rpc.tracker import Tracker
    session = None
    if options.emulate:
        from tvm_bnn.emulated import processor  # TVM with its compiler, which a board may lack

        session = processor.started_by(options.emulate, 1, Path("counts"))
        print(f"an emulated {options.emulate}: its times mean nothing, its instructions are counted")
    else:
        described = board.describe()
        for line in described.lines():
            print(line)
        _warn(described)
    if options.tracker:
        Tracker(options.tracker).close()
    with server.serve(address, options.tracker, options.key, options.advertise, session) as running:
        where = f", as {options.key} of the tracker at {options.tracker}" if options.tracker else ""
        print(f"listening at {address}{where}; Ctrl-C ends it", flush=True)
        return _wait(running)


def _track(options: argparse.Namespace) -> int:
    address = _listening(options, "this tracker, whose devices it lends,")
    with held_back():
        from tvm_bnn.rpc import server
    with server.track(address) as running:
        print(f"listening at {address}; Ctrl-C ends it", flush=True)
        return _wait(running)


def _listening(options: argparse.Namespace, what: str) -> Address:
    if options.port > 65535:
        raise InputError(f"found --port {options.port}; from 1 to 65535 is accepted")
    warning = check_exposure(options.host, options.expose_to_network, what)
    if warning:
        print(f"warning: {warning}", file=sys.stderr)
    return Address(options.host, options.port)


def _wait(running: Server) -> int:
    """Until Ctrl-C; raises DeviceError when the server ends by itself."""
    try:
        while running.alive():
            time.sleep(_WATCH_S)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    raise DeviceError("the server's process has ended; start it again")


def _warn(described: Description) -> None:
    for warning in described.readings.warnings():
        print(f"warning: {warning}", file=sys.stderr)


# --- using devices -------------------------------------------------------------------------------------------------


def _list(options: argparse.Namespace) -> int:
    with Progress() as progress:
        with progress.phase("load"), held_back():
            from tvm_bnn.rpc import exactness, inventory
            from tvm_bnn.targets import resolve
        case = exactness.CASES[0]
        lock = threading.Lock()

        @functools.cache
        def library(target: str) -> bytes:
            return case.library(resolve(target))

        def try_out(session: Session, target: str) -> str:
            with lock:  # one compilation for all devices of a kind
                compiled = library(target)
            (row,) = exactness.measure(session, [(case, compiled)], seconds=0)
            return f"WRONG: {case.name} differs from the reference" if row.wrong else inventory.EXACT

        with progress.phase("ask"):
            rows = inventory.take_stock(options.tracker, try_out)
    if not rows:
        print(f"the tracker at {options.tracker} has no device; python -m tvm_bnn.device serve --tracker announces one")
        return 0
    _console().print(_stock(rows))
    return 0 if all(row.fine for row in rows) else _WRONG


def _stock(rows: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False)
    for head in ("key", "address", "state", "device", "answer"):
        table.add_column(head)
    for row in rows:
        title = row.description.title() if row.description else "-"
        state = "free" if row.free else "busy"
        table.add_row(row.device.key, str(row.device.address), state, title, row.answer or "-")
    return table


def _check(options: argparse.Namespace) -> int:
    if not device_options.names_device(options):
        raise InputError("no device was named; --rpc HOST:PORT or --tracker HOST:PORT --key KEY does")
    with Progress() as progress, ExitStack() as stack:
        with progress.phase("load"), held_back():
            from tvm_bnn.rpc import client, exactness
            from tvm_bnn.targets import resolve
        with progress.phase("ask"):
            # the session begins now, and the device waits while the kernels are compiled
            session = stack.enter_context(device_options.open_session(options, options.seconds + MARGIN_S))
            before = client.describe(session)
            target = resolve(_target(options.target, before, session.device), gpu=True)
            gpu = target.gpu.arch if target.gpu else None
            if gpu:
                client.check_gpu(session, gpu)
        with progress.phase("compile") as detail:
            libraries = []
            for case in exactness.cases_for(target):
                detail(case.name)
                libraries.append((case, case.library(target)))
        with progress.phase("run") as detail:
            rows = exactness.measure(session, libraries, options.seconds, detail, gpu=gpu)
            after = client.describe(session)
    print(f"{session.device}: {before.title() if before else 'does not say what it is'}")
    print(f"compiled for {target.text()}")
    for when, described in (("before", before), ("after", after)):
        if described:
            print(f"{when}: {'; '.join(described.readings.lines())}")
    if after:
        _warn(after)
    _console().print(_measured(rows))
    right, line = exactness.verdict(rows)
    print(line)
    return 0 if right else _WRONG


def _target(asked: str | None, described: Description | None, device: str) -> str:
    if asked:
        return asked
    if described is None or described.target is None:
        reason = described.reason if described else "its server is not that of python -m tvm_bnn.device"
        raise InputError(f'{device} does not tell for what to compile: {reason}; say it: --target "llvm -mcpu=NAME"')
    return described.target


def _measured(rows: Sequence[Measured]) -> Table:
    table = Table(title="times in ms, measured on the device", title_justify="left", box=None, pad_edge=False)
    for head in ("kernel", "results", "wrong", "median", "least", "most", "spread"):
        table.add_column(head, justify="left" if head == "kernel" else "right")
    for row in rows:
        times = (row.timing.median, min(row.seconds), max(row.seconds))
        shown = [f"{1e3 * value:.3f}" for value in times]
        table.add_row(row.name, str(row.compared), str(row.wrong), *shown, f"{row.timing.spread:.0%}")
    return table


def _console() -> Console:
    # where no terminal sets a width, no column is cut
    return Console(highlight=False, soft_wrap=True, markup=False, width=None if sys.stdout.isatty() else WIDTH)


if __name__ == "__main__":
    sys.exit(main())
