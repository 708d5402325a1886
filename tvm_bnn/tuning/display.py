"""What is seen of a tuner: a table that is alive on a terminal, a line now and then elsewhere; and its outcome."""

from __future__ import annotations

import time
from collections.abc import Iterable

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tvm_bnn.report.limit import Work
from tvm_bnn.report.machine import Limits
from tvm_bnn.tuning.log import SECONDS
from tvm_bnn.tuning.tuner import State, Tuner

#: Kernels that the table shows, and seconds between lines where there is no terminal.
_ROWS, _LINE_S = 16, 15.0


class Screen:
    """Shows a tuner on a console; to be used in a with statement."""

    def __init__(self, console: Console) -> None:
        self._console, self._start, self._told = console, time.monotonic(), 0.0
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> Screen:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def say(self, line: str) -> None:
        """A line that stays."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def update(self, tuner: Tuner, busy: str) -> None:
        """The table, or from time to time a line."""
        if self._live:
            shown = table(tuner.states[:_ROWS], tuner.limits, tuner.pool.unit)
            more = len(tuner.states) - _ROWS
            rest = [Text(f"and {more} more kernels")] if more > 0 else []
            devices = [Text(f"{each.name}: {each.retired or 'measures'}") for each in tuner.pool.devices]
            self._live.update(Group(shown, *rest, *devices, Text(self._line(tuner, busy))), refresh=True)
        elif time.monotonic() - self._told > _LINE_S:
            self._told = time.monotonic()
            self.say(self._line(tuner, busy))

    def _line(self, tuner: Tuner, busy: str) -> str:
        minutes = max(time.monotonic() - self._start, 1e-3) / 60
        left = max(tuner.deadline - time.monotonic(), 0)
        resumed = f", {tuner.resumed} of them before" if tuner.resumed else ""
        return (
            f"trials: {tuner.trials} of {tuner.most}{resumed}, "
            f"{(tuner.trials - tuner.resumed) / minutes:.0f} a minute; {left / 60:.0f} min left; "
            f"devices: {len(tuner.pool.working)}; {busy}"
        )


def table(states: Iterable[State], limits: Limits | None, unit: str = SECONDS) -> Table:
    """A row per kernel: times of a call in milliseconds, and the share of the arithmetic's ceiling.

    The gain is that in turns with the defaults, where there is one.
    unit : of the costs; instructions are shown in thousands.
    """
    short, scale = ("ms", 1e3) if unit == SECONDS else ("k instructions", 1e-3)
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("layer", "kernel"):
        shown.add_column(name, no_wrap=True)
    for name in ("calls", f"default {short}", f"best {short}", "of ceiling", "gain", "trials"):
        shown.add_column(name, justify="right", no_wrap=True)
    for state in states:
        least = _ceiling_s(state.task.work, limits) if limits else 0.0
        shown.add_row(
            state.task.name,
            state.task.family,
            str(state.task.uses),
            _shown(state.default * scale),
            _shown(state.best * scale),
            f"{least / state.best:.0%}" if least else "",
            f"{state.chosen.gain:.2f}x" if state.chosen else "",
            str(state.trials),
        )
    return shown


def _ceiling_s(work: Work, limits: Limits) -> float:
    """Seconds of the arithmetic alone; of bits on whichever unit is the faster."""
    return work.binary_macs / max(limits.binary, limits.tiles or 0.0) + work.float_macs / limits.fp32


def _shown(cost: float) -> str:
    return f"{cost:.3f}" if cost < float("inf") else ""
