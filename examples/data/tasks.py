"""The three tasks, by the name of their data set."""

from tvm_bnn.errors import InputError
from tvm_bnn.examples.data.cityscapes import CITYSCAPES
from tvm_bnn.examples.data.ecssd import ECSSD
from tvm_bnn.examples.data.kitti_road import KITTI_ROAD
from tvm_bnn.examples.data.task import Task

TASKS = {task.name: task for task in (CITYSCAPES, KITTI_ROAD, ECSSD)}


def task_named(name: str) -> Task:
    """InputError for a name that is not known."""
    if name not in TASKS:
        raise InputError(f"found task {name!r}; accepted: {', '.join(TASKS)}")
    return TASKS[name]
