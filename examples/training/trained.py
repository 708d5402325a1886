"""Trained networks of the three tasks, from their compact checkpoints."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tvm_bnn.errors import InputError, ModelError
from tvm_bnn.examples.data.metrics import Figure
from tvm_bnn.examples.data.task import Task
from tvm_bnn.examples.data.tasks import task_named
from tvm_bnn.examples.ding2024.model import Ding2024
from tvm_bnn.examples.ding2024.weights import load_compact, read_compact
from tvm_bnn.examples.training.plan import Plan, as_plan

CHECKPOINTS = Path(__file__).parent / "checkpoints"
SHIPPED = ("twin", "k1", "k3")


@dataclass(frozen=True)
class Trained:
    """A network and where it comes from.

    model : in eval mode; float32 [1, 3, H, W], prepared as its `preprocessing` says, H and W those of its
    `config.input_size` -> logits float32 [1, classes, H, W] where the task has two classes, else class maps int64
    [1, H, W]; `tvm_bnn.examples.data.predictions` makes of either what the task's metric takes. data : the name of
    the data set, "synthetic-..." where it was generated. samples : of its training split. seconds : of training.
    figures : on its validation split, as measured after training on the network as it is stored.
    """

    model: Ding2024
    task: Task
    variant: str
    plan: Plan
    data: str
    samples: int
    seconds: int
    figures: dict[str, Figure]


def notes_of(task: Task, data: str, samples: int, figures: dict[str, Figure]) -> dict[str, str]:
    """What a checkpoint's metadata says beside the plan, for `Run.write`; `load_trained` reads it."""
    told = {name: asdict(figure) for name, figure in figures.items()}
    return {"task": task.name, "data": data, "samples": str(samples), "figures": json.dumps(told)}


def load_trained(path: Path) -> Trained:
    """The network of a checkpoint that `training.train` or `training.ablation` wrote; ModelError for another file."""
    about = read_compact(path)[1]
    if "task" not in about:
        raise ModelError(f"{path} is of none of the three tasks: its metadata names no task")
    task, model = task_named(about["task"]), load_compact(path)
    model.class_names = list(task.palette)
    model.palette = [list(colour) for colour in task.palette.values()]
    figures = {name: Figure(**figure) for name, figure in json.loads(about["figures"]).items()}
    plan = as_plan(json.loads(about["plan"]))
    samples, seconds = int(about["samples"]), int(about["seconds"])
    return Trained(model, task, about["variant"], plan, about["data"], samples, seconds, figures)


def shipped(task: Task, which: str) -> Path:
    """The checkpoint of a task that comes with the package: one of SHIPPED. InputError for another one."""
    if which not in SHIPPED:
        raise InputError(f"found network {which!r}; accepted: {', '.join(SHIPPED)}")
    return CHECKPOINTS / f"{task.name}-{which}.safetensors"
