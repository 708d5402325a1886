"""Energy by the processor's own counters (Linux's powercap: Intel RAPL and its like), where they can be read."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/class/powercap")
#: Seconds that are measured at least: counters move once a millisecond.
SECONDS = 1.0


@dataclass(frozen=True)
class Meter:
    """The packages' counters, in microjoules, and where each begins anew."""

    counters: tuple[tuple[Path, int], ...]

    def used(self, before: list[int]) -> float:
        """Joules since then; right for less than a whole round of a counter."""
        rounds = zip(self.read(), before, self.counters, strict=True)
        return sum((now - then) % (highest + 1) for now, then, (_, highest) in rounds) / 1e6

    def read(self) -> list[int]:
        """All counters now."""
        return [int(path.read_text(encoding="ascii")) for path, _ in self.counters]


def meter(root: Path = ROOT) -> Meter | None:
    """The counters of whole processors; None where there are none, or none that this user may read."""
    found = []
    for folder in sorted(root.glob("intel-rapl:*")):
        if folder.name.count(":") != 1:  # parts of a processor are in its own count
            continue
        try:
            highest = int((folder / "max_energy_range_uj").read_text(encoding="ascii"))
            int((folder / "energy_uj").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
        found.append((folder / "energy_uj", highest))
    return Meter(tuple(found)) if found else None


def millijoules(
    run: Callable[[], object], counters: Meter, clock: Callable[[], float] = time.perf_counter, least: float = SECONDS
) -> float:
    """Of one run, from as many as take `least` seconds; what the rest of the machine uses meanwhile is in it."""
    run()
    start, before, runs = clock(), counters.read(), 0
    while clock() - start < least:
        run()
        runs += 1
    return 1e3 * counters.used(before) / runs
