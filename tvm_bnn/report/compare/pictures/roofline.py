"""What each kernel reaches of the machine's ceilings, by how much it computes for a byte."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from tvm_bnn.report.compare import wording
from tvm_bnn.report.compare.content import LayerCall, Limits
from tvm_bnn.report.compare.pictures import style

_ENGINEERING = EngFormatter(sep=" ")


def _short(value: float) -> str:
    return f"{value:g}" if value < 1e3 else _ENGINEERING(value)


def counted(calls: Sequence[LayerCall]) -> list[LayerCall]:
    """Those that multiply, and of which bytes and time are known."""
    return [each for each in calls if each.binary_macs + each.float_macs > 0 and each.bytes > 0 and each.ms > 0]


@style.styled
def roofline(calls: Sequence[LayerCall], limits: Limits, title: str) -> Figure:
    """Multiply-accumulates per byte and per second, logarithmic; the area of a point is its share of the time.

    Lines are the machine's ceilings; where they rise, its bandwidth for copies of so many MB.

    calls : as `counted` gives them, at least one.
    """
    made = style.blank(4.3, title)
    axes = made.add_subplot()
    axes.set_xscale("log")
    axes.set_yscale("log")
    macs = [each.binary_macs + each.float_macs for each in calls]
    density = [each / call.bytes for each, call in zip(macs, calls, strict=True)]
    rates = [1e3 * each / call.ms for each, call in zip(macs, calls, strict=True)]
    total = sum(each.ms for each in calls)
    handles: dict[str, Artist] = {}
    for kind, marker in (("binary", "o"), ("float", "s")):
        own = [number for number, call in enumerate(calls) if style.kind_of(call) == kind]
        if own:
            handles[f"{kind} kernel"] = axes.scatter(
                [density[number] for number in own],
                [rates[number] for number in own],
                [30 + 600 * calls[number].ms / total for number in own],
                marker=marker,
                color=style.KINDS[kind][0],
                edgecolor=style.BLACK,
                linewidth=0.6,
                alpha=0.75,
                zorder=4,
            )
    sizes = sorted(limits.copy_bytes_per_s, key=float)
    ceilings = {"binary": limits.binary_macs_per_s, "float": limits.fp32_macs_per_s}
    bandwidths = {f"{size} MB": limits.copy_bytes_per_s[size] for size in dict.fromkeys((sizes[0], sizes[-1]))}
    left = min(*density, *(limits.fp32_macs_per_s / each for each in bandwidths.values())) / 3
    right = max(*density, *(limits.binary_macs_per_s / each for each in bandwidths.values())) * 3
    along = np.geomspace(left, right, 200)
    for kind, ceiling in ceilings.items():
        for (size, bandwidth), line in zip(bandwidths.items(), ("-", "--"), strict=False):
            colour = style.RED if kind == "binary" else style.BLUE
            roof = axes.plot(along, np.minimum(ceiling, bandwidth * along), line, color=colour, linewidth=1.5)[0]
            handles[f"{kind} {wording.count(ceiling)}/s, {size}"] = roof
    axes.set_ylim(min(*rates, limits.fp32_macs_per_s) / 3, 3 * max(*rates, limits.binary_macs_per_s))
    axes.set_xlim(left, right)
    style.plain_log(axes.xaxis, label=_short)
    style.plain_log(axes.yaxis, label=_short)
    axes.set_xlabel("multiply-accumulates per byte")
    axes.set_ylabel("multiply-accumulates per second")
    style.legend(made, list(handles.values()), list(handles))
    return made
