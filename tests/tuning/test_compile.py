"""Records in a log become the schedules of what is compiled, and only those that fit."""

import dataclasses

import pytest
import torch

import tvm_bnn
from tests.tuning import network
from tests.tuning.test_tuning import workloads
from tvm_bnn.errors import InputError
from tvm_bnn.targets import resolve
from tvm_bnn.tuning import log
from tvm_bnn.tuning.log import Record

TARGET = resolve("llvm -mcpu=x86-64-v3", threads=1)


def compiled(**options):
    """The small network as an artifact, with its row of explain."""
    artifact = tvm_bnn.compile(network.tiny(), target="llvm -mcpu=x86-64-v3", threads=1, **options)
    (row,) = artifact.explain()
    return artifact, row


def write(folder, **other):
    """A record of every kernel whose decisions are those of the template for a convolution."""
    values = {"decisions": {"tile": [4, 4], "rows": 2}, "costs": [1.0] * 5, "beside": [2.0] * 5, **other}
    for workload in workloads():
        record = Record(workload, "conv", "0", target=TARGET.name, threads=1, device="a board", **values)
        log.append(log.path_of(folder, TARGET.name, 1), record)


def test_records_are_used(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    untuned, before = compiled()
    write(tmp_path / "tuning_logs")
    tuned, after = compiled()
    assert not before["tuned"] and after["tuned"] and "4x4" in after["rule"] and before["rule"] != after["rule"]
    assert not compiled(untuned=True)[1]["tuned"] and compiled(log=tmp_path / "tuning_logs")[1]["tuned"]
    if TARGET.native:
        inputs = network.tiny().example_inputs()
        assert torch.equal(untuned(*inputs), tuned(*inputs))


@pytest.mark.parametrize(
    "other",
    [
        {"beside": [1.0] * 5},
        {"beside": [0.5] * 5},
        {"decisions": {"tile": [5, 5], "rows": 2}},
        {"decisions": {"tile": [4, 4]}},
    ],
    ids=["as fast", "slower", "not offered", "incomplete"],
)
def test_others_are_not(other, tmp_path):
    write(tmp_path, **other)
    assert not compiled(log=tmp_path)[1]["tuned"]


def test_lines_that_cannot_be_used_are_said(tmp_path):
    write(tmp_path)
    path = log.path_of(tmp_path, TARGET.name, 1)
    record = log.read(tmp_path, TARGET.name, 1).records[0]
    with path.open("a") as file:
        file.write(dataclasses.replace(record, threads=3).line() + "{\n")
    with pytest.warns(UserWarning) as said:
        assert compiled(log=tmp_path)[1]["tuned"]
    texts = [str(one.message) for one in said]
    assert any("1 line is of another target" in text for text in texts)
    assert any("1 line is damaged" in text for text in texts)


def test_a_log_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(InputError, match="there is no such folder"):
        compiled(log=tmp_path / "nowhere")
    with pytest.raises(InputError, match="leave out one of log and untuned"):
        compiled(log=tmp_path, untuned=True)
