"""A tracker: a server that knows devices by a key, and lends each to one client at a time.

TVM's own `TrackerSession` retries for a minute where nobody listens, waits for ever where no device is free, and does
not tell which device it got. Here is the same conversation, in TVM's words (`tvm.rpc.base`), within a time limit.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple

from tvm.rpc import base

from tvm_bnn.errors import DeviceError
from tvm_bnn.rpc.address import Address

#: Seconds for an answer that the tracker gives at once.
ANSWER_S = 5.0
#: Seconds after which a device is back whose session has crashed, and between two looks for it.
RETURN_S = 2.0
_LOOK_S = 0.1
_PRIORITY = 1


class Registered(NamedTuple):
    """A device that a tracker knows: its key, and the address that clients connect to."""

    key: str
    address: Address


class Lent(NamedTuple):
    """A device that is ours for as long as the session that `password` opens, and some seconds before it opens."""

    key: str
    address: Address
    password: str

    def __str__(self) -> str:
        return f"{self.key}@{self.address}"


class Tracker:
    """A connection with a tracker, to be closed or used in a with statement.

    Raises DeviceError where none can be reached at the address within ANSWER_S; so does each of its methods where it
    stops answering.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        try:
            self._socket = socket.create_connection(address, ANSWER_S)
        except (OSError, UnicodeError) as error:
            raise DeviceError(
                f"no tracker can be reached at {address}: {error}; "
                "start one there: python -m tvm_bnn.device tracker, or open the tunnel to it"
            ) from None
        try:
            self._socket.sendall(struct.pack("<i", base.RPC_TRACKER_MAGIC))
            (answer,) = struct.unpack("<i", base.recvall(self._socket, 4))
        except OSError:
            answer = None
        if answer != base.RPC_TRACKER_MAGIC:
            self.close()
            raise DeviceError(
                f"what listens at {address} is no tracker of TVM's; if it is a device without one: --rpc {address}"
            )

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, _kind: type | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.close()

    def devices(self) -> list[Registered]:
        """The devices that are registered, by key and address."""
        rows = self._summary()["server_info"]
        found = [Registered(row["key"].removeprefix("server:"), Address(*row["addr"])) for row in rows]
        return sorted(found)

    def free(self) -> dict[str, int]:
        """Key -> how many of its devices nobody uses."""
        return {key: row["free"] for key, row in self._summary()["queue_info"].items()}

    def lend(self, key: str, timeout_s: float) -> Lent:
        """The next free device of the key; waits for one for up to `timeout_s`.

        Raises DeviceError where the tracker has none of the key, or all stay busy.
        """
        self._check_key(key, min(timeout_s, RETURN_S))
        try:
            host, port, password = self._ask([base.TrackerCode.REQUEST, key, "", _PRIORITY], timeout_s)
        except TimeoutError:
            # else the tracker would keep the next free device for us
            self.close()
            raise DeviceError(
                f"no device {key!r} of the tracker at {self.address} became free in {timeout_s:g} s; try again later"
            ) from None
        return Lent(key, Address(host, port), password)

    def _check_key(self, key: str, timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while key not in (known := [device.key for device in self.devices()]):
            if time.monotonic() >= end:
                keys = ", ".join(sorted(set(known))) or "no device at all"
                raise DeviceError(f"the tracker at {self.address} has no device {key!r}; it has {keys}")
            time.sleep(_LOOK_S)

    def _summary(self) -> dict[str, Any]:
        try:
            return self._ask([base.TrackerCode.SUMMARY], ANSWER_S)
        except TimeoutError:
            raise DeviceError(f"the tracker at {self.address} has not answered for {ANSWER_S:g} s") from None

    def _ask(self, message: Sequence[Any], timeout_s: float) -> Any:
        """The answer to one message; TimeoutError where it takes longer."""
        self._socket.settimeout(timeout_s)
        try:
            base.sendjson(self._socket, message)
            code, value = base.recvjson(self._socket)
        except TimeoutError:
            raise
        except (OSError, ValueError) as error:
            raise DeviceError(f"the tracker at {self.address} has hung up: {error}") from None
        if code != base.TrackerCode.SUCCESS:
            raise DeviceError(f"the tracker at {self.address} refuses: {code} {value}")
        return value
