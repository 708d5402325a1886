"""Data sets as PyTorch reads them: from folders, or drawn."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial as bind
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset

from tvm_bnn.errors import InputError
from tvm_bnn.examples.data.layout import Found, find, read_picture
from tvm_bnn.examples.data.task import SPLITS, Task


class Sample(NamedTuple):
    """name : within the split. image : uint8 [H, W, 3], RGB. truth : classes uint8 [H, W], and the ignored value."""

    name: str
    image: np.ndarray
    truth: np.ndarray


Transform = Callable[[Sample], Sample]
Read = Callable[[int], tuple[np.ndarray, np.ndarray]]


class DataSet(Dataset[Sample]):
    """One split of a data set, whose samples are read (or drawn) when they are asked for.

    name : of the data set, for whoever prints a figure: "synthetic-..." where it is generated. names : of the samples.
    transform : is applied to every sample. Also: task, split, palette, class_names, ignored.
    """

    def __init__(
        self, name: str, task: Task, split: str, names: Sequence[str], read: Read, transform: Transform | None = None
    ) -> None:
        self.name, self.task, self.split = name, task, split
        self.names, self.transform, self._read = tuple(names), transform, read
        self.palette, self.class_names, self.ignored = task.palette, tuple(task.palette), task.ignored

    @property
    def synthetic(self) -> bool:
        return self.name.startswith("synthetic")

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Sample:
        place = range(len(self))[index]
        sample = Sample(self.names[place], *self._read(place))
        return sample if self.transform is None else self.transform(sample)


@dataclass(frozen=True)
class _Files:
    found: Found
    classes: int
    ignored: int | None

    def __call__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        path = self.found.truths[index]
        image, truth = read_picture(self.found.images[index], "RGB"), self.found.encoding.read(path)
        if truth.shape != image.shape[:2]:
            sizes = f"{list(truth.shape)}, {self.found.images[index]} {list(image.shape[:2])}"
            raise InputError(f"a truth has the size of its image; found {path} {sizes}")
        known = np.isin(np.arange(256), [*range(self.classes), *([] if self.ignored is None else [self.ignored])])
        if not known[truth].all():
            raise InputError(f"{path} has pixels that are of none of the {self.classes} classes")
        return image, truth


def open_data(
    task: Task, root: Path, split: str, transform: Transform | None = None, partial: bool = False
) -> DataSet:
    """A split of a data set that lies in `root`, or in its sub-folder of a usual name, in the original layout.

    InputError where it is not there or not complete, with what is missing. partial : take what is there; the name then
    says how much that is. A generated data set (see writer.py) has a name of its own.
    """
    found = find(task.layout, root, split, partial)
    read = _Files(found, len(task.palette), task.ignored)
    return DataSet(found.name, task, split, ["/".join(key) for key in found.keys], read, transform)


def draw_data(
    task: Task,
    split: str,
    count: int,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    transform: Transform | None = None,
) -> DataSet:
    """The first `count` generated samples of a split ("train", "val" or "test"), without a file.

    Sample i of a seed and size is always the same, and in no other split. size : (H, W), default the task's.
    """
    if split not in SPLITS:
        raise InputError(f"found split {split!r} of generated samples; accepted: {', '.join(SPLITS)}")
    read = bind(task.generated.sample, split, seed=seed, size=size)
    return DataSet(task.generated.name, task, split, [f"{index:06d}" for index in range(count)], read, transform)
