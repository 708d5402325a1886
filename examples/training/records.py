"""What is kept of each run of an ablation, and how a run is made or found again."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from math import isnan
from pathlib import Path
from typing import Any

import torch

from tvm_bnn.errors import InputError
from tvm_bnn.examples.data.metrics import Figure
from tvm_bnn.examples.training.cases import Case
from tvm_bnn.examples.training.diagnostics import diagnose
from tvm_bnn.examples.training.make import make
from tvm_bnn.examples.training.plan import Plan
from tvm_bnn.examples.training.run import Watcher, writing
from tvm_bnn.examples.training.splits import Splits


@dataclass(frozen=True)
class Record:
    """One run, as JSON has it.

    figures : name -> value (none where it is undefined), better, unit; of the validation split. seconds : of training.
    losses : pairs of a number of steps and the mean loss of those since the last pair. diagnostics : see Diagnostics;
    none of a float twin. made_with : plan, data, versions and threads; a run that is made with the same is the same.
    """

    task: str
    data_set: str
    name: str
    variant: str
    branches: int
    attention: str
    upsampling: str
    seed: int
    figures: dict[str, dict[str, Any]]
    seconds: float
    losses: list[list[float]]
    diagnostics: dict[str, Any] | None
    made_with: dict[str, Any]

    def value(self) -> float:
        """The figure that the task is known by; nan where it is undefined."""
        found = next(iter(self.figures.values()))["value"]
        return float("nan") if found is None else found


def as_json(figures: Mapping[str, Figure]) -> dict[str, dict[str, Any]]:
    return {name: {**asdict(f), "value": None if isnan(f.value) else f.value} for name, f in figures.items()}


def record_of(case: Case, plan: Plan, splits: Splits, folder: Path, watch: Watcher) -> tuple[Record, bool]:
    """The record of a run in `folder`, NAME.json beside NAME.safetensors: the one that is there, or a new one.

    And whether it is new.
    """
    path = folder / f"{case.name}.json"
    versions = {"torch": torch.__version__, "tvm_bnn": version("tvm_bnn")}
    made_with = {"plan": asdict(plan), "data": splits.train.name, "samples": len(splits.train)}
    made_with |= {"judged": len(splits.val), "versions": versions, "threads": torch.get_num_threads()}
    made_with = json.loads(json.dumps(made_with))
    known = _known(path)
    if known is not None and known.made_with == made_with:
        return known, False
    out = path.with_suffix(".safetensors")
    run, trained = make(plan, splits, out, watch)
    found = None if plan.variant == "twin" else asdict(diagnose(trained.model, splits.val))
    fields = {**vars(case), "name": case.configuration, "data_set": trained.data, "figures": as_json(trained.figures)}
    losses = [[step, loss] for step, loss in run.losses]
    record = Record(**fields, seconds=round(run.seconds, 1), losses=losses, diagnostics=found, made_with=made_with)
    with writing(path):
        path.write_text(json.dumps(asdict(record)) + "\n")
    run.state.unlink()
    return record, True


def _known(path: Path) -> Record | None:
    if not path.exists():
        return None
    try:
        return Record(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is no record of a run ({error}); delete it") from error
