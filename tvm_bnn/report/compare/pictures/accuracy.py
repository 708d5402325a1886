"""Accuracy against latency: which network, on what, is worth deploying."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tvm_bnn.report.compare.content import Task
from tvm_bnn.report.compare.pareto import Point, front
from tvm_bnn.report.compare.pictures import style
from tvm_bnn.report.compare.wording import timing_of

FRONT = "Pareto front"
#: Executor -> colour and marker, the same in all pictures of a report.
Marks = Mapping[str, tuple[str, str]]


def marks_of(executors: Sequence[str]) -> Marks:
    """Colour and marker of each, in this order."""
    return {
        name: (style.COLOURS[number % len(style.COLOURS)], style.MARKERS[number % len(style.MARKERS)])
        for number, name in enumerate(dict.fromkeys(executors))
    }


@style.styled
def accuracy(task: Task, points: Sequence[Point], marks: Marks, title: str) -> Figure:
    """Medians with the middle half of the samples; a grey line is a network, named at its end; dashed: Pareto front.

    points : of one place, at least one.
    """
    made = style.blank(3.6 + 0.13 * len({each.measurement.executor for each in points}), title)
    axes = made.add_subplot()
    axes.set_xscale("log")
    handles = {}
    for point in points:
        latency = point.measurement.latency
        assert latency is not None, "a point has a time"
        low, high = (1e3 * each for each in timing_of(latency.samples_ms).quartiles)
        colour, marker = marks[point.measurement.executor]
        axes.plot([low, high], [point.value] * 2, color=colour, linewidth=2, zorder=3)
        size = 13 if marker == "*" else 8
        handles[point.measurement.executor] = axes.plot(
            point.ms, point.value, marker, color=colour, markersize=size, markeredgecolor="white", zorder=4
        )[0]
    best = front(points, task.better)
    handles[FRONT] = axes.step(
        [each.ms for each in best], [each.value for each in best], "--", where="post", color=style.BLACK, linewidth=1.2
    )[0]
    axes.margins(0.08, 0.12)
    if task.better == "lower":
        axes.invert_yaxis()
    _networks(axes, points)
    style.plain_log(axes.xaxis)
    axes.set_xlabel("latency in ms, median (faster to the left)")
    unit = " in %" if task.unit else ""
    axes.set_ylabel(f"{task.metric}{unit} (better is up)")
    shown = [name for name in (*marks, FRONT) if name in handles]
    style.legend(made, [handles[name] for name in shown], shown)
    return made


def _networks(axes: Axes, points: Sequence[Point]) -> None:
    """A line through the points of each network, slowest last, and its name beside the axes."""
    by_network: dict[str, list[Point]] = {}
    for point in sorted(points, key=lambda each: each.ms):
        by_network.setdefault(point.measurement.network, []).append(point)
    bottom, top = axes.get_ylim()
    ends = [(each[-1].value - bottom) / (top - bottom) for each in by_network.values()]
    places = style.apart(ends, 0.075, 0.02, 0.98)
    for (network, own), end, place in zip(by_network.items(), ends, places, strict=True):
        axes.plot([each.ms for each in own], [each.value for each in own], color="#AAAAAA", linewidth=1, zorder=1)
        beside = axes.get_yaxis_transform()
        heights = [bottom + each * (top - bottom) for each in (end, place)]
        axes.annotate(
            style.shortened(network, 16),
            xy=(own[-1].ms, own[-1].value),
            xytext=(1.03, heights[1]),
            textcoords=beside,
            va="center",
            arrowprops={"arrowstyle": "-", "color": "#AAAAAA", "linewidth": 1, "shrinkA": 1, "shrinkB": 4},
            annotation_clip=False,
        )
