"""Where a server listens, and whom that lets in."""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import NamedTuple

from tvm_bnn.errors import DeviceError, InputError

LOOPBACK = "127.0.0.1"


class Address(NamedTuple):
    """A host (a name, or an IPv4 or IPv6 address without brackets) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """HOST:PORT, of IPv6 [HOST]:PORT; raises InputError for anything else."""
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.%\w]+)\]|([^\s\[\]:/@]+)):(\d{1,5})", text.strip())
    port = int(found.group(3)) if found else 0
    if not found or not 1 <= port <= 65535:
        raise InputError(
            f"found the address {text!r}; HOST:PORT is needed, with a port from 1 to 65535, such as 127.0.0.1:9090 or "
            "[::1]:9090"
        )
    return Address(found.group(1) or found.group(2), port)


def check_exposure(host: str, exposed: bool, what: str) -> str | None:
    """Whom `what` lets in that listens at `host`: None for programs of this machine alone, else a warning.

    exposed : whether the user asked for every network.

    Raises InputError for a host that means all networks of this machine unless exposed, DeviceError for an unknown one.
    """
    try:
        found = socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise DeviceError(f"cannot listen at {host!r}: {error}; try {LOOPBACK}") from None
    addresses = [ipaddress.ip_address(str(row[4][0]).partition("%")[0]) for row in found]
    if any(address.is_unspecified for address in addresses) and not exposed:
        raise InputError(
            f"the host {host!r} is every network of this machine, and whoever reaches {what} runs any code as this "
            f"user; listen at {LOOPBACK} and come through an ssh tunnel (docs/devices.md), or add --expose-to-network"
        )
    if all(address.is_loopback for address in addresses):
        return None
    return (
        f"{what} listens at {host}, and has no password: TVM's RPC executes whatever it is sent, so whoever reaches it "
        "runs any code as this user"
    )
