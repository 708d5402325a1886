"""Training one factor at a time: figures of all seeds, and losses."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from tvm_bnn.report.compare.pictures import style

#: Places at which a loss is drawn; each is the mean of the steps around it.
PLACES = 40
_LINES = ("-", "--", ":")


def runs_with_figure(ablation: Mapping[str, Any]) -> dict[str, list[float]]:
    """Configuration -> the metric of each seed, in the order of the runs."""
    found: dict[str, list[float]] = {}
    for run in ablation.get("runs", ()):
        figure = run.get("figures", {}).get(ablation.get("metric"), {})
        if figure.get("value") is not None:
            found.setdefault(str(run.get("name")), []).append(figure["value"])
    return found


def losses_of(ablation: Mapping[str, Any]) -> dict[str, list[list[tuple[float, float]]]]:
    """Configuration -> (step, loss) of each run that wrote them down."""
    found: dict[str, list[list[tuple[float, float]]]] = {}
    for run in ablation.get("runs", ()):
        taken = [(step, loss) for step, loss in run.get("losses", ()) if loss is not None]
        if taken:
            found.setdefault(str(run.get("name")), []).append(taken)
    return found


@style.styled
def figures(ablation: Mapping[str, Any], title: str) -> Figure:
    """A row a configuration: a ring for each seed, a bar at their mean. At least one run has the figure."""
    found = runs_with_figure(ablation)
    centre = ablation.get("centre")
    made = style.blank(0.9 + 0.5 * len(found), title)
    axes = made.add_subplot()
    for number, (name, values) in enumerate(found.items()):
        colour = style.RED if name == centre else style.BLUE
        axes.plot(values, [number] * len(values), "o", color=colour, fillstyle="none", markersize=9)
        axes.plot(statistics.fmean(values), number, "|", color=style.BLACK, markersize=17, markeredgewidth=2.5)
    axes.margins(x=0.08)
    style.rows_with_labels(axes, [f"{name} (centre)" if name == centre else name for name in found])
    unit = " in %" if ablation.get("unit") else ""
    axes.set_xlabel(f"{ablation.get('metric')}{unit} ({ablation.get('better', 'higher')} is better)")
    return made


@style.styled
def losses(ablation: Mapping[str, Any], title: str) -> Figure:
    """The loss over the steps, the mean of a configuration's seeds. At least one run has losses."""
    found = losses_of(ablation)
    made = style.blank(3.4 + 0.22 * len(found), title)
    axes = made.add_subplot()
    handles = {}
    for number, (name, runs) in enumerate(found.items()):
        line, colour = _LINES[number // len(style.COLOURS) % len(_LINES)], style.COLOURS[number % len(style.COLOURS)]
        steps, means = _smoothed([pair for run in runs for pair in run])
        marker = style.MARKERS[number % len(style.MARKERS)]
        handles[name] = axes.plot(steps, means, line, color=colour, marker=marker, markevery=0.15)[0]
    if all(loss > 0 for runs in found.values() for run in runs for _, loss in run):
        axes.set_yscale("log")
        style.plain_log(axes.yaxis)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    style.legend(made, list(handles.values()), list(handles), columns=1)
    return made


def _smoothed(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Means over equal stretches of steps; those without a step are left out."""
    first, last = min(step for step, _ in pairs), max(step for step, _ in pairs)
    width = (last - first) / PLACES or 1.0
    stretches: dict[int, list[tuple[float, float]]] = {}
    for step, loss in pairs:
        stretches.setdefault(min(PLACES - 1, int((step - first) / width)), []).append((step, loss))
    means = [[statistics.fmean(each) for each in zip(*own, strict=True)] for _, own in sorted(stretches.items())]
    return [step for step, _ in means], [loss for _, loss in means]
