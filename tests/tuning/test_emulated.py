"""Tuning for an Arm board on emulated ones: they count instructions, and one more that is no Arm board at all."""

import threading
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests import emulator
from tests.rpc.conftest import free_address
from tests.tuning import network
from tvm_bnn.compile import main as compile_main
from tvm_bnn.emulated import processor
from tvm_bnn.rpc import server
from tvm_bnn.rpc.tracker import Tracker
from tvm_bnn.tune import main
from tvm_bnn.tuning import log

MODEL, BOARD, KEY, TRIALS = f"{network.__name__}:tiny", "llvm -mcpu=cortex-a72", "pi4", 8


@pytest.fixture(scope="module")
def tracker():
    """Where two emulated boards and this machine are, under one key; and the boards' servers."""
    emulator.need()
    address = free_address()
    with ExitStack() as stack:
        stack.enter_context(server.track(address))
        emulated = processor.started_by("cortex-a72", 1, Path("counts"))
        boards = [
            stack.enter_context(server.serve(free_address(), address, KEY, session=session))
            for session in (emulated, emulated, None)
        ]
        with Tracker(address) as asked:
            while asked.free().get(KEY, 0) < 3:
                time.sleep(0.1)
        yield address, boards[:2]


def sessions(boards):
    """The emulated processors of these servers that are in use; other tests may have others."""
    return [child for board in boards for child in psutil.Process(board.pid).children()]


def test_boards_count_instructions_and_one_is_lost(tracker, tmp_path, capsys):
    address, boards = tracker

    def lose_one():
        while len(list(log.read(tmp_path, "cortex-a72", 1).records)) < 4:
            time.sleep(0.2)
        sessions(boards)[0].kill()

    saboteur = threading.Thread(target=lose_one, daemon=True)
    saboteur.start()
    arguments = ["--target", BOARD, "--threads", "1", "--tracker", str(address), "--key", KEY, "--log", str(tmp_path)]
    assert main([MODEL, *arguments, "--trials", str(TRIALS), "--time-budget", "300"]) == 0
    saboteur.join(1)
    assert not saboteur.is_alive()
    said = capsys.readouterr().out
    assert said.count("is used no more") >= 1 and "compile uses those of times alone" in said
    read = log.read(tmp_path, "cortex-a72", 1)
    assert not read.skipped and {record.unit for record in read.records} == {log.INSTRUCTIONS}
    assert sum(bool(record.decisions) and not record.beside for record in read.records) == TRIALS
    # counted, so each repetition is the same, and each device tells the same of the same code
    assert all(len(set(record.costs)) == 1 for record in read.records if record.costs)
    assert not log.choices(read.records)


def test_compile_takes_no_decision_from_counts(tracker, tmp_path, capsys):
    path = tmp_path / "tiny.bnn"
    assert compile_main([MODEL, "--target", BOARD, "--log", str(tmp_path), "-o", str(path)]) == 0
    assert "tuned" not in capsys.readouterr().out
