"""How a comparison is told: units, rounding, and the names that its texts, tables and pictures share."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from tvm_bnn.report.compare.content import Figure, Measurement, Report, Task
from tvm_bnn.report.rows import OURS
from tvm_bnn.report.timing import Timing

NONE = "-"
PYTORCH = "pytorch-eager"
#: How the names of executors end that compute in 8 bits.
INT8 = "-int8"


class Place(NamedTuple):
    """What took turns: measurements that may be compared with each other."""

    task: str
    machine: str
    threads: int
    group: str


def place_of(report: Report, measurement: Measurement) -> Place:
    """Where a measurement belongs."""
    task = report.networks[measurement.network].task
    return Place(task, measurement.machine, measurement.threads, measurement.group)


def places(report: Report) -> Iterator[tuple[Place, list[Measurement]]]:
    """Each place with its measurements (not those left out): tasks, machines and turns in the order of the report."""
    tasks, machines = list(report.tasks), list(report.machines)
    made = [each for each in report.measurements if each.left_out is None]

    groups = list(dict.fromkeys(each.group for each in made))

    def key(each: Measurement) -> tuple[int, int, int, int]:
        place = place_of(report, each)
        return tasks.index(place.task), machines.index(place.machine), place.threads, groups.index(place.group)

    for _, together in groupby(sorted(made, key=key), key):
        members = list(together)
        yield place_of(report, members[0]), members


def detailed(report: Report) -> list[Measurement]:
    """The measurements whose insides are shown: of each network and machine the fastest that has any."""
    found: dict[tuple[str, str], Measurement] = {}
    for each in report.measurements:
        if not each.layers and each.memory_plan is None:
            continue
        known = found.setdefault((each.network, each.machine), each)
        if each.latency and known.latency and each.latency.median_ms < known.latency.median_ms:
            found[each.network, each.machine] = each
    return list(found.values())


def is_ours(executor: str) -> bool:
    """Whether this compiler made what ran, in any of its variants."""
    return executor == OURS or executor.startswith(f"{OURS}-")


def timing_of(samples_ms: Sequence[float]) -> Timing:
    """The same as a timing, for the rules of `tvm_bnn.report.timing`."""
    return Timing(tuple(each / 1e3 for each in samples_ms))


def data_set(task: Task) -> str:
    """Its name, which says where it is synthetic."""
    return labelled(task.data_set, task.synthetic)


def trained_on(ablation: Mapping[str, Any]) -> str:
    """The name of an ablation's data, which says where they are synthetic."""
    return labelled(str(ablation.get("data_set", "unnamed data")), bool(ablation.get("synthetic")))


def labelled(name: str, synthetic: bool) -> str:
    """The name of data, which says where they are synthetic."""
    return name if not synthetic or "synthetic" in name else f"{name} (synthetic)"


def where(machine: str, threads: int) -> str:
    """A machine and its threads."""
    return f"{machine}, {plural(threads, 'thread')}"


def plural(count: int, noun: str) -> str:
    """`1 thread`, `2 threads`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def value(found: float | None, unit: str) -> str:
    """A measure of accuracy."""
    return number(found, 2, " %") if unit == "%" else number(found, 4)


def figure(found: Figure | None) -> str:
    """A measure of accuracy, with its unit."""
    return NONE if found is None else value(found.value, found.unit)


def points(difference: float | None, unit: str) -> str:
    """The size of a difference of two figures: `1.80 points`, or `0.0120`."""
    if difference is None:
        return NONE
    return f"{abs(difference):.2f} points" if unit == "%" else f"{abs(difference):.4f}"


def signed(difference: float | None, unit: str) -> str:
    """A difference of two figures."""
    size = points(difference, unit)
    return size if difference is None else f"{'-' if difference < 0 else '+'}{size}"


def ms(time: float | None) -> str:
    """A time; kernels take microseconds."""
    if time is None:
        return NONE
    if time >= 1000:
        return f"{time / 1e3:.2f} s"
    return f"{time:.1f} ms" if time >= 10 else f"{time:.2f} ms" if time >= 1 else f"{time:.3f} ms"


def times(ratio: float) -> str:
    """A ratio, with three digits or so."""
    return f"{ratio:.0f}x" if ratio >= 100 else f"{ratio:.1f}x" if ratio >= 10 else f"{ratio:.2f}x"


def share(part: float | None, digits: int = 1) -> str:
    """A part of one, in percent."""
    return NONE if part is None else f"{part:.{digits}%}".replace("%", " %")


def megabytes(size: float | None) -> str:
    """Bytes in MB (10**6)."""
    return NONE if size is None else number(size / 1e6, 2, " MB")


def count(found: float | None) -> str:
    """A large number: `1.23 G`."""
    if found is None:
        return NONE
    for power, letter in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(found) >= power:
            return f"{found / power:.2f}{letter}"
    return f"{found:g}"


def number(found: float | None, digits: int, unit: str = "") -> str:
    """With so many digits behind the point."""
    return NONE if found is None else f"{found:.{digits}f}{unit}"


def slug(*parts: object) -> str:
    """A name of a file, of letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(map(str, parts)).lower()).strip("-")
