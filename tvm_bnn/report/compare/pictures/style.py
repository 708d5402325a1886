"""What all pictures share: size, colours, marks, texts that fit.

A picture is as wide as a phone's column when it is shown at three quarters of its size, and its letters are at least 9
points high there. Colours are those of Okabe and Ito, which colour-blind readers tell apart; whatever has a colour has
a mark, a hatch or a place of its own as well, for prints in grey.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, ParamSpec

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from tvm_bnn.report.compare.content import LayerCall
from tvm_bnn.report.limit import WORD

WIDTH = 5.0
FONT = 12.0
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, RED, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
#: The order of what has no meaning of its own; without their yellow, which is hardly seen on white.
COLOURS = (RED, BLUE, GREEN, PURPLE, SKY, ORANGE, BLACK)
MARKERS = "*osD^vPX<>hp"
#: Kind of a kernel -> colour and hatch.
KINDS = {"binary": (RED, ""), "float": (SKY, "///"), "other": ("#BBBBBB", "")}
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": FONT,
    "axes.titlesize": FONT,
    "axes.labelsize": FONT,
    "xtick.labelsize": FONT,
    "ytick.labelsize": FONT,
    "legend.fontsize": FONT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "axes.axisbelow": True,
    "hatch.linewidth": 0.6,
    # names are no formulas
    "text.parse_math": False,
    "svg.hashsalt": "tvm_bnn",
}
Arguments = ParamSpec("Arguments")


def style() -> AbstractContextManager[None]:
    """Within which to draw and to save; matplotlib's own style stays as it is."""
    return matplotlib.rc_context(_STYLE)


def styled(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Draw in this style."""

    @functools.wraps(draw)
    def drawn(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
        with style():
            return draw(*args, **kwargs)

    return drawn


def blank(height: float, title: str, between: float = 0.02) -> Figure:
    """A figure with a title, `height` inches high without it; between its axes is this share of their height."""
    lines = wrapped(title)
    made = Figure(figsize=(WIDTH, height + 0.22 * len(lines)), layout=ConstrainedLayoutEngine(hspace=between))
    made.suptitle("\n".join(lines), fontsize=FONT, fontweight="bold", x=0.02, ha="left")
    return made


def wrapped(text: str, width: int = 44) -> list[str]:
    """Lines of so many letters at most; a word that is longer is shortened."""
    lines = [""]
    for word in text.split():
        word = shortened(word, width)
        joined = f"{lines[-1]} {word}".strip()
        if len(joined) > width:
            lines.append(word)
        else:
            lines[-1] = joined
    return lines


def shortened(text: str, width: int) -> str:
    """The text, without its middle where it is too long: both ends of a path tell."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places near the wanted ones, in the same order, at least `gap` from each other and within low and high.

    Where so many do not fit, they share the room evenly.
    """
    order = sorted(range(len(wanted)), key=lambda number: wanted[number])
    gap = min(gap, (high - low) / max(1, len(wanted) - 1))
    found = [0.0] * len(wanted)
    floor = low
    for number in order:
        found[number] = floor = max(wanted[number], floor)
        floor += gap
    ceiling = high
    for number in reversed(order):
        found[number] = ceiling = min(found[number], ceiling)
        ceiling -= gap
    return found


def legend(made: Figure, handles: Sequence[Any], labels: Sequence[str], columns: int = 2) -> None:
    """Below everything else; labels as long as a column allows."""
    if handles:
        texts = [shortened(label, 46 // columns) for label in labels]
        made.legend(
            handles, texts, loc="outside lower center", ncols=columns, frameon=False, handletextpad=0.3, columnspacing=1
        )


def plain_log(axis: Axis, *, label: Callable[[float], str] = "{:g}".format) -> None:
    """Numbers written out on a logarithmic axis with limits: at 1, 2 and 5, or at powers of 10 where it is long."""
    low, high = axis.get_view_interval()
    steps = (1.0,) if max(low, high) > 200 * min(low, high) else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=steps, numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: label(value)))
    axis.set_minor_formatter(NullFormatter())


def rows_with_labels(axes: Axes, labels: Sequence[str]) -> None:
    """Horizontal rows 0, 1, ... from the top, each with its label above it, so that long ones cost no width."""
    axes.set_ylim(len(labels) - 0.5, -0.75)
    axes.set_yticks([])
    axes.grid(False, axis="y")
    for number, label in enumerate(labels):
        axes.text(
            0.0, number - 0.2, shortened(label, 46), transform=axes.get_yaxis_transform(), va="bottom"
        )


def kind_of(call: LayerCall) -> str:
    """What a kernel does most: "binary" or "float" products, a machine word of bits being one; or "other"."""
    if not call.binary_macs and not call.float_macs:
        return "other"
    return "binary" if call.binary_macs / WORD > call.float_macs else "float"


def name_of(call: LayerCall) -> str:
    """The layers that a kernel computes, or its own name where none is known."""
    more = f" +{len(call.layers) - 1}" if len(call.layers) > 1 else ""
    return f"{call.layers[0]}{more}" if call.layers else call.kernel
