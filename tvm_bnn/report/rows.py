"""What a row of either suite says of the times that were taken in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from tvm_bnn.report.limit import Work
from tvm_bnn.report.machine import Limits
from tvm_bnn.report.timing import Timing, ratio

OURS = "tvm_bnn"
#: Ours on one thread, in the rows with several: for `scaling`.
OURS_ALONE = "tvm_bnn, 1 thread"


class Compared(TypedDict):
    """Times of one row, and the limit.

    limit_ms : the least time by the measured limits of this machine; ceiling_fraction is limit_ms / ours_ms.
    bound : which part of the limit is the larger one, "compute" or "bandwidth".
    peers : name -> median in ms, of the peers that took part.
    spread : the widest interquartile range over the median in this row; spreads : that of each competitor.
    ratios : name -> how many times ours is faster; None where a spread is too wide for a ratio.
    scaling : how many times ours is faster than on one thread, timed in the same rounds; None on one thread, and where
        a spread is too wide.
    repetitions : name -> how many runs the median is of; 1 of what takes very long.
    """

    threads: int
    ours_ms: float
    limit_ms: float
    ceiling_fraction: float
    bound: str
    peers: dict[str, float]
    spread: float
    spreads: dict[str, float]
    ratios: dict[str, float | None]
    scaling: float | None
    repetitions: dict[str, int]
    rounds: int


def compared(work: Work, limits: Limits, timings: Mapping[str, Timing]) -> Compared:
    """The comparison of OURS with everything else that was timed."""
    ours = timings[OURS]
    others = {name: timing for name, timing in timings.items() if name not in (OURS, OURS_ALONE)}
    limit = work.seconds(limits)
    return {
        "threads": limits.threads,
        "ours_ms": 1e3 * ours.median,
        "limit_ms": 1e3 * limit,
        "ceiling_fraction": limit / ours.median,
        "bound": work.bound(limits),
        "peers": {name: 1e3 * timing.median for name, timing in others.items()},
        "spread": max(timing.spread for timing in timings.values()),
        "spreads": {name: timing.spread for name, timing in timings.items()},
        "ratios": {name: ratio(timing, ours) for name, timing in others.items()},
        "scaling": ratio(timings[OURS_ALONE], ours) if OURS_ALONE in timings else None,
        "repetitions": {name: len(timing.samples) for name, timing in timings.items()},
        "rounds": len(ours.samples),
    }
