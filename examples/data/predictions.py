"""What a network says of images, as a task's metric takes it. Plain NumPy, so it serves the output of any executor."""

import numpy as np

from tvm_bnn.errors import InputError
from tvm_bnn.examples.data.task import Task


def predictions(output: np.ndarray, task: Task) -> np.ndarray:
    """Of a batch's output, what `metric_of(task).update` takes of each image: [N, H, W].

    output : class maps, integers [N, H, W], which stay as they are; or logits, floats [N, classes, H, W]. Where the
    task has two classes, it is judged by the probability (softmax) of class 1, float32; else by the class of the
    largest logit (the first of equal ones), int64. InputError for anything else.
    """
    values, classes = np.asarray(output), len(task.palette)
    if values.ndim == 3 and np.issubdtype(values.dtype, np.integer):
        return values
    if values.ndim != 4 or values.shape[1] != classes or not np.issubdtype(values.dtype, np.floating):
        raise InputError(
            f"found a network's output {values.dtype} {list(values.shape)}; {task.name} takes class maps, integers "
            f"[N, H, W], or logits, floats [N, {classes}, H, W]"
        )
    if classes == 2:
        # softmax of two is a sigmoid of their difference, which as a tanh overflows nowhere
        return (0.5 + 0.5 * np.tanh((values[:, 1] - values[:, 0]) / 2)).astype(np.float32)
    return values.argmax(axis=1)
