"""Tuning records: one JSON line for each candidate that was measured, in files that only grow.

A line is appended by one write, so that tuners may share a file, and one that is killed loses at most the line that it
is writing; the next line then starts on a line of its own. Reading never fails: a line that is damaged, of another
target, of other software or known already is skipped, and the reader says how many there were of each kind.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tvm_bnn import artifact, tuning_logs
from tvm_bnn.errors import InputError, OutputError

#: Folder of records in the working directory.
FOLDER = "tuning_logs"
#: Of the line's keys. A key that changes its meaning raises it.
VERSION = 1
#: What a record's time is: seconds of a real device. Counts of an emulated one rank nothing but each other.
SECONDS, INSTRUCTIONS = "seconds", "instructions"

DAMAGED, FOREIGN, OUTDATED, REPEATED = "damaged", "of another target", "of other software", "repeated"


def software() -> dict[str, str]:
    """The versions that decide what a kernel is."""
    return {name: importlib.metadata.version(name) for name in ("tvm_bnn", "apache-tvm")}


@dataclass(frozen=True)
class Record:
    """One candidate that was measured.

    workload : hash of the kernel before it is scheduled. family : of its schedules. layer : for people.
    decisions : name -> value, what the template was told; empty: its defaults.
    costs : of each repetition, in `unit`; empty where the candidate failed. failure : why, "" of one that did not.
    beside : of the defaults, where they took turns with the candidate on the device; what is used is chosen by these.
    target : name of the target; threads : of it. device : what measured, for people and to compare like with like.
    """

    workload: str
    family: str
    layer: str
    decisions: Mapping[str, Any]
    costs: Sequence[float]
    target: str
    threads: int
    device: str
    failure: str = ""
    beside: Sequence[float] = field(default_factory=list)
    unit: str = SECONDS
    date: str = field(default_factory=artifact.now)
    software: Mapping[str, str] = field(default_factory=software)

    @property
    def cost(self) -> float:
        """The median of the repetitions; infinity where the candidate failed."""
        return statistics.median(self.costs) if self.costs else float("inf")

    @property
    def gain(self) -> float:
        """How many times faster than the defaults it was in three quarters of the turns; 0 where there were none."""
        ratios = [default / cost for default, cost in zip(self.beside, self.costs, strict=False)]
        return statistics.quantiles(ratios, method="inclusive")[0] if len(ratios) > 1 else 0.0

    def line(self) -> str:
        """The record as a line of a log."""
        return json.dumps({"version": VERSION, **asdict(self)}, separators=(",", ":")) + "\n"


@dataclass(frozen=True)
class Skipped:
    """A line that is no record to use."""

    path: Path
    number: int
    kind: str
    detail: str


@dataclass
class Log:
    """What was read: the records that hold for a target, and the lines that do not."""

    records: list[Record] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def summary(self) -> list[str]:
        """One line for each kind of skipped lines in each file."""
        kinds = Counter((one.path, one.kind) for one in self.skipped)
        first = {(one.path, one.kind): one for one in reversed(self.skipped)}
        return [
            f"{path}: {count} {'line is' if count == 1 else 'lines are'} {kind} (the first is line "
            f"{first[path, kind].number}{': ' if first[path, kind].detail else ''}{first[path, kind].detail})"
            for (path, kind), count in kinds.items()
        ]


def key_of(decisions: Mapping[str, Any]) -> str:
    """Decisions as text, the same for the same ones."""
    return json.dumps(decisions, sort_keys=True)


def path_of(folder: Path, target: str, threads: int, unit: str = SECONDS) -> Path:
    """The file that a tuner writes; others beside it whose names begin alike are read too."""
    apart = "" if unit == SECONDS else f"-{unit}"
    return folder / target / f"{threads}-threads{apart}.jsonl"


def append(path: Path, record: Record) -> None:
    """Add a record to a log, which is created where there is none; raises OutputError where that cannot be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            broken = size and os.pread(descriptor, 1, size - 1) != b"\n"
            os.write(descriptor, (("\n" if broken else "") + record.line()).encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; give another folder, or free some space"
        ) from error


def read(folder: Path, target: str, threads: int) -> Log:
    """The records of a folder of logs, in order, that were measured for a target with so many threads.

    Raises InputError where the folder cannot be read; a folder that does not exist has no records.
    """
    log, known = Log(), set()
    named = path_of(folder, target, threads)
    for path in sorted(named.parent.glob(f"{named.stem}*.jsonl")):
        for number, line in _lines(path):
            record, kind, detail = _parsed(line, target, threads)
            if record is not None and line in known:
                record, kind = None, REPEATED
            known.add(line)
            if record is None:
                log.skipped.append(Skipped(path, number, kind, detail))
            else:
                log.records.append(record)
    return log


def found(target: str, threads: int) -> Log:
    """The records that come with the package, and those of FOLDER."""
    folders = {Path(tuning_logs.__path__[0]).resolve(): None, Path(FOLDER).resolve(): None}
    whole = Log()
    for folder in folders:
        log = read(folder, target, threads)
        whole.records += log.records
        whole.skipped += log.skipped
    return whole


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(f"the tuning log {path} cannot be read: {error.strerror or error}") from error
    return ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def _parsed(line: bytes, target: str, threads: int) -> tuple[Record | None, str, str]:
    """The record of a line; or None, and the kind and details of what is wrong with it."""
    try:
        content = json.loads(line)
        version = content.pop("version")
        if version != VERSION:
            return None, OUTDATED, f"version {version} of the log, {VERSION} is read"
        record = Record(**content)
        whole = all(isinstance(getattr(record, name), kind) for name, kind in _TYPES.items())
        if not whole or not all(isinstance(cost, int | float) and cost > 0 for cost in (*record.costs, *record.beside)):
            return None, DAMAGED, "a value has another type"
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        return None, DAMAGED, str(error).strip("'")
    if (record.target, record.threads) != (target, threads):
        return None, FOREIGN, f"{record.target}, threads: {record.threads}"
    if record.software != software():
        return None, OUTDATED, ", ".join(f"{name} {version}" for name, version in record.software.items())
    return record, "", ""


_TYPES = {
    "workload": str, "family": str, "layer": str, "decisions": dict, "costs": list, "target": str, "threads": int,
    "device": str, "failure": str, "beside": list, "unit": str, "date": str, "software": dict,
}  # fmt: skip


def choices(records: Iterable[Record]) -> dict[str, Record]:
    """For each workload the record that gained most over the defaults beside it; none where the defaults are faster.

    The latest turns of the same decisions on the same device hold. Counts of an emulated device choose nothing.
    """
    latest: dict[tuple[str, str, str], Record] = {}
    for record in records:
        if record.unit == SECONDS and record.beside:
            latest[record.workload, key_of(record.decisions), record.device] = record
    best: dict[str, Record] = {}
    for record in latest.values():
        if record.gain > max(1.0, best[record.workload].gain if record.workload in best else 0.0):
            best[record.workload] = record
    return best
