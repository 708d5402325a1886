"""Which intermediate results are in memory when."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tvm_bnn.report.compare import wording
from tvm_bnn.report.compare.content import Buffer, MemoryPlan
from tvm_bnn.report.compare.pictures import style


@style.styled
def memory(plan: MemoryPlan, title: str) -> Figure:
    """A rectangle a buffer, over the calls in which it is in use, as high as it has bytes; at least one buffer."""
    made = style.blank(3.6, title)
    axes = made.add_subplot()
    offsets = stacked(plan.buffers)
    for number, (buffer, offset) in enumerate(zip(plan.buffers, offsets, strict=True)):
        corner, width = (buffer.first - 0.5, offset / 1e6), buffer.last - buffer.first + 1
        colour = style.COLOURS[number % (len(style.COLOURS) - 1)]
        rectangle = Rectangle(corner, width, buffer.bytes / 1e6, facecolor=colour, edgecolor=style.BLACK, linewidth=0.7)
        rectangle.set_alpha(0.55)
        axes.add_patch(rectangle)
    top = max(offset + buffer.bytes for offset, buffer in zip(offsets, plan.buffers, strict=True))
    peak = axes.axhline(plan.peak_bytes / 1e6, color=style.BLACK, linewidth=1.5)
    planned = axes.axhline(plan.planned_bytes / 1e6, color=style.BLACK, linewidth=1.5, linestyle="--")
    axes.set_xlim(-0.5, max(len(plan.calls), 1 + max(each.last for each in plan.buffers)) - 0.5)
    axes.set_ylim(0, 1.08 * max(top, plan.peak_bytes, plan.planned_bytes) / 1e6)
    axes.set_xlabel("kernel call")
    axes.set_ylabel("MB")
    texts = {"at most in use": plan.peak_bytes, "planned": plan.planned_bytes}
    labels = [f"{name}: {wording.megabytes(size)}" for name, size in texts.items()]
    style.legend(made, [peak, planned], labels, columns=1)
    return made


def stacked(buffers: Sequence[Buffer]) -> list[int]:
    """The lowest places, the largest first, at which no two buffers meet that are in use in the same call.

    They are where buffers can be drawn; the plan itself may put them elsewhere.
    """
    found = [0] * len(buffers)
    placed: list[int] = []
    for number in sorted(range(len(buffers)), key=lambda each: -buffers[each].bytes):
        own = buffers[number]
        beside = [each for each in placed if buffers[each].first <= own.last and own.first <= buffers[each].last]
        offset = 0
        for other in sorted(beside, key=lambda each: found[each]):
            if offset + own.bytes <= found[other]:
                break
            offset = max(offset, found[other] + buffers[other].bytes)
        found[number] = offset
        placed.append(number)
    return found
