"""The command: servers as processes of their own, the list of a tracker, the check; and what is refused."""

import os
import re
import signal
import subprocess
import sys

import psutil
import pytest

from tests.rpc.conftest import free_address, suspended
from tvm_bnn import device as command
from tvm_bnn.rpc import board, client, exactness, server
from tvm_bnn.targets import host

SECONDS = 60
# what TVM logs, and what a server may say of the machine that runs these tests
ASIDES = r"\d{4}-\d\d-\d\d \S+ (INFO|WARNING) |warning: "


def said(capsys, *arguments):
    """Exit code, stdout and stderr of the command."""
    code = command.main([str(item) for item in arguments])
    output = capsys.readouterr()
    return code, output.out, output.err


class Running:
    """The command in a process of its own, in a group of its own."""

    def __init__(self, *arguments, **environment):
        line = [sys.executable, "-W", "error", "-m", "tvm_bnn.device", *(str(item) for item in arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(line, start_new_session=True, env={**os.environ, **environment}, **pipes)

    def listening(self):
        """What it has said when it listens."""
        lines = []
        for text in self.process.stdout:
            lines.append(text.strip())
            if text.startswith("listening"):
                break
        return lines

    def interrupt(self):
        """Ctrl-C; the exit code and stderr without ASIDES."""
        os.killpg(self.process.pid, signal.SIGINT)
        _, errors = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, [line for line in errors.splitlines() if not re.match(ASIDES, line)]


def test_serve_describes_the_board_and_ends_quietly():
    address = free_address()
    running = Running("serve", "--port", address.port)
    lines = running.listening()
    assert f'compile for it with: --target "{host().text()}"' in lines
    assert lines[-1] == f"listening at {address}; Ctrl-C ends it"
    children = psutil.Process(running.process.pid).children(recursive=True)
    session = client.connect(*address)
    described, here = client.describe(session), board.describe()
    assert described is not None and (described.target, described.flags) == (here.target, here.flags)
    assert children and running.interrupt() == (130, [])
    assert not any(child.is_running() for child in children)


def test_killed_servers_leave_no_open_port():
    both = [Running(what, "--port", free_address().port) for what in ("serve", "tracker")]
    assert all(running.listening() for running in both)
    workers = [child for running in both for child in psutil.Process(running.process.pid).children()]
    for running in both:
        running.process.kill()
        running.process.communicate(timeout=SECONDS)
    psutil.wait_procs(workers, timeout=SECONDS)
    assert len(workers) == 2 and not any(worker.is_running() for worker in workers)


def test_tvm_without_its_compiler_is_a_device():
    address = free_address()
    running = Running("serve", "--port", address.port, TVM_USE_RUNTIME_LIB="1")
    assert any("a runtime without LLVM" in line for line in running.listening())
    session = client.connect(*address)
    described = client.describe(session)
    assert described is not None and described.target is None
    case = exactness.CASES[0]
    (row,) = exactness.measure(session, [(case, case.library(host(1)))], seconds=0)
    assert (row.compared, row.wrong) == (1, 0)
    # a tuner fills the arguments of its kernels with it
    session.remote.get_function("tvm.contrib.random.random_fill_for_measure")
    del session
    running.interrupt()


def test_tracker_and_device_as_commands(capsys):
    tracker, device = free_address(), free_address()
    lender = Running("tracker", "--port", tracker.port)
    lender.listening()
    announced = Running("serve", "--port", device.port, "--tracker", tracker, "--key", "vm", "--advertise", "localhost")
    assert announced.listening()[-1] == f"listening at {device}, as vm of the tracker at {tracker}; Ctrl-C ends it"
    try:
        session = client.request(*tracker, "vm", SECONDS)
        assert session.device == f"vm@localhost:{device.port}"
        del session
    finally:
        assert announced.interrupt()[0] == 130
        assert lender.interrupt() == (130, [])
    assert said(capsys, "list", "--tracker", tracker)[0] == 2


def test_a_device_needs_little():
    """A board may have no PyTorch. (Where it is installed, TVM loads it by itself.)"""
    absent = ["torch", "torchmetrics", "PIL", "safetensors", "ziglang", "filelock", "jinja2", "tornado"]
    script = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({absent}))\n"
        "import tvm_bnn.device, tvm_bnn.rpc.server\n"
        "tvm_bnn.rpc.board.describe()\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_help_loads_neither_tvm_nor_numpy():
    script = "import sys, tvm_bnn.device; sys.exit(bool({'tvm', 'numpy', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("what", ["serve", "tracker"])
def test_every_network_is_refused(what, capsys):
    code, output, errors = said(capsys, what, "--host", "0.0.0.0")
    assert (code, output) == (2, "")
    assert re.fullmatch(r"error: the host '0\.0\.0\.0' is every network .* or add --expose-to-network\n", errors)


def test_help_says_what_exposing_means(capsys):
    with pytest.raises(SystemExit):
        command.main(["serve", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "anyone who can reach the port can run any code as this user" in text


def test_mistakes_are_one_line(device, capsys):
    nobody = free_address()
    cases = [
        (["serve", "--tracker", nobody], "found one of --tracker and --key"),
        (["serve", "--key", "vm"], "found one of --tracker and --key"),
        (["serve", "--tracker", nobody, "--key", "my board"], "found the key 'my board'; one word is needed"),
        (["serve", "--advertise", "here"], "found --advertise without --tracker"),
        (["serve", "--port", "70000"], "found --port 70000; from 1 to 65535"),
        (["serve", "--port", device.port], f"cannot listen at {device}: Address already in use"),
        (["tracker", "--port", device.port], f"cannot listen at {device}: Address already in use"),
        (["serve", "--host", "192.0.2.7"], "cannot listen at 192.0.2.7:9090: "),
        (["serve", "--tracker", nobody, "--key", "vm"], f"no tracker can be reached at {nobody}"),
        (["list"], "required: --tracker"),
        (["list", "--tracker", "nowhere"], "found the address 'nowhere'"),
        (["list", "--tracker", nobody], f"no tracker can be reached at {nobody}"),
        (["check"], "no device was named; --rpc HOST:PORT or --tracker"),
        (["check", "--rpc", nobody], f"cannot open a session with {nobody}"),
        (["check", "--rpc", device, "--target", "cortex-a27"], "unknown target kind 'cortex-a27'"),
        ([], "required: serve|tracker|list|check"),
    ]
    for arguments, message in cases:
        code, _, errors = said(capsys, *arguments)
        assert code == 2
        assert message in errors and errors.splitlines()[-1].startswith("error: "), errors


def test_check_of_an_exact_device(device, capsys):
    code, output, _ = said(capsys, "check", "--rpc", device, "--seconds", 1)
    assert code == 0
    assert f"compiled for {host().text()}" in output
    assert re.search(rf"^all \d+ results of {len(exactness.CASES)} kernels are exact", output, re.M)
    for case in exactness.CASES:
        assert re.search(rf"^{case.name} +\d+ +0( +\d+\.\d+){{3}} +\d+%", output, re.M)


def test_check_of_a_wrong_device(device, capsys, monkeypatch):
    monkeypatch.setattr(exactness, "same", lambda found, expected: False)
    code, output, _ = said(capsys, "check", "--rpc", device, "--seconds", 1)
    assert code == 1
    assert "WRONG: " in output


def test_check_warns_of_a_throttled_board(device, capsys, monkeypatch):
    readings = board.Readings("Raspberry Pi", 4, temperature=84.0, throttled=("throttled",), throttled_before=())
    ask = client.describe

    def throttled(session):
        return board.dataclasses.replace(ask(session), readings=readings)

    monkeypatch.setattr(client, "describe", throttled)
    code, output, errors = said(capsys, "check", "--rpc", device, "--seconds", 1)
    assert code == 0
    assert "before: clock: not told by this system; temperature: 84.0 °C; throttling: throttled" in output
    assert "warning: throttled now (throttled): a throttled board's times lie" in errors


def test_list_of_nothing(tracker, capsys):
    code, output, _ = said(capsys, "list", "--tracker", tracker)
    assert code == 0
    assert output.startswith(f"the tracker at {tracker} has no device")


def rows_of(output):
    return {line.split()[1]: line for line in output.splitlines()[1:]}


def test_list_tells_who_is_free_busy_and_hanging(tracker, capsys, monkeypatch):
    addresses = sorted(free_address() for _ in range(3))
    monkeypatch.setattr(client, "CONNECT_S", 2.0)
    keys = dict(zip(addresses, ("busy", "fine", "hangs"), strict=True))
    servers = [server.serve(address, tracker, key) for address, key in keys.items()]
    try:
        session = client.request(*tracker, "busy", SECONDS)
        with suspended(servers[2]):
            code, output, _ = said(capsys, "list", "--tracker", tracker)
        del session
        assert code == 1
        rows = rows_of(output)
        assert re.fullmatch(rf"busy +{addresses[0]} +busy +- +- *", rows[str(addresses[0])])
        assert re.fullmatch(rf"fine +{addresses[1]} +free +.*\({host().name}\).* +exact *", rows[str(addresses[1])])
        assert re.search(rf"hangs@{addresses[2]} does not answer; .*\(waited 2 s\)", rows[str(addresses[2])])
    finally:
        for running in servers:
            running.stop()


def test_list_names_a_device_that_computes_something_else_and_one_that_tells_nothing(tracker, capsys, monkeypatch):
    address = free_address()
    with server.serve(address, tracker, "vm"):
        client.request(*tracker, "vm", SECONDS).close()  # it is there
        with monkeypatch.context() as patch:
            patch.setattr(exactness, "same", lambda found, expected: False)
            wrong = said(capsys, "list", "--tracker", tracker)
        client.request(*tracker, "vm", SECONDS).close()  # it is there again
        monkeypatch.setattr(client, "describe", lambda session: None)
        silent = said(capsys, "list", "--tracker", tracker)
    assert (wrong[0], silent[0]) == (1, 0)
    assert f"WRONG: {exactness.CASES[0].name} differs from the reference" in rows_of(wrong[1])[str(address)]
    assert re.search(r" free +- +not tried: it does not tell", rows_of(silent[1])[str(address)])
