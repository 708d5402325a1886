"""What a row of either suite on a GPU says of the times that were taken in it, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tvm_bnn.report.gpu.ceilings import Ceilings
from tvm_bnn.report.limit import Work
from tvm_bnn.report.rows import OURS
from tvm_bnn.report.rows import compared as compared_here
from tvm_bnn.report.timing import MAX_SPREAD, MOST_CALLS, TURN, Seconds, Timing

#: A row, see `compared`.
Row = dict[str, Any]
#: What a GPU has no number of.
_OF_PROCESSORS = ("threads", "scaling")


def compared(work: Work, ceilings: Ceilings, timings: Mapping[str, Timing]) -> Row:
    """The comparison of OURS with everything else that was timed: `report.rows.Compared`, but for threads, and

    b1_fraction : share of the best measured ceiling of binary multiply-accumulates that ours reaches, float layers and
        everything else included; None where ours, or that ceiling, spreads too far.
    ours_spread : of our own times alone.
    """
    ours, (_, best) = timings[OURS], ceilings.best_bits
    row = compared_here(work, ceilings.limits, timings)
    steady = max(ours.spread, best.spread) <= MAX_SPREAD
    return {
        **{key: value for key, value in row.items() if key not in _OF_PROCESSORS},
        "b1_fraction": work.binary_macs / best.per_s / ours.median if steady else None,
        "ours_spread": ours.spread,
    }


def turn(seconds: Callable[[int], float], length: float = TURN) -> Callable[[], Seconds]:
    """A turn: as many runs in a row as fit into `length` seconds, of which it returns the seconds of one.

    seconds : number of runs -> seconds of one of them; called at once, to see how long it takes.
    """
    seconds(1)
    count = max(1, min(MOST_CALLS, int(length / max(seconds(1), 1e-9))))
    return lambda: Seconds(seconds(count))
