"""Tuning logs: appended whole, shared, read whatever is in them, and every line accounted for."""

import dataclasses
import json
import subprocess
import sys

import pytest

from tvm_bnn.errors import OutputError
from tvm_bnn.tuning import log
from tvm_bnn.tuning.log import Record

TARGET = "x86-64-v4"


def record(workload="w", costs=(2.0, 1.0, 3.0), decisions=None, **other):
    values = {"target": TARGET, "threads": 2, "device": "a processor", **other}
    return Record(workload, "conv", "a layer", decisions or {}, list(costs), **values)


def test_records_are_read_as_they_were_written(tmp_path):
    written = [record(), record("v", decisions={"tile": [4, 2]}), record("v", costs=(), failure="wrong result")]
    for one in written:
        log.append(tmp_path / "new" / "folder" / log.FILE_NAME, one)
    found = log.read(tmp_path / "new" / "folder", TARGET, 2)
    assert found.records == written and found.skipped == [] and found.summary() == []
    assert [one.cost for one in found.records] == [2.0, 2.0, float("inf")]


def test_every_line_is_accounted_for(tmp_path):
    good, other = record().line(), record("v").line()
    older = dataclasses.replace(record(), software={"tvm_bnn": "0.0.1", "apache-tvm": "0.20"}).line()
    text = dataclasses.replace(record(), threads="two").line()
    lines = [
        good, "", other, good[:40] + "\n", older, record(target="cortex-a72").line(), good, record(threads=1).line(),
        json.dumps({**json.loads(good), "version": 0}) + "\n", "[1, 2]\n", '{"version": 1}\n', text, "\x00\xff\n",
    ]  # fmt: skip
    (tmp_path / "any.jsonl").write_text("".join(lines), encoding="latin-1")
    (tmp_path / "notes.txt").write_text("no log")
    found = log.read(tmp_path, TARGET, 2)
    assert found.records == [record(date=found.records[0].date), record("v", date=found.records[1].date)]
    kinds = [one.kind for one in found.skipped]
    assert kinds.count(log.DAMAGED) == 5 and kinds.count(log.FOREIGN) == 2
    assert kinds.count(log.OUTDATED) == 2 and kinds.count(log.REPEATED) == 1
    assert len(found.records) + len(found.skipped) == sum(bool(line.strip()) for line in lines)
    (outdated,) = (line for line in found.summary() if log.OUTDATED in line)
    assert "2 lines are of other software (the first is line 4: tvm_bnn 0.0.1, apache-tvm 0.20)" in outdated


def test_a_line_behind_a_broken_one_is_whole(tmp_path):
    path = tmp_path / log.FILE_NAME
    log.append(path, record())
    with path.open("a") as file:
        file.write(record("lost").line()[:50])  # a tuner was killed
    log.append(path, record("next"))
    found = log.read(tmp_path, TARGET, 2)
    assert [one.workload for one in found.records] == ["w", "next"]
    assert [one.kind for one in found.skipped] == [log.DAMAGED]


WRITER = """
import sys
from pathlib import Path
from tvm_bnn.tuning import log
path, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for number in range(count):
    decisions = {"padding": "x" * 3000}
    log.append(path, log.Record(f"{name}-{number}", "conv", "", decisions, [1.0], "x86-64-v4", 2, "a processor"))
"""


def test_tuners_share_a_log_and_may_be_killed(tmp_path):
    path = tmp_path / log.FILE_NAME
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [subprocess.Popen([*command, name, count]) for name, count in [("a", "60"), ("b", "1000000")]]
    writers[0].wait(60)
    writers[1].kill()
    writers[1].wait(60)
    log.append(path, record("last"))
    found = log.read(tmp_path, TARGET, 2)
    names = [one.workload for one in found.records]
    assert [name for name in names if name.startswith("a-")] == [f"a-{number}" for number in range(60)]
    others = [name for name in names if name.startswith("b-")]
    assert others == [f"b-{number}" for number in range(len(others))] and names[-1] == "last"
    assert len(found.skipped) <= 1


def test_decisions_are_chosen_where_they_gain():
    other = {"device": "another processor"}
    records = [
        record("faster", costs=[2.0]), record("faster", costs=[1.0], decisions={"a": 1}),
        record("faster", costs=[1.5], decisions={"a": 2}),
        record("slower", costs=[1.0]), record("slower", costs=[1.1], decisions={"a": 1}),
        record("no defaults", costs=[1.0], decisions={"a": 1}),
        record("failed", costs=[1.0]), record("failed", costs=[], decisions={"a": 1}, failure="wrong result"),
        record("on two", costs=[1.0]), record("on two", costs=[0.1], decisions={"a": 1}, **other),
        record("counted", costs=[9.0], unit=log.INSTRUCTIONS),
        record("counted", costs=[1.0], decisions={"a": 1}, unit=log.INSTRUCTIONS),
    ]  # fmt: skip
    found = log.choices(records)
    assert found == {"faster": log.Choice({"a": 1}, 2.0, "a processor")}


def test_a_log_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*give another folder"):
        log.append(tmp_path / "file" / log.FILE_NAME, record())


def test_no_folder_has_no_records(tmp_path):
    assert log.read(tmp_path / "none", TARGET, 2).records == []
