"""What can be tried for a kernel: its template, told other decisions."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir.schedule import ScheduleError

from tvm_bnn.schedules.apply import schedule_function
from tvm_bnn.schedules.decide import DecisionError, Drawn, Given, Noted, Tried
from tvm_bnn.targets import Target
from tvm_bnn.tuning.log import key_of

#: What TVM says where it declines a schedule.
_DECLINED = (ScheduleError, tvm.error.InternalError)


@dataclass(frozen=True)
class Candidate:
    """A kernel scheduled with some decisions; none: the template's own."""

    decisions: Mapping[str, Any]
    function: tirx.PrimFunc

    @property
    def key(self) -> str:
        """The decisions as text."""
        return key_of(self.decisions)


class Space:
    """The candidates of a kernel; each is given or drawn at most once.

    kernel : before it is scheduled. family : of its schedules. default : the candidate of the template's own decisions.
    """

    def __init__(self, kernel: tirx.PrimFunc, family: str, target: Target, generator: random.Random) -> None:
        self._kernel, self._family, self._target, self._generator = kernel, family, target, generator
        self._tried = Tried()
        self.default = Candidate({}, self._scheduled(noted := Noted()))
        self._tried.take(noted)

    @property
    def exhausted(self) -> bool:
        """Whether all was tried."""
        return self._tried.all

    def given(self, decisions: Mapping[str, Any]) -> Candidate | None:
        """The candidate of a record; None where the template offers it no more."""
        if not decisions:
            return self.default
        noted = Noted(Given(decisions))
        try:
            function = self._scheduled(noted)
        except (DecisionError, *_DECLINED):
            return None
        self._tried.take(noted)
        return Candidate(decisions, function)

    def draw(self, parents: Sequence[Mapping[str, Any]] = ()) -> Candidate | None:
        """A new candidate, near one of the parents if there are any; None where all was tried."""
        while not self.exhausted:
            drawn = Drawn(self._generator, self._tried, self._generator.choice(parents) if parents else None)
            try:
                function = self._scheduled(drawn)
            except _DECLINED:
                self._tried.take(drawn)  # at the last decision that it took: below it nothing can be had
                continue
            self._tried.take(drawn)
            return Candidate(drawn.taken, function)
        return None

    def give_back(self, candidate: Candidate) -> None:
        """Let a candidate that was drawn be drawn again."""
        self._tried.give_back(candidate.decisions)

    def _scheduled(self, decide: Noted) -> tirx.PrimFunc:
        return schedule_function(self._kernel, self._family, self._target, decide)
