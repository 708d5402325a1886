"""What an ablation found: runs compared one factor at a time, and the answers that follow.

The rule: two configurations differ where the means of their figures over the seeds are further apart than twice the
standard deviation over the seeds, pooled from both. With three seeds each that is Student's t of 2.4 at 4 degrees of
freedom: where there is no difference, it finds one in 7 of 100 comparisons. One seed alone shows no difference at all.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, variance
from typing import Any

from tvm_bnn.examples.training.cases import FACTORS
from tvm_bnn.examples.training.records import Record

DEVIATIONS = 2.0


@dataclass(frozen=True)
class Comparison:
    """What going from one configuration to another does to the figure.

    factor : "branches", "attention" or "upsampling". before, after : names of the configurations ("from" and "to" in
    JSON). difference : of the means over the seeds, after - before. seed_spread : what it has to exceed, none where a
    configuration has a single seed. distinguishable : whether it does.
    """

    factor: str
    before: str
    after: str
    difference: float
    seed_spread: float | None
    distinguishable: bool

    def as_json(self) -> dict[str, Any]:
        fields = dict(vars(self))
        return {"factor": fields.pop("factor"), "from": fields.pop("before"), "to": fields.pop("after"), **fields}


@dataclass(frozen=True)
class Finding:
    """A question, its answer in words, and the numbers behind it."""

    question: str
    answer: str
    numbers: dict[str, Any]


def compare(factor: str, before: str, after: str, values: Mapping[str, Sequence[float]]) -> Comparison:
    """values : of the figure, one a seed, by the name of the configuration."""
    first, second = values[before], values[after]
    difference = fmean(second) - fmean(first)
    spread = None
    if min(len(first), len(second)) > 1:
        freedom = [len(one) - 1 for one in (first, second)]
        pooled = (freedom[0] * variance(first) + freedom[1] * variance(second)) / sum(freedom)
        spread = DEVIATIONS * sqrt(pooled)
    return Comparison(factor, before, after, difference, spread, spread is not None and abs(difference) > spread)


def outcome(comparison: Comparison, better: str) -> str:
    """What going from one to the other does to a figure that is better "higher" or "lower"."""
    if comparison.seed_spread is None:
        return "Not known, from one seed"
    if not comparison.distinguishable:
        return "No difference"
    return "Better" if (comparison.difference > 0) == (better == "higher") else "Worse"


def in_words(comparison: Comparison, unit: str) -> str:
    """Such as: b against a, +1.23 points (spread of the seeds 0.456). unit : of the figure, "%" or none."""
    words = f"{comparison.after} against {comparison.before}"
    if comparison.distinguishable:
        words += f", {comparison.difference:+.3g}{' points' if unit == '%' else ''}"
    return words if comparison.seed_spread is None else f"{words} (spread of the seeds {comparison.seed_spread:.3g})"


def verdict(question: str, comparisons: Iterable[Comparison], better: str, unit: str) -> Finding:
    """All comparisons of a factor by their outcome; a difference within the spread is not told in words."""
    groups: dict[str, list[str]] = {}
    chosen = list(comparisons)
    for comparison in chosen:
        groups.setdefault(outcome(comparison, better), []).append(in_words(comparison, unit))
    answer = " ".join(f"{name}: {'; '.join(words)}." for name, words in groups.items())
    return Finding(question, answer, {f"{c.after} - {c.before}": c.difference for c in chosen})


def by_configuration(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Configuration -> its runs, one a seed."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.name, []).append(record)
    return groups


def comparisons(runs: dict[str, list[Record]]) -> list[Comparison]:
    """Of the pairs of FACTORS of which both sides were run."""
    values = {name: [record.value() for record in records] for name, records in runs.items()}
    return [
        compare(factor, before.configuration, after.configuration, values)
        for factor, pairs in FACTORS.items()
        for before, after in pairs
        if before.configuration in values and after.configuration in values
    ]


QUESTIONS = {
    "branches": "Do more branches help?",
    "attention": "Does attention help?",
    "upsampling": "Does another upsampling than nearest help?",
}


def findings(runs: dict[str, list[Record]], better: str, unit: str) -> list[Finding]:
    """Answers to the questions that the runs can answer."""
    made = comparisons(runs)
    answers = [
        verdict(question, [c for c in made if c.factor == factor], better, unit)
        for factor, question in QUESTIONS.items()
        if any(c.factor == factor for c in made)
    ]
    return [*answers, *_of_branches(runs), *_of_masks(runs)]


def _of_branches(runs: dict[str, list[Record]]) -> list[Finding]:
    several = {name: _diagnostics(records) for name, records in runs.items() if records[0].branches > 1}
    if not several:
        return []
    alike = {name: fmean(d["mean_error_correlation"] for d in found) for name, found in several.items()}
    errors = Finding(
        "Do the branches of a network err at the same pixels?",
        f"The correlation of their errors, a mean over pairs and seeds, is {_range(alike)}.",
        {name: round(value, 4) for name, value in alike.items()},
    )
    shares = {
        name: fmean(min(one) / (max(one) or 1) for d in found for one in d["branch_variance"].values())
        for name, found in several.items()
    }
    variances = Finding(
        "Do the branches of a stage vary alike?",
        f"The least variance over the largest in a stage, a mean over stages and seeds, is {_range(shares)}.",
        {name: round(value, 4) for name, value in shares.items()},
    )
    return [errors, variances]


def _of_masks(runs: dict[str, list[Record]]) -> list[Finding]:
    numbers: dict[str, dict[str, float]] = {}
    for name, records in runs.items():
        masks = [mask for found in _diagnostics(records) for mask in found["masks"].values()]
        if masks:
            numbers[name] = {field: round(fmean(mask[field] for mask in masks), 4) for field in masks[0]}
    if not numbers:
        return []
    words = ", ".join(f"{name} {n['near_uniform']:.0%} and {n['constant']:.0%}" for name, n in numbers.items())
    return [
        Finding(
            "How often are attention masks near uniform?",
            "Masks of which more than 95 % is equal, and entries that are the same in more than 95 % of the images, "
            f"means over stages and seeds: {words}.",
            numbers,
        )
    ]


def _diagnostics(records: list[Record]) -> list[dict[str, Any]]:
    return [record.diagnostics for record in records if record.diagnostics is not None]


def _range(values: dict[str, float]) -> str:
    """The least and the largest, with their names."""
    low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
    return f"{values[low]:.2f} ({low})" + (f" to {values[high]:.2f} ({high})" if high != low else "")
