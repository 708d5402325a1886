"""What a task is trained and judged on: its data set, or generated samples."""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from tvm_bnn.examples.data.dataset import DataSet, draw_data, open_data
from tvm_bnn.examples.data.task import Task
from tvm_bnn.examples.data.transforms import Resize
from tvm_bnn.examples.training.plan import Plan

SAMPLES = 400  # generated ones to train on
JUDGED = 64  # generated ones to judge on
DATA_SEED = 0  # the same samples whatever the seed of a run, which is that of the training


class Splits(NamedTuple):
    """train : in the sizes in which they lie or are drawn. val : in the size of the network's images."""

    train: DataSet
    val: DataSet


def kept(data: DataSet) -> DataSet:
    """The same, and each sample is read or drawn once; for data that fits into memory."""
    return DataSet(data.name, data.task, data.split, data.names, lru_cache(maxsize=None)(lambda index: data[index][1:]))


def open_splits(task: Task, root: Path, plan: Plan) -> Splits:
    """Of the data set in `root`; InputError where it is not there or not complete."""
    resize = Resize(plan.test_size or plan.size)
    return Splits(open_data(task, root, "train"), open_data(task, root, "val", resize))


def draw_splits(task: Task, plan: Plan, samples: int = SAMPLES, judged: int | None = None) -> Splits:
    """Generated samples: so many to train on, in the size in which the plan sees them, and others to judge on."""
    size = None if plan.scales is not None else plan.size
    train = draw_data(task, "train", samples, DATA_SEED, size)
    return Splits(train, draw_data(task, "val", judged or JUDGED, DATA_SEED, plan.test_size or plan.size))
