"""Sessions with devices, and a limit to how long one is waited for.

TVM waits for a device without limit, in C++ where Python cannot interrupt it. So each call runs in a thread of its own;
when the time is up, or Ctrl-C is pressed, the connection is cut below it, and TVM comes back with an error.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from tvm import rpc

from tvm_bnn import gpus
from tvm_bnn.call_times import Call
from tvm_bnn.errors import DeviceError
from tvm_bnn.rpc import CALLS, COUNT, DESCRIBE, USE_THREADS, board
from tvm_bnn.rpc.address import Address
from tvm_bnn.rpc.tracker import Lent, Tracker

#: Seconds that opening a session, or a question about the device, may take.
CONNECT_S = 10.0
#: Seconds in which a tracker must have a device for a session without an end.
LEND_S = 15.0
#: Seconds that any other call may take in a session without an end.
CALL_S = 600.0
# Seconds for TVM to notice that a connection is cut.
_UNWIND_S = 5.0
# In TVM's errors where a connection ends: nothing comes, or not what was expected.
_LOST = ("SockChannel", "RPCCode")

Result = TypeVar("Result")


@dataclass(frozen=True)
class Session:
    """A device in use, until it is closed, or the last reference to `remote` and to what came from it is gone.

    device : "KEY@HOST:PORT" of this very device, or "HOST:PORT" where it has no key. address : where it is.
    limit_s : seconds that a call may take.
    wire : the connection below it.
    """

    remote: rpc.RPCSession
    device: str
    address: Address
    limit_s: float
    wire: socket.socket

    def close(self) -> None:
        """End the session, and whatever the device is doing in it."""
        _cut(self.wire)

    def __del__(self) -> None:
        # our name for the connection; TVM has its own
        self.wire.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, doing: str, function: Callable[[], Result], limit_s: float | None = None) -> Result:
        """function(), which has the device do something.

        doing : what, for messages: "loading the code". limit_s : seconds, by default those of the session.

        Raises DeviceError, with the device's name, where it fails, hangs up, or takes longer; after the latter two the
        session is over.
        """
        try:
            return _within(limit_s or self.limit_s, function, self.close, f"{self.device} does not finish {doing}")
        except (RuntimeError, OSError, ValueError) as error:
            raise DeviceError(f"{self.device} failed while {doing}: {first_line(error)}") from error


@dataclass(frozen=True)
class Place:
    """Where a device is: in this machine, at a server, or with a tracker, which lends one of the key."""

    server: Address | None = None
    tracker: Address | None = None
    key: str = ""

    @property
    def here(self) -> bool:
        """Whether it is this machine."""
        return not (self.server or self.tracker)

    def session(self) -> Session:
        """A session with it, without an end; raises DeviceError where there is none to be had in LEND_S."""
        if self.tracker is None:
            assert self.server
            return connect(*self.server, self.key)
        with Tracker(self.tracker) as tracker:
            return open_lent(tracker.lend(self.key, LEND_S))


def request(host: str, port: int, key: str, timeout_s: float) -> Session:
    """A session with a device of a tracker.

    host, port : of the tracker.
    timeout_s : seconds to wait for a free device, and then seconds that the session may last: TVM's Python server ends
        it after that.

    Raises DeviceError where the tracker or the device cannot be reached, or no device of the key becomes free.
    """
    with Tracker(Address(host, port)) as tracker:
        return open_lent(tracker.lend(key, timeout_s), timeout_s)


def open_lent(device: Lent, timeout_s: float = 0.0) -> Session:
    """The session with a device that a tracker has lent. timeout_s : see `request`, 0 for no end."""
    return _open(device.address, device.password, str(device), timeout_s)


def connect(host: str, port: int, key: str = "", timeout_s: float = 0.0) -> Session:
    """A session with a server that has no tracker.

    key : of the server, where it has one. timeout_s : see `request`, 0 for no end.

    Raises DeviceError where it cannot be reached, does not answer in CONNECT_S, or has another key.
    """
    address = Address(host, port)
    return _open(address, key, f"{key}@{address}" if key else str(address), timeout_s)


def _open(address: Address, password: str, device: str, timeout_s: float) -> Session:
    def opened() -> rpc.RPCSession:
        return rpc.connect(address.host, address.port, password, session_timeout=timeout_s)

    others = _connections(address)

    def ours() -> list[socket.socket]:
        return [socket.socket(fileno=os.dup(number)) for number in _connections(address) - others]

    def cut() -> None:
        for wire in ours():
            _cut(wire)

    try:
        remote = _within(CONNECT_S, opened, cut, f"{device} does not answer; it may be busy with another session")
        (wire,) = ours()
    except (RuntimeError, ValueError, OSError) as error:
        reason = f"{first_line(error)}; is python -m tvm_bnn.device serve running there?"
        if "matches key" in str(error):
            reason = "it asks for another key, as a server does that has a tracker: --tracker HOST:PORT --key KEY"
        raise DeviceError(f"cannot open a session with {device}: {reason}") from None
    limit_s = timeout_s or CALL_S
    # TVM asks the device once more when an object of the session goes, and holds Python's lock meanwhile
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(limit_s + _UNWIND_S), 0))
    return Session(remote, device, address, limit_s, wire)


def describe(session: Session) -> board.Description | None:
    """What the device says it is; None where its server does not tell, as TVM's own does not."""
    offered = _offered(session, DESCRIBE)
    return None if offered is None else session.ask("saying what it is", lambda: board.parse(str(offered())), CONNECT_S)


def check_gpu(session: Session, arch: str) -> None:
    """Check that the device runs machine code for a GPU architecture; raises DeviceError where it does not."""
    told = describe(session)
    if told is None:
        raise DeviceError(
            f"{session.device} does not say whether it has a GPU, and does not take machine code for one; its server "
            "has to be that of python -m tvm_bnn.device"
        )
    if lacks := gpus.lacking(arch, told.gpu.version if told.gpu else None, f"the device {session.device}"):
        raise DeviceError(f"code for {arch} {lacks}")


def use_threads(session: Session, count: int) -> int | None:
    """Let the device use `count` threads in this session; how many it does, None where its server decides."""
    offered = _offered(session, USE_THREADS)
    return None if offered is None else session.ask("choosing threads", lambda: int(offered(count)), CONNECT_S)


def calls(session: Session, machine: Any, function: str, runs: int) -> list[list[Call]]:
    """`tvm_bnn.call_times.recorded` there, of a virtual machine of the device's; empty where its server cannot."""
    offered = _offered(session, CALLS)
    return [] if offered is None else session.ask("timing calls", lambda: json.loads(offered(machine, function, runs)))


def counter(session: Session) -> Callable[..., int] | None:
    """What counts the instructions of a call there, see COUNT; None where the device is none that is emulated."""
    return _offered(session, COUNT)


def _offered(session: Session, name: str) -> Callable[..., Any] | None:
    def found() -> Callable[..., Any] | None:
        try:
            return session.remote.get_function(name)
        except AttributeError:
            return None

    return session.ask(f"looking for {name}", found, CONNECT_S)


def _within(limit_s: float, function: Callable[[], Result], cut: Callable[[], None], late: str) -> Result:
    """function(), which may wait for a device until `cut` is called.

    Raises DeviceError with the text `late` and the limit when the time is up, and what the function raises.
    """
    outcome: list[tuple[Any, BaseException | None]] = []

    def run() -> None:
        try:
            outcome.append((function(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run, name="tvm_bnn-device", daemon=True)
    thread.start()
    try:
        thread.join(limit_s)
        if not outcome:
            raise DeviceError(f"{late} (waited {limit_s:g} s)")
    finally:
        if thread.is_alive():
            cut()
            thread.join(_UNWIND_S)
    try:
        result, error = outcome.pop()
        if error is not None:
            raise error
        return result
    finally:
        # an error refers to this frame: in a circle, they would keep the session open
        error = None


def _connections(address: Address) -> set[int]:
    """File descriptors of this process's connections with an address."""
    with suppress(OSError):  # a name that nobody knows
        peers = {row[4][:2] for row in socket.getaddrinfo(*address, type=socket.SOCK_STREAM)}
        return {number for number in map(int, os.listdir("/proc/self/fd")) if _peer(number) in peers}
    return set()


def _cut(wire: socket.socket) -> None:
    with wire, suppress(OSError):  # it is cut already
        wire.shutdown(socket.SHUT_RDWR)


def _peer(number: int) -> Any:
    """Host and port at the other end of a file descriptor; None where it is no connection."""
    try:
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            return None
        with socket.socket(fileno=os.dup(number)) as copy:
            return copy.getpeername()[:2]
    except OSError:
        return None


def first_line(error: Exception) -> str:
    """What an error of TVM's says, without where in TVM, and on which side, it was raised."""
    if any(sign in str(error) for sign in _LOST):
        return "it hung up"
    lines = [line.strip() for line in str(error).splitlines() if "Error caught from RPC call" not in line]
    return next(filter(None, lines), type(error).__name__)
