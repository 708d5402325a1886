"""How right a network is: a run of it on every image of a task, by the task's own metric."""

from __future__ import annotations

import base64
import hashlib
import io
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
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
from tvm_bnn.report.peers import first_of, refresh


@dataclass(frozen=True)
class Images:
    """The images that a task is judged on, in memory."""

    data: DataSet
    samples: Sequence[Sample]
    seed: int | None

    @cached_property
    def digest(self) -> str:
        """A digest of all images and truths."""
        whole = hashlib.sha256()
        for sample in self.samples:
            whole.update(sample.image.tobytes() + sample.truth.tobytes())
        return whole.hexdigest()

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


def data_of(table: TaskTable, split: str, count: int) -> DataSet:
    """A split of a task's data set, resized; where there is none, `count` images that are drawn.

    Raises InputError where the data set is incomplete.
    """
    task, resize = task_named(table.data_set), Resize(table.size)
    if table.data_root is None:
        return draw_data(task, split, count, table.seed, table.size, resize)
    return open_data(task, table.data_root, split, resize)


def images_of(table: TaskTable) -> Images:
    """As many images of a task's split as are to be judged. Raises InputError where it is incomplete, or smaller."""
    data = data_of(table, table.split, table.images)
    if len(data) < table.images:
        raise InputError(f"found {len(data)} images in {table.split} of {data.name}; {table.images} are to be judged")
    # spread over the split, so that no sequence of the recording stands for all
    step = len(data) / table.images
    samples = [data[int(index * step)] for index in range(table.images)]
    return Images(data, samples, table.seed if table.data_root is None else None)


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
    classes = []
    for sample in images.samples:
        subject.show(sample.image)
        refresh(run)
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
    return [base64.b64encode(png(each)).decode() for each in classes]


def unpacked(texts: Iterable[str]) -> list[np.ndarray]:
    """The other way."""
    return [np.array(Image.open(io.BytesIO(base64.b64decode(text)))) for text in texts]


def png(pixels: np.ndarray) -> bytes:
    """Classes [H, W] or colours [H, W, 3], uint8, as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()
