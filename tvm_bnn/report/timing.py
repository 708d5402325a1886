"""Fair timing of competitors: interleaved rounds, medians, and no ratio from figures that wander too much.

Machines drift (frequency, neighbours), so that A timed before B is no comparison. In every round each competitor
has one turn, A B C A B C ...; drift then meets all of them alike. A turn begins when the process has come to rest: the
worker threads of the last competitor wait for more work in a busy loop, for up to 0.1 s, and would take the cores from
the next one. It begins with a run that does not count, since by now the competitor's own workers sleep and its data has
left the caches.
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
#: Seconds of a look at the process, the share of it in CPU time below which the process is at rest, and the most looks.
LOOK = 0.01
AT_REST = 0.1
MOST_LOOKS = 100
#: Seconds from which on a competitor runs once and never again.
LONG = 5.0
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
    def quartiles(self) -> tuple[float, float]:
        """The first and the third, in seconds; a single sample is both."""
        if len(self.samples) < 2:
            return self.median, self.median
        first, _, third = statistics.quantiles(self.samples, n=4, method="inclusive")
        return first, third

    @property
    def spread(self) -> float:
        """Interquartile range over the median; 0 of a single sample."""
        first, third = self.quartiles
        return (third - first) / self.median


def settle(
    cpu_time: Callable[[], float] = time.process_time,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Wait until the threads of this process have stopped working; a second at most.

    cpu_time, clock, sleep : what the functions of `time` do.
    """
    for _ in range(MOST_LOOKS):
        used, start = cpu_time(), clock()
        sleep(LOOK)
        if cpu_time() - used < AT_REST * (clock() - start):
            return


def interleave(
    competitors: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warm_up: int = WARM_UP,
    settle: Callable[[], object] = settle,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Give every competitor a turn a round, in the given order: two runs, of which the second is timed.

    One whose first run takes longer than LONG has only that one.

    competitors : name -> one run; the `Seconds` that a run returns count instead of the time of the call.
    rounds : that count, after those to warm up; at least 1, ValueError otherwise.
    settle : called before each turn.
    clock : what `time.perf_counter` does.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}; at least 1 is needed")
    samples: dict[str, list[float]] = {name: [] for name in competitors}
    long: set[str] = set()
    for number in range(warm_up + rounds):
        for name, run in competitors.items():
            if name in long:
                continue
            settle()
            first = timed(run, clock)
            if number == 0 and first > LONG:
                long.add(name)
                samples[name].append(first)
                continue
            seconds = timed(run, clock)
            if number >= warm_up:
                samples[name].append(seconds)
    return {name: Timing(tuple(taken)) for name, taken in samples.items()}


def timed(run: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> Seconds:
    """The seconds of one run, or those that it returns itself."""
    start = clock()
    result = run()
    return result if isinstance(result, Seconds) else Seconds(clock() - start)


def repeated(
    run: Callable[[], object], turn: float = TURN, clock: Callable[[], float] = time.perf_counter
) -> Callable[[], Seconds]:
    """A run that makes as many calls as fit into `turn` seconds, and returns the median of their seconds.

    `run` is called twice at once, to see how long it takes.
    """
    run()
    count = max(1, min(MOST_CALLS, int(turn / max(timed(run, clock), 1e-9))))
    return lambda: Seconds(statistics.median(timed(run, clock) for _ in range(count)))


def ratio(slow: Timing, fast: Timing, limit: float = MAX_SPREAD) -> float | None:
    """How many times `fast` is faster, from the medians; None where either spread is above `limit`."""
    return None if max(slow.spread, fast.spread) > limit else slow.median / fast.median


def ratio_text(slow: Timing, fast: Timing, limit: float = MAX_SPREAD) -> str:
    """The ratio for a table, or why there is none."""
    value = ratio(slow, fast, limit)
    if value is None:
        return f"no ratio (spread {max(slow.spread, fast.spread):.0%})"
    return f"{value:.2f}x"
