"""The tuner with devices that die, lie and come late, and killed itself."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from tvm import tirx
from tvm.rpc.tracker import Tracker

from tests.conftest import ROOT
from tests.tuning import network
from tvm_bnn.frontend.naming import name_by_node
from tvm_bnn.frontend.source import load_source
from tvm_bnn.lower import lower
from tvm_bnn.relay_passes.decisions import Decisions
from tvm_bnn.relay_passes.pipeline import optimize
from tvm_bnn.schedules.apply import schedule_function, workload_of
from tvm_bnn.targets import resolve
from tvm_bnn.tune import main
from tvm_bnn.tuning import log, worker
from tvm_bnn.tuning.model import CostModel
from tvm_bnn.tuning.space import Space
from tvm_bnn.tuning.tasks import tasks_of
from tvm_bnn.tuning.tuner import State

TARGET = resolve("llvm -mcpu=x86-64-v3", threads=1)
MODEL, KEY, TRIALS = "tests.tuning.network:tiny", "board", 16
PATIENCE_S = 100

pytestmark = pytest.mark.skipif(not TARGET.native, reason="this machine cannot run AVX2 code")


class Server:
    """A device with a tracker."""

    def __init__(self, tracker: int, library: Path | None = None) -> None:
        command = [sys.executable, str(Path(__file__).with_name("server.py")), str(tracker), KEY]
        self._process = subprocess.Popen(
            [*command, *([str(library)] if library else [])], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self._process.stdout
        self.name = f"{KEY}@127.0.0.1:{self._process.stdout.readline().strip()}"

    def kill(self) -> None:
        """As if the power was cut."""
        kill(self._process)


def kill(process: subprocess.Popen) -> None:
    """Kill a process and its children, at once."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def tracker():
    running = Tracker("127.0.0.1", 9501, 9600, silent=True)
    yield running.port
    running.terminate()


@pytest.fixture(scope="module")
def lie(tmp_path_factory):
    """A library in which the network's only kernel that is tuned leaves its output as it is."""
    folder = tmp_path_factory.mktemp("lie")
    tasks = tasks_of(load_source(network.tiny(), None), TARGET, folder)
    (task,) = (task for task in tasks if task.family == "conv")
    kernel = schedule_function(task.kernel, task.family, TARGET)
    nothing = tirx.PrimFunc(kernel.params, tirx.Evaluate(0)).with_attr("tirx.is_scheduled", True)
    worker.build({worker.CANDIDATE: nothing, worker.DEFAULT: nothing}, TARGET, folder / "lie.so")
    return folder / "lie.so"


def tune(folder, tracker):
    """Start tuning."""
    command = [sys.executable, "-m", "tvm_bnn.tune", MODEL, "--target", "llvm -mcpu=x86-64-v3", "--threads", "1"]
    command += ["--rpc-tracker", f"127.0.0.1:{tracker}", "--rpc-key", KEY, "--log", str(folder)]
    return start([*command, "--trials", str(TRIALS), "--time-budget", "300"])


def start(command):
    """Start a command in a process group of its own."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, **pipes, cwd=ROOT, start_new_session=True)


def wait_for_trials(folder, count, process):
    """Wait until so many trials are in the log; the records."""
    path = log.path_of(folder, TARGET.name, 1)
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and process.poll() is None:
        lines = path.read_bytes().splitlines() if path.exists() else []
        if sum(b'"decisions":{"' in line for line in lines) >= count:
            return
        time.sleep(0.05)
    kill(process)
    raise AssertionError(f"no {count} trials after {PATIENCE_S} s: {process.stdout.read()}")


def trials(records):
    """Decisions of what was tried; those in turns with the defaults are tried before."""
    return [json.dumps(record.decisions) for record in records if record.decisions and not record.beside]


def test_tuning_survives_what_happens_to_it(tracker, lie, tmp_path):
    with ExitStack() as stack:
        servers = [Server(tracker), Server(tracker), Server(tracker, lie)]
        for server in servers:
            stack.callback(server.kill)
        honest, doomed, liar = servers
        first = tune(tmp_path, tracker)
        stack.callback(kill, first)
        wait_for_trials(tmp_path, 2, first)
        doomed.kill()
        wait_for_trials(tmp_path, 6, first)
        kill(first)
        told = first.stdout.read()
        assert f"{liar.name} is used no more" in told and "differ from the kernel's definition" in told
        path = log.path_of(tmp_path, TARGET.name, 1)
        kept = path.read_bytes()
        before = log.read(tmp_path, TARGET.name, 1)
        assert len(trials(before.records)) >= 6 and len(before.skipped) <= 1

        second = tune(tmp_path, tracker)
        stack.callback(kill, second)
        output, _ = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 0, output
    assert f"{len(trials(before.records))} of them before" in output or len(trials(before.records)) == TRIALS
    assert path.read_bytes().startswith(kept), "what was measured stays"
    after = log.read(tmp_path, TARGET.name, 1)
    tried = trials(after.records)
    assert len(tried) == len(set(tried)) == TRIALS and len(after.skipped) <= 1
    assert {record.device for record in after.records} <= {honest.name, doomed.name}
    assert all(record.costs for record in after.records), "whatever the template offers can be built, and is right"
    finals = [record for record in after.records if record.beside]
    faster = min(record.cost for record in after.records if record.decisions) < min(
        record.cost for record in after.records if not record.decisions
    )
    assert finals or not faster


def test_a_batch_is_as_large_as_it_may_be(tmp_path):
    (task,) = (t for t in tasks_of(load_source(network.tiny(), None), TARGET, tmp_path) if t.family == "conv")
    space = Space(task.kernel, task.family, TARGET, random.Random(0))
    state = State(task, space, None)
    state.learn(space.default, 1.0)
    proposed = []
    for count in (8, 1, 3, 8, 2):
        batch = state.propose(count, random.Random(0))
        proposed += [candidate.key for candidate in batch]
        assert len(batch) == count
        state.model = state.model or CostModel(task.kernel, TARGET)
        state.model.update([candidate.function for candidate in batch], [1.0 + len(proposed)] * count)
        for candidate in batch:
            state.learn(candidate, 1.0 + len(proposed))
    assert len(proposed) == len(set(proposed)) == 22


def test_an_interruption_leaves_a_whole_log(tmp_path):
    command = [sys.executable, "-m", "tvm_bnn.tune", MODEL, "--target", "llvm -mcpu=x86-64-v3", "--threads", "1"]
    process = start([*command, "--log", str(tmp_path)])
    with ExitStack() as stack:
        stack.callback(kill, process)
        wait_for_trials(tmp_path, 1, process)
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130 and output.rstrip().endswith("interrupted") and "Traceback" not in output
    assert not log.read(tmp_path, TARGET.name, 1).skipped


def test_no_honest_device_ends_it(tracker, lie, tmp_path):
    with ExitStack() as stack:
        liar = Server(tracker, lie)
        stack.callback(liar.kill)
        process = tune(tmp_path, tracker)
        stack.callback(kill, process)
        output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2 and "error: no device is left" in output and "Traceback" not in output
    assert not log.path_of(tmp_path, TARGET.name, 1).exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rpc-tracker", "127.0.0.1:{free}", "--rpc-key", "board"], "no tracker can be reached at 127.0.0.1:{free}"),
        (["--rpc-tracker", "127.0.0.1:{tracker}", "--rpc-key", "toaster"], "no device 'toaster'"),
        (["--tracker", "127.0.0.1:1"], "found --tracker without --key"),
        (["--rpc-tracker", "here", "--rpc-key", "board"], "HOST:PORT is needed"),
        (["--local", "--rpc-tracker", "127.0.0.1:1", "--rpc-key", "board"], "found --local and a device"),
        (["--target", "llvm -mcpu=cortex-a72"], "cortex-a72 is not this machine; name a device"),
        (["--trials", "0"], "a whole number from 1 up"),
    ],
)
def test_bad_input_is_one_line(arguments, message, tracker, capsys, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        names = {"free": unused.getsockname()[1], "tracker": tracker}
        filled = [argument.format(**names) for argument in arguments]
        assert main([MODEL, "--log", str(tmp_path), *filled]) == 2
    error = capsys.readouterr().err
    assert message.format(**names) in error and error.count("\n") == 1


def test_a_kernel_is_called_alike_in_every_process():
    command = "from tests.tuning import network; from tests.tuning.test_tuning import workloads; print(workloads())"
    found = {
        subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert found == {f"{workloads()}\n"}


def workloads() -> list[str]:
    """Of the network's kernels."""
    source = load_source(network.tiny(), None)
    imported = name_by_node(source.imported(), source.single).module
    lowered = lower(optimize(imported, Decisions()), TARGET)
    return [workload_of(lowered.module[name]) for name in lowered.family_of]
