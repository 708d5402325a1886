"""Being a device, or a tracker of devices: TVM's own servers, each in a process of its own.

A device's server says of itself what it is, lets a client choose the number of threads, times the calls of a network,
and loads machine code for GPUs that a client has made: functions that TVM's server lacks. A session that crashes ends
TVM's listening thread with it, while the port stays open: here it is started again, since candidates of a tuner crash.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import tvm
import tvm_ffi
from tvm import libinfo
from tvm.rpc import base
from tvm.rpc import server as tvm_server
from tvm_ffi.libinfo import load_lib_ctypes

from tvm_bnn import cubin
from tvm_bnn.call_times import recorded
from tvm_bnn.errors import DeviceError
from tvm_bnn.rpc import CALLS, DESCRIBE, USE_THREADS, board
from tvm_bnn.rpc.address import Address
from tvm_bnn.runtime import use_threads

#: What a tuner fills the arguments of a kernel with, and where a TVM that is a runtime alone finds it when asked.
_RANDOM = "tvm.contrib.random.random_fill_for_measure"
_EXTRA_LIBRARY = "tvm_runtime_extra"
_PR_SET_PDEATHSIG = 1
#: A program that serves one session, given the number of the open connection behind its arguments; and what its
#: environment has beside.
Emulated = tuple[list[str], dict[str, str]]
#: Seconds between a failure and listening again.
_PAUSE_S = 0.2


class Server:
    """A server in a process of its own, which ends with this one or with `stop`; use it in a with statement."""

    def __init__(self, process: Any) -> None:
        """`process` : a worker of TVM's."""
        self._process = process

    @property
    def pid(self) -> int:
        """Of its process, whose children are the sessions."""
        return int(self._process._proc.pid)

    def alive(self) -> bool:
        """Whether its process runs."""
        return bool(self._process.is_alive())

    def stop(self) -> None:
        """End it, and what it is running."""
        self._process.kill()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def serve(
    address: Address,
    tracker: Address | None = None,
    key: str = "",
    advertised: str | None = None,
    session: Emulated | None = None,
) -> Server:
    """Start a device's server; it ends when the thread ends that started it.

    tracker, key : where it announces itself, and as what.
    advertised : host under which clients reach it, where that is another than the tracker sees it come from.
    session : the program that serves each session, where this is not to be the device.

    Raises DeviceError where it cannot listen.
    """
    # as a plain tuple: the processes on the way know TVM alone
    where = None if tracker is None else (tracker.host, tracker.port)
    prepare = functools.partial(_prepare, key, where, session)

    def started() -> Any:
        return tvm_server.Server(
            address.host,
            address.port,
            address.port + 1,
            tracker_addr=where,
            key=key,
            custom_addr=advertised,
            server_init_callback=prepare,
        )

    return _listening(started, address)


def track(address: Address) -> Server:
    """Start a tracker.

    Raises DeviceError where it cannot listen, or where the library that it needs is not installed.
    """
    if importlib.util.find_spec("tornado") is None:
        raise DeviceError("a tracker needs the package tornado, which is not here; try: pip install 'tvm_bnn[tune]'")
    from tvm.rpc.tracker import Tracker

    return _listening(lambda: Tracker(address.host, address.port, address.port + 1), address)


def _listening(start: Callable[[], Any], address: Address) -> Server:
    try:
        # before TVM does: it tells in a traceback of the other process, and leaves half a tracker behind
        family = base.get_addr_family(address)
        socket.create_server(address, family=family).close()
        made = start()
    except OSError as error:
        reason = error.strerror or error
        raise DeviceError(f"cannot listen at {address}: {reason}; choose another --host or --port") from None
    # from TVM's object, which would end it when forgotten, and a tracker by asking 127.0.0.1, wherever it listens
    process, made.proc = made.proc, None
    process.send(_end_with, [os.getpid()])
    process.recv()
    return Server(process)


# --- in the server's process --------------------------------------------------------------------------------------


def _prepare(key: str, tracker: tuple[str, int] | None, session: Emulated | None = None) -> None:
    """What the process does before it listens; sessions are forks of it, so it must not use CUDA."""
    if session is not None:
        tvm_server._serve_loop = functools.partial(_replace, session)
    if tvm.get_global_func(_RANDOM, allow_missing=True) is None:
        load_lib_ctypes("tvm", _EXTRA_LIBRARY, "RTLD_GLOBAL", extra_lib_paths=libinfo.package_lib_paths())
    board.describe()  # what it asks LLVM, and Linux for the registers of AMX, is inherited by sessions
    tvm_ffi.register_global_func(DESCRIBE, lambda: board.describe().json(), override=True)
    tvm_ffi.register_global_func(USE_THREADS, use_threads, override=True)
    tvm_ffi.register_global_func(CALLS, lambda *given: json.dumps(recorded(*given)), override=True)
    cubin.accept()
    home = os.getcwd()

    def listen_again(failure: threading.ExceptHookArgs) -> None:
        print(f"a session ended badly: {failure.exc_value}; going on", file=sys.stderr, flush=True)
        time.sleep(_PAUSE_S)
        os.chdir(home)  # out of the session's folder
        state = tvm_server.PopenRPCServerState.current
        arguments = (state.sock, state.port, key, tracker, None, state.custom_addr)
        state.thread = threading.Thread(target=tvm_server._listen_loop, args=arguments)
        state.thread.start()

    threading.excepthook = listen_again


def _replace(session: Emulated, wire: socket.socket, _library: Any, _folder: Any) -> None:
    """Become the program that serves a session, in whose folder this process is."""
    command, environment = session
    wire.set_inheritable(True)
    os.execvpe(command[0], [*command, str(wire.fileno())], {**os.environ, **environment})


def _end_with(parent: int) -> None:
    """Leave it to the parent to end this process, and to Linux where the parent is killed: no port is left open."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        return
    if os.getppid() != parent:
        sys.exit(1)
