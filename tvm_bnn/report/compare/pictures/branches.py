"""What parallel branches cost."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tvm_bnn.report.compare.content import BranchSweep
from tvm_bnn.report.compare.pictures import style
from tvm_bnn.report.compare.wording import timing_of


@style.styled
def branches(sweep: BranchSweep, title: str) -> Figure:
    """Above medians with the middle half of the samples, and K times K=1; below the bytes moved. At least one count."""
    counts = sorted(sweep.counts, key=lambda each: each.branches)
    numbers = [each.branches for each in counts]
    made = style.blank(5.2, title)
    times, moved = made.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    handles = {}
    medians = [each.latency.median_ms for each in counts]
    quartiles = [timing_of(each.latency.samples_ms).quartiles for each in counts]
    errors = [
        [median - 1e3 * low for median, (low, _) in zip(medians, quartiles, strict=True)],
        [1e3 * high - median for median, (_, high) in zip(medians, quartiles, strict=True)],
    ]
    handles["K branches"] = times.errorbar(numbers, medians, errors, marker="o", color=style.RED, capsize=4)
    single = next((each.latency.median_ms for each in counts if each.branches == 1), None)
    if single is not None:
        many = [each * single for each in numbers]
        handles["K times K=1"] = times.plot(numbers, many, "s--", color=style.BLUE, fillstyle="none")[0]
    limits = [each.limit_ms for each in counts]
    handles["limit of the machine"] = times.plot(numbers, limits, "^:", color=style.GREEN)[0]
    times.set_ylabel("ms")
    times.set_ylim(bottom=0)
    moved.bar(numbers, [each.moved_bytes / 1e6 for each in counts], color=style.SKY, edgecolor=style.BLACK, width=0.5)
    moved.set_ylabel("MB moved")
    moved.set_xlabel("branches K")
    moved.xaxis.set_major_locator(MaxNLocator(integer=True))
    style.legend(made, list(handles.values()), list(handles))
    return made
