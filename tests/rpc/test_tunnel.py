"""Devices behind ssh tunnels, as docs/devices.md has them: 127.0.0.2 is the board's loopback, 127.0.0.1 this machine's.

The same port at both ends is what makes a tracker's devices reachable: the tracker tells clients the address that it
sees a device come from, which is its own end of the tunnel, and the port at which the device itself listens.
"""

import multiprocessing
import socket
import threading
from contextlib import contextmanager, suppress

from tests.rpc.conftest import free_address
from tvm_bnn.rpc import client, server
from tvm_bnn.rpc.address import Address
from tvm_bnn.rpc.tracker import Tracker

BOARD = "127.0.0.2"


@contextmanager
def forwarded(here: Address, there: Address):
    """What `ssh -L` and `ssh -R` do: who connects with `here` is connected with `there`; in a process of its own."""
    with socket.create_server(here) as listener:
        process = multiprocessing.get_context("fork").Process(target=forward, args=(listener, there), daemon=True)
        process.start()
    yield
    process.kill()
    process.join()


def forward(listener, there):
    while True:
        first, _ = listener.accept()
        second = socket.create_connection(there)
        for source, sink in ((first, second), (second, first)):
            threading.Thread(target=pump, args=(source, sink), daemon=True).start()


def pump(source, sink):
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def test_board_without_tracker():
    port = free_address().port
    board, here = Address(BOARD, port), Address("127.0.0.1", port)
    with server.serve(board), forwarded(here, board):
        assert client.describe(client.connect(*here)) is not None


def test_board_that_joins_a_tracker_through_a_tunnel(tracker):
    port = free_address().port
    board, here = Address(BOARD, port), Address("127.0.0.1", port)
    tracker_seen_by_board = Address(BOARD, tracker.port)
    with forwarded(tracker_seen_by_board, tracker), forwarded(here, board):
        with server.serve(board, tracker_seen_by_board, "pi4"):
            session = client.request(*tracker, "pi4", 60)
            assert session.device == f"pi4@{here}"
            assert client.describe(session) is not None
            del session
            with Tracker(tracker) as asked:
                assert [device.address for device in asked.devices()] == [here]
