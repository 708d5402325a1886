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
        log.append(log.path_of(tmp_path / "new", TARGET, 2), one)
    found = log.read(tmp_path / "new", TARGET, 2)
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
    (tmp_path / TARGET).mkdir()
    (tmp_path / TARGET / "2-threads-of-a-friend.jsonl").write_text("".join(lines), encoding="latin-1")
    (tmp_path / TARGET / "notes.txt").write_text("no log")
    (tmp_path / TARGET / "12-threads.jsonl").write_text(record(threads=12).line())
    found = log.read(tmp_path, TARGET, 2)
    assert found.records == [record(date=found.records[0].date), record("v", date=found.records[1].date)]
    kinds = [one.kind for one in found.skipped]
    assert kinds.count(log.DAMAGED) == 5 and kinds.count(log.FOREIGN) == 2
    assert kinds.count(log.OUTDATED) == 2 and kinds.count(log.REPEATED) == 1
    assert len(found.records) + len(found.skipped) == sum(bool(line.strip()) for line in lines)
    (outdated,) = (line for line in found.summary() if log.OUTDATED in line)
    assert "2 lines are of other software (the first is line 4: tvm_bnn 0.0.1, apache-tvm 0.20)" in outdated


def test_a_line_behind_a_broken_one_is_whole(tmp_path):
    path = log.path_of(tmp_path, TARGET, 2)
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
    path = log.path_of(tmp_path, TARGET, 2)
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


def test_decisions_are_chosen_where_they_gain_in_turns():
    def final(workload, costs, beside, decisions, **other):
        return record(workload, costs=costs, beside=beside, decisions=decisions, **other)

    two, one, half = [2.0] * 4, [1.0] * 4, [0.5] * 4
    records = [
        final("faster", one, two, {"a": 1}), final("faster", half, two, {"a": 2}), final("faster", one, one, {"a": 3}),
        final("slower", two, one, {"a": 1}),
        final("now and then", [1.0, 1.0, 3.0, 3.0], two, {"a": 1}),
        record("never in turns", costs=[1.0]), record("never in turns", costs=[0.1], decisions={"a": 1}),
        final("better on one", one, [1.5] * 4, {"a": 1}), final("better on one", one, two, {"a": 2}, device="another"),
        final("no longer", half, two, {"a": 1}), final("no longer", two, two, {"a": 1}),
        final("counted", one, two, {"a": 1}, unit=log.INSTRUCTIONS),
    ]  # fmt: skip
    found = {workload: (choice.decisions["a"], choice.gain) for workload, choice in log.choices(records).items()}
    assert found == {"faster": (2, 4.0), "better on one": (2, 2.0)}


def test_a_log_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*give another folder"):
        log.append(log.path_of(tmp_path / "file", TARGET, 2), record())


def test_no_folder_has_no_records(tmp_path):
    assert log.read(tmp_path / "none", TARGET, 2).records == []
