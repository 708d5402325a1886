"""The measurements that have an accuracy and a latency, and those of them that nothing else beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from tvm_bnn.report.compare.content import Measurement, Task


class Point(NamedTuple):
    """A measurement by its median and its task's metric."""

    measurement: Measurement
    ms: float
    value: float


def points(task: Task, members: Sequence[Measurement]) -> list[Point]:
    """Those of a place (`wording.places`) that have both, in its order."""
    found = []
    for each in members:
        value = metric_of(task, each)
        if each.latency is not None and value is not None:
            found.append(Point(each, each.latency.median_ms, value))
    return found


def metric_of(task: Task, measurement: Measurement) -> float | None:
    """The figure that the task is known by, in its unit; None where it is undefined or was not measured."""
    found = measurement.accuracy and measurement.accuracy.figures.get(task.metric)
    return found.value if found else None


def front(found: Sequence[Point], better: Literal["higher", "lower"]) -> list[Point]:
    """The points to which no other is at least as fast and as good, and better in one of both; the fastest first."""
    sign = 1 if better == "higher" else -1

    def beats(one: Point, other: Point) -> bool:
        gain = sign * (one.value - other.value)
        return one.ms <= other.ms and gain >= 0 and (one.ms < other.ms or gain > 0)

    return sorted((each for each in found if not any(beats(other, each) for other in found)), key=lambda each: each.ms)
