"""What the numbers of a comparison say, in sentences.

Rules, which the page states too:

- Times are compared within a place only: what took turns on one machine with so many threads.
- Two times are told apart where the middle halves of their samples (from the first to the third quartile) do not
  overlap. A ratio is that of the medians; where one of them spreads by more than `MAX_SPREAD` it is that of the near
  ends of these halves, and the sentence says "at least".
- Figures of accuracy closer than `SAME` are as good as each other.
- What was counted on an emulated processor is told as instructions, never as a time.
- A figure on drawn images stands beside the name of their data set, which says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from tvm_bnn.report.compare import wording
from tvm_bnn.report.compare.content import BranchSweep, Latency, Measurement, Report, Task, Verdict
from tvm_bnn.report.compare.pareto import front, metric_of, points
from tvm_bnn.report.compare.wording import INT8, PYTORCH, Place
from tvm_bnn.report.timing import ratio

#: The difference of two figures up to which they count as equal: in points, or as a share of 1.
SAME: Mapping[str, float] = {"%": 0.05, "": 0.0005}
#: Of a comparison of trained networks.
_CHANGE = ("difference", "seed_spread")


def verdicts(report: Report) -> list[Verdict]:
    """All of them: by task, machine and threads, then branches, then training."""
    found: list[Verdict] = []
    for place, members in wording.places(report):
        networks = list(dict.fromkeys(each.network for each in members))
        binary = [name for name in networks if report.networks[name].kind == "binary"]
        found += _front(report, place, members)
        for network in binary:
            found += _times(report, place, members, network)
            found += _instructions(report, place, members, network)
        found += _faithful(report, place, members)
    found += [verdict for sweep in report.sweeps for verdict in _branches(sweep)]
    found += [verdict for ablation in report.ablations for verdict in _training(ablation)]
    # accuracy is the same with any number of threads, and told once
    once: dict[tuple[str | None, str | None, str], Verdict] = {}
    for verdict in found:
        once.setdefault((verdict.task, verdict.machine, verdict.text), verdict)
    return list(once.values())


def grouped(found: Sequence[Verdict]) -> Iterator[tuple[str, list[Verdict]]]:
    """Neighbours that hold in the same place, under a heading that names it."""
    for (task, machine, threads), together in groupby(found, lambda each: (each.task, each.machine, each.threads)):
        parts = [] if task is None else [task]
        if machine is not None:
            parts.append(wording.where(machine, threads) if threads is not None else machine)
        yield ": ".join(parts) or "Training", list(together)


#: Why two times are not told apart.
OVERLAP = "the middle halves of their samples overlap"


@dataclass(frozen=True)
class Factor:
    """How many times as long the slower of two takes, above 1. first : whether that is the first.

    least : it is a lower bound, since times spread too widely for more.
    """

    value: float
    first: bool
    least: bool

    @property
    def text(self) -> str:
        """Such as "at least 2.10x"."""
        return f"{'at least ' if self.least else ''}{wording.times(self.value)}"


def factor(one: Latency, other: Latency) -> Factor | None:
    """How far two times are apart; None where that is not more than chance."""
    timings = [wording.timing_of(each.samples_ms) for each in (one, other)]
    fast, slow = sorted(timings, key=lambda each: each.median)
    if fast.quartiles[1] >= slow.quartiles[0]:
        return None
    medians = ratio(slow, fast)
    least = slow.quartiles[0] / fast.quartiles[1]
    return Factor(least if medians is None else medians, slow is timings[0], medians is None)


def _times(report: Report, place: Place, members: Sequence[Measurement], network: str) -> list[Verdict]:
    """A binary network of ours against what else could be deployed, each fastest of its kind."""
    ours = fastest(members, network, wording.is_ours)
    if ours is None or ours.latency is None:
        return []
    against = rivals(report, members, network)
    if not against:
        text = f"{_name(ours)} takes {wording.ms(ours.latency.median_ms)}; nothing else was measured beside it."
        return [_verdict(place, [ours], text, {"ms": ours.latency.median_ms})]
    return [_against(place, report.tasks[place.task], ours, rival) for rival in against]


def rivals(report: Report, members: Sequence[Measurement], network: str) -> list[Measurement]:
    """What a binary network is compared with, as far as it was timed among these members of a place.

    Its float twin in the fastest peer, in the fastest with int8, in PyTorch, and in this compiler; itself in PyTorch.
    """
    twin = report.networks[network].twin
    kinds: list[tuple[str | None, Callable[[str], bool]]] = [
        (twin, lambda name: _is_peer(name) and not name.endswith(INT8)),
        (twin, lambda name: _is_peer(name) and name.endswith(INT8)),
        (twin, lambda name: name == PYTORCH),
        (twin, wording.is_ours),
        (network, lambda name: name == PYTORCH),
    ]
    return [found for name, kind in kinds if (found := fastest(members, name, kind)) is not None]


def _against(place: Place, task: Task, ours: Measurement, rival: Measurement) -> Verdict:
    """One binary network and executor against another network or executor."""
    assert ours.latency is not None and rival.latency is not None, "both were timed"
    mine, other = ours.latency, rival.latency
    numbers = {"ms": mine.median_ms, "rival_ms": other.median_ms}
    both = f"{wording.ms(mine.median_ms)} against {wording.ms(other.median_ms)}"
    if len(other.samples_ms) == 1:
        both += ", timed once"
    apart = factor(mine, other)
    if apart is None:
        text = f"{_name(ours)} and {_name(rival)} are not distinguishable in time ({both}: {OVERLAP})"
        text += _accuracy(task, ours, rival, numbers, "; in accuracy the first is")
    else:
        numbers["ratio"] = apart.value
        if apart.least:
            numbers["spread"] = max(mine.spread, other.spread)
            both += f", spread by up to {wording.share(numbers['spread'], 0)}"
        verb = f"takes {apart.text} as long as" if apart.first else f"is {apart.text} as fast as"
        text = f"{_name(ours)} {verb} {_name(rival)} ({both})"
        text += _accuracy(task, ours, rival, numbers, " and is" if apart.first else " and")
    return _verdict(place, [ours, rival], f"{text}.", numbers)


def _accuracy(task: Task, ours: Measurement, rival: Measurement, numbers: dict[str, float], lead: str) -> str:
    """How much better or worse the first is; nothing where that was not measured."""
    mine, other = metric_of(task, ours), metric_of(task, rival)
    if mine is None or other is None:
        return ""
    difference = mine - other
    numbers.update(value=mine, rival_value=other, difference=difference)
    on = f"on {wording.data_set(task)}"
    if abs(difference) <= SAME[task.unit]:
        return f"{lead} as good in {task.metric} {on} ({_both(mine, other, task)})"
    word = "better" if (difference > 0) == (task.better == "higher") else "worse"
    size = wording.points(difference, task.unit)
    return f"{lead} {size} of {task.metric} {word} {on} ({_both(mine, other, task)})"


def _both(mine: float, other: float, task: Task) -> str:
    return f"{wording.value(mine, task.unit)} against {wording.value(other, task.unit)}"


def _front(report: Report, place: Place, members: Sequence[Measurement]) -> list[Verdict]:
    """What nothing else is both faster and better than."""
    task = report.tasks[place.task]
    found = points(task, members)
    if len(found) < 2:
        return []
    best = front(found, task.better)
    numbers: dict[str, float] = {"front": len(best), "compared": len(found), "images": task.images}
    texts = []
    for point in best:
        name = _name(point.measurement)
        numbers |= {f"{name}: ms": point.ms, f"{name}: {task.metric}": point.value}
        texts.append(f"{name} ({wording.ms(point.ms)}, {wording.value(point.value, task.unit)})")
    text = (
        f"On the Pareto front of latency and {task.metric} on {wording.data_set(task)} "
        f"({wording.plural(task.images, 'image')}), by medians, {len(best)} of {len(found)}, than which nothing else "
        f"is both faster and better: {', '.join(texts)}."
    )
    return [_verdict(place, [point.measurement for point in best], text, numbers)]


def _faithful(report: Report, place: Place, members: Sequence[Measurement]) -> Iterator[Verdict]:
    """Whether what was compiled is as right as in PyTorch: one sentence for all that is, one for each that is not."""
    task = report.tasks[place.task]
    ours = [
        (each, abs(difference), each.accuracy.agreement)
        for each in members
        if wording.is_ours(each.executor) and each.accuracy is not None
        if (difference := each.accuracy.difference.get(task.metric)) is not None
    ]
    itself = {
        each.network: each.accuracy.agreement
        for each in members
        if each.executor == PYTORCH and each.accuracy is not None and each.accuracy.agreement is not None
    }
    apart = [each for each in ours if each[1] > SAME[task.unit]]
    groups = [[each for each in ours if each not in apart], *([each] for each in apart)]
    for group in filter(None, groups):
        same, difference = SAME[task.unit], max(each for _, each, _ in group)
        numbers = {"difference": difference, "same": same}
        names = ", ".join(_name(each) for each, _, _ in group)
        most = "by at most" if len(group) > 1 else "by"
        bound = f"{'within' if difference <= same else 'more than'} {same:g}{' points' if task.unit else ''}"
        text = f"Compiled, {task.metric} on {wording.data_set(task)} differs from PyTorch's {most} "
        text += f"{wording.points(difference, task.unit)}, {bound}"
        least = "in at least " if len(group) > 1 else "in "
        if agreements := [each for _, _, each in group if each is not None]:
            numbers["agreement"] = min(agreements)
            text += f", with the same class {least}{wording.share(min(agreements), 3)} of the pixels"
        if own := [itself[each.network] for each, _, _ in group if each.network in itself]:
            numbers["pytorch_agreement"] = min(own)
            text += f" (PyTorch without oneDNN {least}{wording.share(min(own), 3)})"
        yield _verdict(place, [each for each, _, _ in group], f"{text}: {names}.", numbers)


def _instructions(report: Report, place: Place, members: Sequence[Measurement], network: str) -> list[Verdict]:
    """A network on an emulated processor, of which no time can be told."""
    counted = [each for each in members if each.instructions is not None]
    ours = min(
        (each for each in counted if each.network == network and wording.is_ours(each.executor)),
        key=lambda each: each.instructions or 0,
        default=None,
    )
    if ours is None or ours.instructions is None:
        return []
    text = f"{_name(ours)} executes {wording.count(ours.instructions)} instructions an inference"
    numbers: dict[str, float] = {"instructions": ours.instructions}
    twin = [each for each in counted if each.network == report.networks[network].twin]
    about = [ours]
    if rival := min(twin, key=lambda each: each.instructions or 0, default=None):
        assert rival.instructions is not None, "it was counted"
        numbers |= {"rival_instructions": rival.instructions, "ratio": rival.instructions / ours.instructions}
        text += f", {_name(rival)} {wording.count(rival.instructions)}: {wording.times(numbers['ratio'])} as many"
        about.append(rival)
    text += ". They were counted on an emulated processor, which tells no time."
    return [_verdict(place, about, text, numbers)]


def _branches(sweep: BranchSweep) -> Iterator[Verdict]:
    """What the most branches cost, against as many networks."""
    counts = {each.branches: each for each in sweep.counts}
    if 1 not in counts or len(counts) < 2:
        return
    one, most = counts[1], counts[max(counts)]
    name, branches = f"{sweep.network} at {sweep.size[0]}x{sweep.size[1]}", most.branches
    numbers: dict[str, float] = {"branches": branches, "ms": most.latency.median_ms, "one_ms": one.latency.median_ms}
    both = f"{wording.ms(most.latency.median_ms)} against {wording.ms(one.latency.median_ms)}"
    apart = factor(most.latency, one.latency)
    if apart is None:
        text = f"{name} with {branches} branches and with one are not distinguishable in time ({both}: {OVERLAP})."
    else:
        numbers |= {"ratio": apart.value, "multiple": most.multiple}
        verb = f"takes {apart.text} as long as with one" if apart.first else f"is {apart.text} as fast as with one"
        text = (
            f"{name} with {branches} branches {verb} ({both}); by medians, {branches} such networks one after the "
            f"other would take {wording.times(most.multiple)} as long as the branches."
        )
    yield Verdict(
        task=None,
        about=[sweep.network],
        text=text,
        numbers=numbers,
        machine=sweep.machine,
        threads=sweep.threads,
    )


def _training(ablation: Mapping[str, Any]) -> Iterator[Verdict]:
    """What was found in training one factor at a time: comparisons by factor, then the findings as they are."""
    task, unit, metric = ablation.get("task"), ablation.get("unit", ""), ablation.get("metric", "the metric")
    on = wording.trained_on(ablation)
    for factor, members in groupby(ablation.get("comparisons", ()), lambda each: each.get("factor", "")):
        parts, alike, numbers = [], [], {}
        for each in members:
            step, change, spread = f"{each.get('to')} instead of {each.get('from')}", *map(each.get, _CHANGE)
            if change is None:
                continue
            numbers[step] = float(change)
            if not each.get("distinguishable"):
                alike.append(f"{step} ({wording.signed(change, unit)})")
                continue
            parts.append(f"{step}: {wording.signed(change, unit)} of {metric}")
            if spread is not None:
                numbers[f"{step}: spread of the seeds"] = float(spread)
                parts[-1] += f", where seeds spread by {wording.points(spread, unit)}"
        if alike:
            parts.append(f"no difference in {metric} that can be told: {', '.join(alike)}")
        if parts:
            text = f"Trained on {on}, {factor}: {'; '.join(parts)}."
            yield Verdict(task=task, about=[str(factor)], text=text, numbers=numbers)
    for each in ablation.get("findings", ()):
        text = f"{each.get('question', '')} {each.get('answer', '')} (On {on}.)".strip()
        yield Verdict(task=task, about=["training"], text=text, numbers=_plain(each.get("numbers", {})))


def _plain(numbers: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): float(number) for name, number in numbers.items() if isinstance(number, (int, float))}


def fastest(members: Sequence[Measurement], network: str | None, fits: Callable[[str], bool]) -> Measurement | None:
    """The one with the least median among those of a network whose executor fits."""
    timed = [
        (each.latency.median_ms, number, each)
        for number, each in enumerate(members)
        if each.network == network and each.latency is not None and fits(each.executor)
    ]
    return min(timed)[-1] if timed else None


def _is_peer(executor: str) -> bool:
    return not wording.is_ours(executor) and executor != PYTORCH


def _name(measurement: Measurement) -> str:
    return f"{measurement.network} in {measurement.executor}"


def _verdict(place: Place, about: Sequence[Measurement], text: str, numbers: dict[str, float]) -> Verdict:
    names = [name for each in about for name in (each.network, each.executor)]
    return Verdict(
        task=place.task,
        about=list(dict.fromkeys(names)),
        text=text,
        numbers=numbers,
        machine=place.machine,
        threads=place.threads,
    )
