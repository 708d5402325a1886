"""The tuner: which kernel to try something of next, and what becomes of it.

    for each kernel: its defaults are measured, then what earlier runs found is learned from
    until the trials or the time are used up:
        of the kernel that has had the fewest trials for its share of the time:
        draw candidates, keep those that the model likes best; build; measure; record
    for each kernel: the best candidates take turns with the defaults, and what holds up there is recorded as a choice
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tvm.support.popen_pool import PopenPoolExecutor

from tvm_bnn.errors import TargetError
from tvm_bnn.interrupt import kept_here
from tvm_bnn.report.machine import Limits
from tvm_bnn.targets import Target, available_cpus
from tvm_bnn.tuning import log, worker
from tvm_bnn.tuning.devices import Outcome, Pool, told
from tvm_bnn.tuning.log import Record
from tvm_bnn.tuning.model import WARM_UP, CostModel
from tvm_bnn.tuning.space import Candidate, Space
from tvm_bnn.tuning.tasks import Task
from tvm_bnn.tuning.worker import CANDIDATE, DEFAULT, Job

#: Trials that are built together, then measured together.
BATCH = 8
#: Candidates drawn for each that the model keeps, and the share of a batch that is kept unasked.
_POOL, _BLIND = 3, 0.25
#: The best candidates, near which others are drawn, and those that take turns with the defaults at the end.
_PARENTS, _FINALISTS = 4, 2
#: Turns of a finalist, and timings of a trial. One whose first timing is so many times the best has no others.
_TURNS, _TIMINGS, _SLOW = 15, 3, 2.0
#: The share of the time that is kept for the finalists, and seconds in which a candidate must be built.
_FINAL_SHARE, _BUILD_S = 0.15, 120.0


class Display(Protocol):
    """What is shown while tuning."""

    def update(self, tuner: Tuner, busy: str) -> None:
        """Called whenever something has changed; busy : what is done now."""

    def say(self, line: str) -> None:
        """Something to be read later as well."""


@dataclass
class State:
    """A task and what is known of it; costs in seconds, by the candidate's key.

    chosen : the record of the finals that gained most, if any gained.
    """

    task: Task
    space: Space
    model: CostModel | None
    candidates: dict[str, Candidate] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    chosen: Record | None = None

    @property
    def default(self) -> float:
        """Cost of the defaults."""
        return self.costs.get(self.space.default.key, float("inf"))

    @property
    def best(self) -> float:
        """Cost of the best trial."""
        return min(self.costs.values(), default=float("inf"))

    @property
    def trials(self) -> int:
        """Candidates that were measured, or failed; the defaults are none."""
        return len(self.costs) - (self.space.default.key in self.costs)

    def learn(self, candidate: Candidate, cost: float) -> None:
        """A trial has ended."""
        self.candidates[candidate.key], self.costs[candidate.key] = candidate, cost

    def fastest(self, count: int) -> list[Candidate]:
        """The best candidates that are faster than the defaults."""
        better = [key for key, cost in self.costs.items() if cost < self.default]
        return [self.candidates[key] for key in sorted(better, key=lambda key: self.costs[key])[:count]]

    def propose(self, count: int, generator: random.Random) -> list[Candidate]:
        """New candidates: those of a pool that the model likes best, and a few whatever it thinks."""
        known = sorted((key for key in self.costs if self.candidates[key].decisions), key=lambda key: self.costs[key])
        if self.model is None or len(known) < WARM_UP:
            return self._drawn(count, ())
        near = self._drawn(count * _POOL // 2, [self.candidates[key].decisions for key in known[:_PARENTS]])
        pool = near + self._drawn(count * _POOL - len(near), ())
        order = list(np.argsort(-self.model.scores([each.function for each in pool]), kind="stable")) if pool else []
        blind = int(count * _BLIND)
        liked, others = order[: count - blind], order[count - blind :]
        kept = {*liked, *generator.sample(others, min(blind, len(others)))}
        for index in set(order) - kept:
            self.space.give_back(pool[index])
        return [pool[index] for index in order if index in kept]

    def _drawn(self, count: int, parents: Sequence[Mapping[str, Any]]) -> list[Candidate]:
        drawn = (self.space.draw(parents) for _ in range(count))
        return [candidate for candidate in drawn if candidate is not None]


@dataclass
class Tuner:
    """One run. `states` in the order of the time that their kernels take, `trials` of this run and of earlier ones.

    folder : for libraries. most : trials, with those in the log. deadline : of time.monotonic().
    device_of : a device's name -> what records call it. limits : of the devices, where they are known.
    """

    tasks: Sequence[Task]
    target: Target
    pool: Pool
    folder: Path
    log_folder: Path
    most: int
    deadline: float
    display: Display
    device_of: Callable[[str], str] = str
    limits: Limits | None = None
    states: list[State] = field(default_factory=list)
    trials: int = 0
    resumed: int = 0

    def __post_init__(self) -> None:
        self._generator = random.Random(0)
        self._builders = PopenPoolExecutor(available_cpus(), timeout=_BUILD_S)
        self.log_path = log.path_of(self.log_folder, self.target.name, self.target.threads, self.pool.unit)
        self._probes: dict[str, Job] = {}

    @property
    def choices(self) -> dict[str, Record]:
        """Workload -> the record that was chosen."""
        return {state.task.workload: state.chosen for state in self.states if state.chosen}

    def run(self) -> None:
        """Tune.

        Raises DeviceError where no device is left, OutputError where the log cannot be written, TargetError where this
        machine cannot compile for the target.
        """
        start = time.monotonic()
        read = log.read(self.log_folder, self.target.name, self.target.threads)
        for line in read.summary():
            self.display.say(line)
        self._start(read.records)
        reserve = min((self.deadline - start) * _FINAL_SHARE, 30.0 + 10.0 * len(self.states))
        while self.trials < self.most and time.monotonic() < self.deadline - reserve:
            state = self._next()
            if state is None:
                self.display.say("every candidate of every kernel was tried")
                break
            self._trials(state, state.propose(min(BATCH, self.most - self.trials), self._generator))
        for state in self.states:
            self._final(state)

    def _start(self, records: Iterable[Record]) -> None:
        """Spaces, defaults and earlier trials of all tasks."""
        earlier: dict[str, list[Record]] = {}
        for record in records:
            earlier.setdefault(record.workload, []).append(record)
        for task in self.tasks:
            self.display.update(self, f"spaces: {task.name}")
            space = Space(task.kernel, task.family, self.target, random.Random(task.workload))
            if space.exhausted:
                continue  # nothing to decide
            self.states.append(State(task, space, None))
        built = self._built([{CANDIDATE: state.space.default.function} for state in self.states], "defaults")
        for state, library in zip(self.states, built, strict=True):
            if not isinstance(library, Path):  # nvcc without a C++ compiler, say
                raise TargetError(f"the schedule's own decisions for {state.task.name}: {library}")
            job = Job(library, state.task.data, repeats=_TIMINGS)
            self._probes[state.task.workload] = job
            self.display.update(self, f"defaults: {state.task.name}")
            ((_, outcome),) = self.pool.measure([job], job)
            self._record(state, state.space.default, outcome)
            self._resume(state, earlier.get(state.task.workload, []))
        self.states.sort(key=lambda state: -state.default * state.task.uses)

    def _resume(self, state: State, records: Iterable[Record]) -> None:
        """Learn from trials of earlier runs."""
        for record in records:
            new = log.key_of(record.decisions) not in state.costs
            if new and record.decisions and not record.beside and record.unit == self.pool.unit:
                candidate = state.space.given(record.decisions)
                if candidate is not None:
                    state.learn(candidate, record.cost)
                    self.trials, self.resumed = self.trials + 1, self.resumed + 1
        self._train(state, [each for each in state.costs if state.candidates[each].decisions])

    def _next(self) -> State | None:
        """The kernel that has had the fewest trials for its share of the time."""
        left = [state for state in self.states if not state.space.exhausted and state.default < float("inf")]
        return max(left, key=lambda s: s.default * s.task.uses / (s.trials + BATCH), default=None)

    def _trials(self, state: State, candidates: Sequence[Candidate]) -> None:
        name = state.task.name
        libraries = self._built([{CANDIDATE: each.function} for each in candidates], f"building: {name}")
        jobs = {}
        for index, library in enumerate(libraries):
            if isinstance(library, Path):
                jobs[index] = Job(library, state.task.data, repeats=_TIMINGS, slow=state.best * _SLOW)
            else:
                self._record(state, candidates[index], Outcome((), library, ""))
        self.display.update(self, f"measuring: {name}")
        order = list(jobs)
        for place, outcome in self.pool.measure([jobs[i] for i in order], self._probes[state.task.workload]):
            self._record(state, candidates[order[place]], outcome)
            jobs[order[place]].library.unlink(missing_ok=True)
            self.display.update(self, f"measuring: {name}")
        self._train(state, [each.key for each in candidates])

    def _record(self, state: State, candidate: Candidate, outcome: Outcome) -> None:
        costs = list(outcome.costs[0]) if outcome.costs else []
        record = self._new(state, candidate, outcome, costs)
        log.append(self.log_path, record)
        state.learn(candidate, record.cost)
        if candidate.decisions:
            self.trials += 1
        if outcome.failure:
            self.display.say(f"{state.task.name}, {candidate.key}: {outcome.failure}")

    def _new(
        self, state: State, candidate: Candidate, outcome: Outcome, costs: list[float], beside: Sequence[float] = ()
    ) -> Record:
        return Record(
            workload=state.task.workload,
            family=state.task.family,
            layer=state.task.name,
            decisions=candidate.decisions,
            costs=costs,
            target=self.target.name,
            threads=self.target.threads,
            device=self.device_of(outcome.device),
            failure=outcome.failure,
            beside=list(beside),
            unit=outcome.unit,
        )

    def _train(self, state: State, keys: Sequence[str]) -> None:
        if keys:
            state.model = state.model or CostModel(state.task.kernel, self.target)
            state.model.update([state.candidates[key].function for key in keys], [state.costs[key] for key in keys])

    def _final(self, state: State) -> None:
        """The fastest candidates and the defaults take turns on one device."""
        finalists = state.fastest(_FINALISTS)
        functions = [{CANDIDATE: each.function, DEFAULT: state.space.default.function} for each in finalists]
        libraries = self._built(functions, f"finalists: {state.task.name}")
        for candidate, library in zip(finalists, libraries, strict=True):
            if not isinstance(library, Path):
                continue
            job = Job(library, state.task.data, (CANDIDATE, DEFAULT), _TURNS)
            ((_, outcome),) = self.pool.measure([job], self._probes[state.task.workload])
            if outcome.costs:
                costs, beside = map(list, outcome.costs)
                record = self._new(state, candidate, outcome, costs, beside)
                log.append(self.log_path, record)
                best = max([1.0, *([state.chosen.gain] if state.chosen else [])])
                state.chosen = record if record.gain > best else state.chosen
            self.display.update(self, f"finalists: {state.task.name}")

    def _built(self, modules: Sequence[dict], what: str) -> list[Path | str]:
        """The library of each, or why there is none."""
        self.display.update(self, what)
        paths = [self.folder / f"{time.monotonic_ns()}-{i}.so" for i in range(len(modules))]
        with kept_here():
            futures = [
                self._builders.submit(worker.build, functions, self.target, path)
                for functions, path in zip(modules, paths, strict=True)
            ]
        built: list[Path | str] = []
        for future, path in zip(futures, paths, strict=True):
            try:
                future.result()
                built.append(path)
            except Exception as error:
                built.append(f"it cannot be built: {told(error)}")
            self.display.update(self, what)
        return built
