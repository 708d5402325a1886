"""Intersection over union of a network's classes on a folder of road images."""

from collections.abc import Callable, Iterable, Mapping
from math import nan
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassJaccardIndex

from tvm_bnn.examples.ding2024.road_folder import CLASSES, IGNORED, RoadFolder


def normalise(pixels: np.ndarray, preprocessing: Mapping[str, Any]) -> Tensor:
    """Image uint8 [H, W, 3] -> network input float32 [1, 3, H, W]; mean and std for each channel, or one for all."""
    mean, std = (torch.tensor(preprocessing[key]).reshape(1, -1, 1, 1) for key in ("mean", "std"))
    return (torch.tensor(pixels).permute(2, 0, 1)[None] * preprocessing["scale"] - mean) / std


def iou(pairs: Iterable[tuple[Tensor, Tensor]], classes: int) -> dict[str, float]:
    """Percent for each class and their mean "mIoU", from pairs of class maps (predicted, true) of one shape.

    All pixels are counted together, except those whose truth is IGNORED. A class that neither occurs nor is predicted
    has 0, and is not in the mean.
    """
    metric = MulticlassJaccardIndex(classes, average="none", ignore_index=IGNORED, zero_division=nan)
    for predicted, true in pairs:
        metric.update(predicted, true.long())
    each = 100 * metric.compute().double()
    return {**dict(zip(CLASSES, each.nan_to_num().tolist(), strict=False)), "mIoU": float(each.nanmean())}


def evaluate(
    network: Callable[[Tensor], Tensor], preprocessing: dict, folder: RoadFolder, indices: Iterable[int] | None = None
) -> dict[str, float]:
    """`iou` of a network that gives class maps [1, H, W], on some or all images of a folder, one at a time."""

    def pairs() -> Iterable[tuple[Tensor, Tensor]]:
        for index in range(len(folder)) if indices is None else indices:
            with torch.no_grad():
                predicted = network(normalise(folder.image(index), preprocessing))
            yield predicted, torch.from_numpy(folder.truth(index))[None]

    return iou(pairs(), folder.classes)
