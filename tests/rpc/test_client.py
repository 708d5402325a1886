"""Sessions with real servers of this machine: lent, busy, hanging and crashing ones; nothing waits for ever."""

import gc
import subprocess
import sys
import time

import psutil
import pytest

from tests.rpc.conftest import crash_session, free_address, suspended
from tvm_bnn.errors import DeviceError
from tvm_bnn.rpc import client, server
from tvm_bnn.rpc.address import LOOPBACK, Address
from tvm_bnn.rpc.tracker import Registered, Tracker
from tvm_bnn.targets import available_cpus, host

LONG_S = 60.0
SHORT_S = 0.5


@pytest.fixture(scope="module")
def devices(tracker):
    """Two devices of the key "vm" at the tracker: address -> its server."""
    addresses = [free_address(), free_address()]
    with server.serve(addresses[0], tracker, "vm") as first, server.serve(addresses[1], tracker, "vm") as second:
        wait_for(lambda: free(tracker) == 2)
        yield dict(zip(addresses, (first, second), strict=True))


@pytest.fixture
def short(monkeypatch):
    """Half a second is long."""
    monkeypatch.setattr(client, "CONNECT_S", SHORT_S)


def wait_for(condition, seconds=LONG_S):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this does not happen"
        time.sleep(0.05)


def free(address):
    with Tracker(address) as asked:
        return asked.free().get("vm")


def test_device_says_what_it_is_and_takes_a_number_of_threads(device):
    session = client.connect(*device)
    assert (session.device, session.address) == (str(device), device)
    described = client.describe(session)
    assert described is not None and (described.name, described.cpus) == (host().name, available_cpus())
    assert client.use_threads(session, 1) == 1


def test_missing_file_is_told_with_the_device(device):
    session = client.connect(*device)
    with pytest.raises(DeviceError, match=rf"^{device} failed while loading: cannot find file "):
        session.ask("loading", lambda: session.remote.load_module("./nothing.so"))


def test_failed_call_leaves_no_session_behind(device):
    """In no circle of references: the next client would wait until they are collected."""

    def fail():
        session = client.connect(*device)
        with pytest.raises(DeviceError):
            session.ask("loading", lambda: session.remote.load_module("./nothing.so"))

    gc.disable()
    try:
        fail()
        assert client.describe(client.connect(*device)) is not None
    finally:
        gc.enable()


def test_devices_of_a_tracker(tracker, devices):
    with Tracker(tracker) as asked:
        assert asked.devices() == sorted(Registered("vm", address) for address in devices)
        assert asked.free() == {"vm": 2}


def test_each_session_names_the_device_it_got(tracker, devices):
    sessions = [client.request(*tracker, "vm", LONG_S) for _ in devices]
    assert {session.device for session in sessions} == {f"vm@{address}" for address in devices}
    assert all(session.device == f"vm@{session.address}" for session in sessions)
    with pytest.raises(DeviceError, match=rf"no device 'vm' of the tracker at {tracker} became free in 0\.5 s"):
        client.request(*tracker, "vm", SHORT_S)
    del sessions
    # nothing was lent to the client that gave up
    wait_for(lambda: free(tracker) == 2)


def test_device_that_becomes_free_is_waited_for(tracker, devices):
    """Servers end these sessions after a second, whether the clients let them go or not."""
    sessions = [client.request(*tracker, "vm", 1.0) for _ in devices]
    third = client.request(*tracker, "vm", LONG_S)
    assert third.address in {session.address for session in sessions}
    assert client.describe(third) is not None


def test_key_that_the_tracker_does_not_have(tracker, devices):
    with pytest.raises(DeviceError, match=f"the tracker at {tracker} has no device 'pi4'; it has vm$"):
        client.request(*tracker, "pi4", SHORT_S)


def test_device_of_a_tracker_cannot_be_had_without_it(tracker, devices):
    address = next(iter(devices))
    with pytest.raises(DeviceError, match="it asks for another key, as a server does that has a tracker: --tracker"):
        client.connect(*address)


def test_crashed_session_is_told_and_its_device_comes_back(tracker, devices):
    session = client.request(*tracker, "vm", LONG_S)
    running = devices[session.address]
    crash_session(running)
    with pytest.raises(DeviceError, match=rf"^vm@{session.address} failed while .*: it hung up$"):
        client.describe(session)
    del session
    # both devices, so the one that crashed as well
    sessions = [client.request(*tracker, "vm", LONG_S) for _ in devices]
    assert {each.address for each in sessions} == set(devices)
    assert all(client.describe(each) is not None for each in sessions)


def test_hanging_call_is_cut_off(tracker, devices):
    session = client.request(*tracker, "vm", LONG_S)
    (process,) = psutil.Process(devices[session.address].pid).children()
    process.suspend()
    function = session.remote.get_function
    with pytest.raises(DeviceError, match=rf"^vm@{session.address} does not finish looking \(waited 0\.5 s\)$"):
        session.ask("looking", lambda: function("tvm.rpc.server.upload"), SHORT_S)
    process.kill()


def test_device_that_hangs_when_its_session_is_let_go():
    """TVM asks it once more, and Python cannot be interrupted there: the system ends the wait."""
    script = (
        "import psutil, sys\n"
        "from tvm_bnn.rpc import client\n"
        "client._UNWIND_S = 0.0\n"
        "session = client.connect(sys.argv[1], int(sys.argv[2]), timeout_s=1.0)\n"
        "function = session.remote.get_function('tvm.rpc.server.upload')\n"
        "server = psutil.Process(int(sys.argv[3]))\n"
        "for process in (server, *server.children()):\n"
        "    process.suspend()\n"
        "del function\n"
    )
    address = free_address()
    with server.serve(address) as running:
        line = [sys.executable, "-c", script, *map(str, address), str(running.pid)]
        subprocess.run(line, check=True, timeout=LONG_S)


def test_hanging_server_is_cut_off(device, short):
    address = free_address()
    with server.serve(address) as running, suspended(running):
        with pytest.raises(DeviceError, match=rf"^{address} does not answer; it may be busy .*\(waited 0\.5 s\)$"):
            client.connect(*address)


def test_busy_server_without_tracker(device, short):
    session = client.connect(*device)
    with pytest.raises(DeviceError, match="does not answer; it may be busy with another session"):
        client.connect(*device)
    # the session before it is as it was
    assert client.describe(session) is not None


@pytest.mark.parametrize("host_name", [LOOPBACK, "nowhere.invalid"])
def test_nobody_listens(host_name):
    address = Address(host_name, free_address().port)
    with pytest.raises(DeviceError, match=f"cannot open a session with {address}: .*tvm_bnn.device serve"):
        client.connect(*address)
    with pytest.raises(DeviceError, match=f"no tracker can be reached at {address}: "):
        client.request(*address, "vm", SHORT_S)


def test_something_else_listens(device, tracker, monkeypatch):
    monkeypatch.setattr("tvm_bnn.rpc.tracker.ANSWER_S", SHORT_S)
    with pytest.raises(DeviceError, match=f"what listens at {device} is no tracker of TVM's.*--rpc {device}"):
        client.request(*device, "vm", SHORT_S)
    with pytest.raises(DeviceError, match=f"cannot open a session with {tracker}: "):
        client.connect(*tracker)


def test_port_that_is_taken(device):
    for start in (server.serve, server.track):
        with pytest.raises(DeviceError, match=rf"^cannot listen at {device}: .*; choose another --host or --port$"):
            start(device)


def test_tracker_without_its_library(monkeypatch):
    monkeypatch.setattr(server.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match=r"pip install 'tvm_bnn\[tune\]'"):
        server.track(free_address())
