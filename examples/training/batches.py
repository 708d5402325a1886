"""The batches of a run: which samples, how they are altered, and what the network sees of them."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tvm_bnn.errors import InputError
from tvm_bnn.examples.data.dataset import Sample
from tvm_bnn.examples.data.transforms import random_crop, resize
from tvm_bnn.examples.ding2024.weights import load_compact
from tvm_bnn.examples.training.distil import SoftLabels
from tvm_bnn.examples.training.plan import Plan

IGNORED = 255  # truth that the loss does not count
CACHED_BYTES = 2_000_000_000  # of decoded samples that are kept


#: float32 [batch, 3, H, W], int64 [batch, H, W], and probabilities float32 [batch, classes, H/4, W/4] or none.
Batch = tuple[Tensor, Tensor, Tensor | None]


class Samples(Protocol):
    """What is trained on; a DataSet is such, and a RoadFolder."""

    @property
    def class_names(self) -> Sequence[str]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


class Batches:
    """The batch of each step, from the plan's seed: images with random flips and lights, and their classes.

    Which samples, and all that is random, follows from the seed and the number of the step alone. With a plan that
    distils, also what the twin makes of the images as they are in the data set.
    """

    def __init__(self, plan: Plan, data: Samples, preprocessing: dict[str, Any], device: str = "cpu"):
        self.plan, self.data, self.device = plan, data, device
        self.mean, self.std = (torch.tensor(preprocessing[k]).reshape(1, 3, 1, 1) for k in ("mean", "std"))
        self.scale = preprocessing["scale"]
        # the image has 3 bytes a pixel, the truth one
        self.read = lru_cache(maxsize=max(1, CACHED_BYTES // (4 * self._read(0).truth.size)))(self._read)
        teacher = load_compact(Path(plan.init)) if plan.distil and plan.init is not None else None
        self.soft = None if teacher is None else SoftLabels(teacher.to(device))
        self.order = lru_cache(maxsize=2)(self._order)

    def _read(self, index: int) -> Sample:
        """A sample: as it is where parts are cut out of it, else in the plan's size."""
        sample = self.data[index]
        if self.plan.scales is not None:
            return sample
        return Sample(sample.name, *resize(sample.image, sample.truth, self.plan.size))

    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.plan.seed, epoch]).permutation(len(self.data))

    def _indices(self, step: int) -> list[int]:
        """Positions step * batch and following in an endless row of shuffled epochs."""
        count, first = len(self.data), step * self.plan.batch
        return [int(self.order(place // count)[place % count]) for place in range(first, first + self.plan.batch)]

    def __call__(self, step: int) -> Batch:
        rng = np.random.default_rng([self.plan.seed, step, 1])
        images, truths, taught = [], [], []
        for index in self._indices(step):
            sample = self.read(index)
            answer = self.soft(index, sample.image) if self.soft is not None else None
            if self.plan.scales is not None:
                sample = random_crop(sample, rng, self.plan.size, self.plan.scales, flip=False, outside=IGNORED)
            image, truth = sample.image, sample.truth
            if rng.random() < 0.5:
                image, truth = image[:, ::-1], truth[:, ::-1]
                answer = answer.flip(2) if answer is not None else None
            brightness, contrast = rng.uniform(0.75, 1.25), rng.uniform(0.8, 1.2)
            tinted = torch.from_numpy(image.copy()).permute(2, 0, 1).float() * (brightness * contrast)
            images.append((tinted + 128 * (1 - contrast)).clamp(0, 255))
            truths.append(torch.from_numpy(truth.copy()).long())
            taught += [answer] if answer is not None else []
        x, y = torch.stack(images), torch.stack(truths)
        soft = torch.stack(taught).float() if taught else None
        if self.plan.half(step):
            x, y = F.avg_pool2d(x, 2), y[:, ::2, ::2]
            soft = F.avg_pool2d(soft, 2) if soft is not None else None
        x = (x * self.scale - self.mean) / self.std
        x = x.contiguous(memory_format=torch.channels_last).to(self.device)
        return x, y.contiguous().to(self.device), None if soft is None else soft.to(self.device)


class Ahead:
    """Batches of the next steps, made in threads while a step is trained: the same ones, each from its number alone."""

    def __init__(self, batches: Batches, workers: int):
        self.batches, self.workers = batches, workers
        self.threads = ThreadPoolExecutor(max(workers, 1))
        self.begun: dict[int, Future[Batch]] = {}

    def __call__(self, step: int) -> Batch:
        if not self.workers:
            return self.batches(step)
        for later in range(step, min(step + self.workers + 1, self.batches.plan.total)):
            if later not in self.begun:
                self.begun[later] = self.threads.submit(self.batches, later)
        return self.begun.pop(step).result()


def class_weights(plan: Plan, data: Samples) -> Tensor | None:
    """Of the classes in the loss, float32; InputError where there is not one for each."""
    if plan.weights is None:
        return None
    if len(plan.weights) != len(data.class_names):
        raise InputError(
            f"{len(plan.weights)} weights were given for the {len(data.class_names)} classes of the data set"
        )
    return torch.tensor(plan.weights)
