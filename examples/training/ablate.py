"""The runs of an ablation, one after the other, and what they say so far."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tvm_bnn.artifact import whole_file
from tvm_bnn.examples.data.tasks import task_named
from tvm_bnn.examples.training.cases import Case, all_cases, shipped_cases
from tvm_bnn.examples.training.plan import PRESETS, Plan, as_plan
from tvm_bnn.examples.training.records import Record, record_of
from tvm_bnn.examples.training.run import Watcher, shown, writing
from tvm_bnn.examples.training.splits import SAMPLES, Splits, draw_splits, kept


def selected(seeds: int, only: list[str] | None) -> list[Case]:
    """All runs, or those whose names match one of the patterns."""
    cases = all_cases(seeds)
    return cases if only is None else [case for case in cases if any(fnmatchcase(case.name, one) for one in only)]


def _prepare(cases: list[Case], fields: dict[str, Any], samples: int) -> tuple[dict[str, Plan], dict[str, Splits]]:
    """By task, what its runs share: the plan and the samples."""
    plans, splits = {}, {}
    for name in dict.fromkeys(case.task for case in cases):
        task = task_named(name)
        plans[name] = as_plan({**asdict(PRESETS["small"](task, samples)), **fields})
        drawn = draw_splits(task, plans[name], samples)
        splits[name] = Splits(kept(drawn.train), kept(drawn.val))
    return plans, splits


def ablate(
    cases: list[Case],
    fields: dict[str, Any],
    samples: int | None,
    out: Path,
    describe: Callable[[list[Record]], dict[str, Any]],
) -> None:
    """Make each run (one or more), print its figure, and write ablation.json anew after each.

    fields : of the plan, over the preset's. describe : what the file says, from the runs so far.
    """
    folder = out / "runs"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    plans, splits = _prepare(cases, fields, samples or SAMPLES)
    shipped = {case: name for name, case in shipped_cases().items()}
    steps = [plans[case.task].total for case in cases]
    records: list[Record] = []
    begun, made_steps = time.monotonic(), 0
    with shown("ablation", sum(steps)) as watch:
        for case in cases:
            plan, before = case.plan(plans[case.task]), sum(steps[: len(records)])
            record, made = record_of(case, plan, splits[case.task], folder, _after(before, watch))
            records.append(record)
            made_steps += plan.total if made else 0
            if case in shipped:
                with writing(out):
                    shutil.copyfile(folder / f"{case.name}.safetensors", out / f"{shipped[case]}.safetensors")
            described = describe(records)
            with whole_file(out / "ablation.json") as file:
                file.write((json.dumps(described, indent=1, allow_nan=False) + "\n").encode())
            left = _left(time.monotonic() - begun, made_steps, sum(steps[len(records) :]))
            print(f"{len(records)}/{len(cases)} {case.name}: {_told(record)}{left}", flush=True)
    for finding in described.get("findings", []):
        print(f"{finding['question']} {finding['answer']}")
    print(f"{out / 'ablation.json'}: {len(records)} runs")


def _after(before: int, watch: Watcher) -> Watcher:
    """Tells of the steps of one run as of those behind so many others."""
    return lambda step, loss: watch(before + step, loss)


def _told(record: Record) -> str:
    metric, figure = next(iter(record.figures.items()))
    value = "undefined" if figure["value"] is None else f"{figure['value']:.4g}{figure['unit']}"
    return f"{metric} {value}, {record.seconds:.0f} s"


def _left(seconds: float, made: int, steps: int) -> str:
    """How long so many steps will take, from what was made in these seconds."""
    return f"; about {seconds / made * steps / 60:.0f} min left" if made and steps else ""
