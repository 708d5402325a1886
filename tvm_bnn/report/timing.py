"""Fair timing of competitors: interleaved rounds, medians, and no ratio from figures that wander too much.

Machines drift (frequency, neighbours), so that A timed before B is no comparison. In every round each competitor
runs once, A B C A B C ...; drift then meets all of them alike. Between two competitors there is a pause, in which the
worker threads of the last one, which wait for more work in a busy loop, go to sleep.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

#: The widest spread of which a ratio is printed. The median of n samples is uncertain by about spread / sqrt(n):
#: of 11 samples at this spread, by 6 %.
MAX_SPREAD = 0.2
#: Rounds before the first one that counts.
WARM_UP = 2
#: Seconds. The threads of OpenMP, ONNX Runtime and TVM spin for 0.1 to 8 ms after their last piece of work.
PAUSE = 0.02
#: Seconds that a turn of `repeated` calls takes, and the most calls in one.
TURN = 0.01
MOST_CALLS = 50


class Seconds(float):
    """What a competitor returns that has timed itself: only a part of its call counts."""


@dataclass(frozen=True)
class Timing:
    """Seconds per run of one competitor, in the order of the rounds; at least one."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.samples)

    @property
    def spread(self) -> float:
        """Interquartile range over the median; 0 of a single sample."""
        if len(self.samples) < 2:
            return 0.0
        first, _, third = statistics.quantiles(self.samples, n=4, method="inclusive")
        return (third - first) / self.median


def interleave(
    competitors: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warm_up: int = WARM_UP,
    pause: float = PAUSE,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], object] = time.sleep,
) -> dict[str, Timing]:
    """Run every competitor once a round, in the given order, and time the rounds after the warm-up.

    competitors : name -> one run; the `Seconds` that a run returns count instead of the time of the call.
    rounds : at least 1; ValueError otherwise.
    clock, sleep : what `time.perf_counter` and `time.sleep` do.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}; at least 1 is needed")
    samples: dict[str, list[float]] = {name: [] for name in competitors}
    for number in range(warm_up + rounds):
        for name, run in competitors.items():
            sleep(pause)
            start = clock()
            result = run()
            seconds = result if isinstance(result, Seconds) else clock() - start
            if number >= warm_up:
                samples[name].append(seconds)
    return {name: Timing(tuple(taken)) for name, taken in samples.items()}


def repeated(
    run: Callable[[], object], turn: float = TURN, clock: Callable[[], float] = time.perf_counter
) -> Callable[[], Seconds]:
    """A run that makes as many calls as fit into a turn, one more to warm up, and returns the median of their seconds.

    After a pause the first call of a kernel of 0.1 ms finds cold caches and a clock that has gone down. `run` is called
    twice at once, to see how long it takes.
    """

    def timed() -> Seconds:
        start = clock()
        result = run()
        return result if isinstance(result, Seconds) else Seconds(clock() - start)

    run()
    start = clock()
    run()
    count = max(1, min(MOST_CALLS, int(turn / max(clock() - start, 1e-9))))

    def calls() -> Seconds:
        run()
        return Seconds(statistics.median(timed() for _ in range(count)))

    return calls


def ratio(slow: Timing, fast: Timing, limit: float = MAX_SPREAD) -> float | None:
    """How many times `fast` is faster, from the medians; None where either spread is above `limit`."""
    return None if max(slow.spread, fast.spread) > limit else slow.median / fast.median


def ratio_text(slow: Timing, fast: Timing, limit: float = MAX_SPREAD) -> str:
    """The ratio for a table, or why there is none."""
    value = ratio(slow, fast, limit)
    if value is None:
        return f"no ratio (spread {max(slow.spread, fast.spread):.0%})"
    return f"{value:.2f}x"
