"""The figures of a network on a data set."""

from collections.abc import Callable

import torch
from torch import Tensor

from tvm_bnn.examples.data.dataset import DataSet
from tvm_bnn.examples.data.metrics import Figure, metric_of
from tvm_bnn.examples.data.predictions import predictions
from tvm_bnn.examples.ding2024.accuracy import normalise


def measure(network: Callable[[Tensor], Tensor], preprocessing: dict, data: DataSet) -> dict[str, Figure]:
    """Name -> figure, all samples one at a time, in the sizes in which the data set gives them.

    network : float32 [1, 3, H, W] -> logits or class maps, on the CPU.
    """
    metric = metric_of(data.task)
    for sample in data:
        with torch.no_grad():
            output = network(normalise(sample.image, preprocessing))
        metric.update(predictions(output.numpy(), data.task)[0], sample.truth)
    return metric.result()
