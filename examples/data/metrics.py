"""The figures by which the three tasks are judged, computed by torchmetrics and PySODMetrics."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex

from tvm_bnn.errors import InputError
from tvm_bnn.examples.data.task import Task

LEVELS = torch.arange(256) / 255  # the thresholds of a probability: what it can be where it was stored in 8 bits


@dataclass(frozen=True)
class Figure:
    """value : nan where it is undefined. unit : "%" or none (a share of 1)."""

    value: float
    better: Literal["higher", "lower"]
    unit: Literal["%", ""] = "%"


class Metric(Protocol):
    """Takes predictions one image at a time; the first figure of its result is the one that the task is known by."""

    def update(self, prediction: np.ndarray | Tensor, truth: np.ndarray | Tensor) -> None:
        """prediction : of the truth's shape [H, W]; classes, or the probability of class 1 where there are two."""

    def result(self) -> dict[str, Figure]:
        """Name -> figure, over all images so far."""


class MeanIoU:
    """Intersection over union of each class and their mean, as the Cityscapes benchmark counts.

    All pixels of all images count together, except those whose truth is `ignored`. A class that neither occurs nor is
    predicted is undefined and not in the mean.
    """

    def __init__(self, class_names: Sequence[str], ignored: int | None) -> None:
        self.class_names = tuple(class_names)
        self._jaccard = MulticlassJaccardIndex(
            len(class_names), average="none", ignore_index=ignored, zero_division=nan, validate_args=False
        )

    def update(self, prediction: np.ndarray | Tensor, truth: np.ndarray | Tensor) -> None:
        """Classes and truth: integers [H, W]."""
        classes, true = _pair(prediction, truth)
        if classes.is_floating_point() or classes.min() < 0 or classes.max() >= len(self.class_names):
            raise ValueError(f"a prediction holds classes 0 up to {len(self.class_names) - 1}, as integers")
        self._jaccard.update(classes.long()[None], true.long()[None])

    def result(self) -> dict[str, Figure]:
        """mIoU and "IoU NAME" of each class, in percent."""
        each = 100 * self._jaccard.compute().double()
        figures = {"mIoU": Figure(float(each.nanmean()), "higher")}
        for name, value in zip(self.class_names, each.tolist(), strict=True):
            figures[f"IoU {name}"] = Figure(value, "higher")
        return figures


class RoadF:
    """The largest F1 over 256 thresholds, and precision and recall there, as the KITTI road benchmark counts.

    All pixels of all images count together, except those whose truth is `ignored`. The benchmark's own server maps
    images to a view from above first; these figures are of the images as they are, and near pixels weigh less there.
    """

    def __init__(self, ignored: int | None) -> None:
        # how often each level meets each truth: one count an image, instead of one for every threshold
        self._counts = MulticlassConfusionMatrix(len(LEVELS), ignore_index=ignored, validate_args=False)

    def update(self, prediction: np.ndarray | Tensor, truth: np.ndarray | Tensor) -> None:
        """Probability of the road [H, W] in 0..1, or classes 0 and 1; truth: integers [H, W]."""
        probability, true = _pair(prediction, truth)
        highest = torch.bucketize(_probability(probability), LEVELS, right=True) - 1
        self._counts.update(highest, true.long())

    def result(self) -> dict[str, Figure]:
        """MaxF, precision and recall in percent; undefined where no pixel that counts is road."""
        # at a threshold, road is what reaches its level or a higher one; the highest comes first
        beside, road = (counts.flip(0).cumsum(0).double() for counts in self._counts.compute()[:2])
        if road[-1] == 0:
            return {name: Figure(nan, "higher") for name in ("MaxF", "precision", "recall")}
        precision, recall = road / (road + beside).clamp(min=1), road / road[-1]
        f1 = 2 * road / (road + beside + road[-1])
        best = int(f1.argmax())
        values = {"MaxF": f1, "precision": precision, "recall": recall}
        return {name: Figure(100 * float(value[best]), "higher") for name, value in values.items()}


class SalientF:
    """The largest mean F (beta^2 = 0.3) over 256 thresholds, and the mean absolute error, as is usual for ECSSD.

    That is: each map is rounded to 8 bits and stretched to 0..1, each image has its own curve, and their mean is taken
    before the maximum. An image without an object has F = 0.
    """

    def __init__(self) -> None:
        try:
            sod = importlib.import_module("py_sod_metrics")
        except ImportError as error:
            raise InputError(
                f"salient objects need the package pysodmetrics ({error}); try: pip install 'tvm_bnn[metrics]'"
            ) from error
        handler = sod.FmeasureHandler(with_dynamic=True, with_adaptive=False, beta=0.3)
        self._f, self._error = sod.FmeasureV2({"F": handler}), sod.MAE()
        self._images = 0

    def update(self, prediction: np.ndarray | Tensor, truth: np.ndarray | Tensor) -> None:
        """Probability of an object [H, W] in 0..1, or classes 0 and 1; truth: 0 and 1, [H, W]."""
        probability, true = _pair(prediction, truth)
        grey = (_probability(probability) * 255).round().to(torch.uint8).numpy()
        mask = (true > 0).to(torch.uint8).numpy() * np.uint8(255)
        for metric in (self._f, self._error):
            metric.step(pred=grey, gt=mask)
        self._images += 1

    def result(self) -> dict[str, Figure]:
        """MaxF and MAE, both in 0..1; undefined without an image."""
        if not self._images:
            return {"MaxF": Figure(nan, "higher", ""), "MAE": Figure(nan, "lower", "")}
        curve = self._f.get_results()["F"]["dynamic"]
        return {
            "MaxF": Figure(float(curve.max()), "higher", ""),
            "MAE": Figure(float(self._error.get_results()["mae"]), "lower", ""),
        }


_METRICS: dict[str, Callable[[Task], Metric]] = {
    "cityscapes": lambda task: MeanIoU(tuple(task.palette), task.ignored),
    "kitti-road": lambda task: RoadF(task.ignored),
    "ecssd": lambda task: SalientF(),
}


def metric_of(task: Task) -> Metric:
    """A new metric of a task, without an image yet."""
    return _METRICS[task.name](task)


def _pair(prediction: np.ndarray | Tensor, truth: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
    found, true = torch.as_tensor(prediction).detach().cpu(), torch.as_tensor(truth).cpu()
    if found.shape != true.shape or found.dim() != 2 or not found.numel():
        raise ValueError(f"prediction {list(found.shape)} and truth {list(true.shape)}: both are to be of one [H, W]")
    return found, true


def _probability(prediction: Tensor) -> Tensor:
    probability = prediction.float()
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError("a probability is in 0..1; logits need a sigmoid or softmax first")
    return probability
