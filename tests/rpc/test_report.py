"""Networks measured on a device: a server of this machine, whose results are known, and an emulated board."""

import json

import pytest

from tests import emulator
from tests.report.small import SHORT, SMALL, quick_ceilings
from tvm_bnn.emulated import processor
from tvm_bnn.errors import InputError
from tvm_bnn.report import __main__ as command
from tvm_bnn.report import machine
from tvm_bnn.report.networks import Row, measure
from tvm_bnn.report.rows import OURS
from tvm_bnn.report.site import OnDevice
from tvm_bnn.rpc import client
from tvm_bnn.targets import host, resolve


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    quick_ceilings(monkeypatch)


@pytest.fixture(scope="module")
def rows(device):
    with client.connect(*device) as session:
        there = OnDevice(session)
        limits = {1: machine.measure(there.target(1), **SHORT, fastest=there._fastest)}
        return measure([SMALL], limits, there.peers, 3, None, site=there)


def test_row_is_that_of_the_device(rows):
    (row,) = rows
    assert set(row) == set(Row.__annotations__) and json.loads(json.dumps(row)) == row
    assert set(row["peers"]) == {"tvm_bnn-float", "tvm-stock"} and row["left_out"] == {}
    assert (row["target"], row["threads"], row["rounds"]) == (host().name, 1, 3)
    assert 0 < row["ours_ms"] < row["peers"]["tvm-stock"]
    assert row["memory_mb"] == {}


def test_results_there_are_those_of_pytorch(rows):
    (row,) = rows
    assert row["agreement"] == dict.fromkeys((OURS, "tvm_bnn-float", "tvm-stock"), 1.0)


def test_every_kernel_call_is_timed_there(rows):
    ((layers),) = (row["layers"] for row in rows)
    assert all(each["ms"] > 0 for each in layers)
    assert {"0", "1", "2"} <= {path for each in layers for path in each["layers"]}


def test_limits_are_measured_there(device):
    with client.connect(*device) as session:
        limits = OnDevice(session).limits(host(1))
    assert limits.threads == 1 and limits.binary > 0 and limits.fp32 > 0 and set(limits.copy) == {machine.MB}


def test_command_names_the_device_and_its_processor(device, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(command.networks, "ROWS", [SMALL])
    path = tmp_path / "report.json"
    code = command.main(["networks", "--rpc", str(device), "--threads", "1", "--rounds", "1", "--json", str(path)])
    said = capsys.readouterr()
    assert (code, said.err) == (0, "") and "tvm_bnn-float" in said.out
    content = json.loads(path.read_text())
    assert content["machine"]["device"] == str(device) and content["machine"]["target"] == host().name
    assert [row["name"] for row in content["rows"]] == [SMALL.name]


def test_emulated_board(monkeypatch):
    emulator.need()
    board = "llvm -mcpu=cortex-a72"
    with processor.listening("cortex-a72") as port:
        with client.connect("127.0.0.1", port) as session:
            with pytest.raises(InputError, match="does not say what it is; name it: --target"):
                OnDevice(session)
            there = OnDevice(session, lambda threads: resolve(board, threads))
            limits = {1: there.limits(there.target(1))}
            (row,) = measure([SMALL], limits, there.peers[:1], 1, None, site=there)
    assert (row["target"], row["layers"], row["agreement"][OURS]) == ("cortex-a72", [], 1.0)
