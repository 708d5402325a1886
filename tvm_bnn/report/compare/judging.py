"""How right a network is: a run of it on every image of a task, by the task's own metric."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from tvm_bnn.errors import InputError
from tvm_bnn.examples.data.dataset import DataSet, Sample, draw_data, open_data
from tvm_bnn.examples.data.metrics import Figure, metric_of
from tvm_bnn.examples.data.predictions import predictions
from tvm_bnn.examples.data.task import Task
from tvm_bnn.examples.data.tasks import task_named
from tvm_bnn.examples.data.transforms import Resize
from tvm_bnn.report.compare import content
from tvm_bnn.report.compare.config import TaskTable
from tvm_bnn.report.compare.subjects import Subject
from tvm_bnn.report.peers import first_of


@dataclass(frozen=True)
class Images:
    """The images that a task is judged on, in memory."""

    data: DataSet
    samples: Sequence[Sample]
    seed: int | None

    def described(self, size: tuple[int, int]) -> content.Task:
        """For the report."""
        metric, figure = headline(self.data.task)
        return content.Task(
            data_set=self.data.name,
            synthetic=self.data.synthetic,
            split=self.data.split,
            images=len(self.samples),
            size=size,
            seed=self.seed,
            metric=metric,
            better=figure.better,
            unit=figure.unit,
            class_names=list(self.data.class_names),
            palette=list(self.data.palette.values()),
        )


def images_of(table: TaskTable) -> Images:
    """The first images of a task's split, resized; drawn where there is no data set.

    Raises InputError where the data set is incomplete, or smaller.
    """
    task, resize = task_named(table.data_set), Resize(table.size)
    if table.data_root is None:
        data = draw_data(task, table.split, table.images, table.seed, table.size, resize)
        return Images(data, list(data), table.seed)
    data = open_data(task, table.data_root, table.split, resize)
    if len(data) < table.images:
        raise InputError(f"found {len(data)} images in {table.split} of {data.name}; {table.images} are to be judged")
    # spread over the split, so that no sequence of the recording stands for all
    step = len(data) / table.images
    return Images(data, [data[int(index * step)] for index in range(table.images)], None)


def headline(task: Task) -> tuple[str, Figure]:
    """The figure that a task is known by, without a value: what its metric tells before it has seen an image."""
    with warnings.catch_warnings():
        # that it has not
        warnings.simplefilter("ignore")
        return next(iter(metric_of(task).result().items()))


@dataclass(frozen=True)
class Judged:
    """figures : of the task's metric. classes : uint8 [H, W] for each image."""

    figures: Mapping[str, content.Figure]
    classes: Sequence[np.ndarray]

    def agreement(self, other: Judged) -> float:
        """Share of all pixels with the same class."""
        return float(np.mean([np.mean(one == two) for one, two in zip(self.classes, other.classes, strict=True)]))


def judge(run: Callable[[], Any], subject: Subject, images: Images) -> Judged:
    """Run the network on every image. `run` reads the subject's input; one on a device is told that it changed."""
    metric = metric_of(images.data.task)
    refresh = getattr(run, "refresh", None)
    classes = []
    for sample in images.samples:
        subject.show(sample.image)
        if refresh is not None:
            refresh()
        output = np.asarray(first_of(run()))
        metric.update(predictions(output, images.data.task)[0], sample.truth)
        classes.append(_classes(output).astype(np.uint8))
    return Judged({name: _told(figure) for name, figure in metric.result().items()}, classes)


def _told(figure: Figure) -> content.Figure:
    value = None if np.isnan(figure.value) else figure.value
    return content.Figure(value=value, better=figure.better, unit=figure.unit)


def _classes(output: np.ndarray) -> np.ndarray:
    return output[0].argmax(0) if np.issubdtype(output.dtype, np.floating) else output[0]


def packed(classes: Iterable[np.ndarray]) -> list[str]:
    """Class maps as text: PNGs in base 64."""
    return [base64.b64encode(_png(each)).decode() for each in classes]


def unpacked(texts: Iterable[str]) -> list[np.ndarray]:
    """The other way."""
    return [np.array(Image.open(io.BytesIO(base64.b64decode(text)))) for text in texts]


def _png(classes: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(classes).save(file, "png")
    return file.getvalue()
