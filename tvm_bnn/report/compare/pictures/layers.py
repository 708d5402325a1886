"""Where the time of a network of ours goes."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from tvm_bnn.report.compare import wording
from tvm_bnn.report.compare.content import LayerCall
from tvm_bnn.report.compare.pictures import style

#: Kernel calls that have a bar of their own.
TOP = 8


@style.styled
def layers(calls: Sequence[LayerCall], title: str) -> Figure:
    """All time as one bar of float, binary and other kernels; below the calls that take most, and the rest together.

    calls : at least one.
    """
    most = sorted(calls, key=lambda each: each.ms, reverse=True)[:TOP]
    rest = sum(each.ms for each in calls) - sum(each.ms for each in most)
    names = [style.name_of(each) for each in most]
    if len(calls) > len(most):
        names.append(wording.plural(len(calls) - len(most), "other kernel call"))
    made = style.blank(1.2 + 0.52 * len(names), title)
    top, below = made.subplots(2, 1, height_ratios=(1.1, len(names)))
    _total(top, calls)
    for number, call in enumerate(most):
        colour, hatch = style.KINDS[style.kind_of(call)]
        below.barh(number, call.ms, height=0.34, color=colour, hatch=hatch, edgecolor="white")
        below.text(call.ms, number, f" {wording.ms(call.ms)}", va="center", ha="left")
    if len(names) > len(most):
        below.barh(len(most), rest, height=0.34, color="white", edgecolor=style.BLACK)
        below.text(rest, len(most), f" {wording.ms(rest)}", va="center", ha="left")
    below.set_xlim(0, 1.3 * max([rest, *(each.ms for each in most)]))
    style.rows_with_labels(below, names)
    below.set_xlabel("ms, kernel alone")
    shown = [kind for kind in style.KINDS if any(style.kind_of(each) == kind for each in calls)]
    looks = [style.KINDS[kind] for kind in shown]
    patches = [Patch(facecolor=colour, hatch=hatch, edgecolor="white") for colour, hatch in looks]
    style.legend(made, patches, shown, columns=3)
    return made


def _total(axes: Axes, calls: Sequence[LayerCall]) -> None:
    start = 0.0
    total = sum(each.ms for each in calls)
    for kind, (colour, hatch) in style.KINDS.items():
        length = sum(each.ms for each in calls if style.kind_of(each) == kind)
        axes.barh(0, length, left=start, height=0.5, color=colour, hatch=hatch, edgecolor="white")
        if length > 0.12 * total:
            text = wording.share(length / total, 0)
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
            axes.text(start + length / 2, 0, text, va="center", ha="center", bbox=box)
        start += length
    axes.set_axis_off()
    axes.set_xlim(0, start or 1)
    axes.set_title(f"all kernels: {wording.ms(total)}", loc="left")
