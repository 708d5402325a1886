"""The arguments of a command that name a device."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tvm_bnn.errors import InputError
from tvm_bnn.rpc.address import parse_address

if TYPE_CHECKING:
    from tvm_bnn.rpc.client import Place, Session


def add_device(parser: argparse.ArgumentParser, all_of_key: bool = False) -> None:
    """--rpc, --tracker and --key. all_of_key : whether the command uses all devices with the key at the same time."""
    parser.add_argument("--rpc", type=parse_address, metavar="HOST:PORT", help="use the device that listens there")
    add_tracker(parser)
    which = "all with" if all_of_key else "one with"
    parser.add_argument("--key", "--rpc-key", default="", help=f"... and of its devices, {which} this key")


def add_tracker(parser: argparse.ArgumentParser, required: bool = False) -> None:
    """--tracker."""
    names, text = ("--tracker", "--rpc-tracker"), "use the tracker that listens there"
    parser.add_argument(*names, type=parse_address, required=required, metavar="HOST:PORT", help=text)


def names_device(options: argparse.Namespace) -> bool:
    """Whether a device was named; raises InputError for arguments that name half of one, or two."""
    if options.rpc and options.tracker:
        raise InputError("found --rpc and --tracker; a device is named by one of them")
    if options.tracker and not options.key:
        raise InputError(
            f"found --tracker without --key; python -m tvm_bnn.device list --tracker {options.tracker} shows the keys"
        )
    if options.key and not (options.rpc or options.tracker):
        raise InputError("found --key alone; it goes with --tracker HOST:PORT")
    return bool(options.rpc or options.tracker)


def place(options: argparse.Namespace) -> Place:
    """The device that was named, or this machine."""
    from tvm_bnn.rpc.client import Place

    return Place(options.rpc, options.tracker, options.key)


def open_session(options: argparse.Namespace, timeout_s: float) -> Session:
    """A session with the device that was named. timeout_s : see `client.request`."""
    from tvm_bnn.rpc import client

    opened = client.connect if options.rpc else client.request
    host, port = options.rpc or options.tracker
    return opened(host, port, options.key, timeout_s)
