"""What a training run does, as plain data; and two presets.

`published` follows what is public of training binary networks for segmentation and binary networks in two stages:

- Group-Net's code for segmentation (github.com/bohanzhuang/Group-Net-semantic-segmentation, option.py, train.py and
  encoding/utils/lr_scheduler.py): Adam, weight decay 1e-4, batches of 16, crops of 480x480 from images scaled by 0.5 to
  2 and mirrored, rate * (1 - done)^0.9. Its table of defaults has 240 epochs at a rate of 4e-3 for Cityscapes; a data
  set without a row of its own takes that of the augmented PASCAL VOC, 80 epochs at 1e-3.
- ReActNet's and Bi-Real Net's two stages of equal length, first with binary activations alone, then with binary weights
  as well (github.com/liuzechun/ReActNet, resnet/1_step1/run.sh and 2_step2/run.sh); the epochs are halved between them.

What it leaves out: weights from ImageNet to start with, which those networks had, and the tenfold rate of layers that
did not come from there.

`small` is what the shipped networks were trained with: minutes on one core. It is nobody's published setting.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, cos, pi
from typing import Any

from tvm_bnn.errors import InputError
from tvm_bnn.examples.data.task import Task
from tvm_bnn.examples.ding2024.config import DEMO, Ding2024Config

WARM_UP = 20
COOLING = 100

#: Name -> share of the highest rate, by the share of the stage that is done.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda done: 0.5 + 0.5 * cos(pi * done),
    "poly": lambda done: (1 - done) ** 0.9,
}
VARIANTS = ("twin", "binary")


@dataclass(frozen=True)
class Plan:
    """What a run does; two runs of one plan on the same data and processor give the same network.

    variant : "twin" or "binary". branches : K. attention, upsampling, width, decoder_channels : see Ding2024Config.
    steps : optimiser steps of each stage, two or more. grow : share of stage two that, as stage one, sees half-size
    images; none means that no step does. rates : highest learning rate of stage one and of the later ones. schedule :
    how they fall, a key of SCHEDULES. weight_decay : of Adam. size : (H, W) of training images. scales : crop parts of
    that size out of images that are scaled by a factor between these; none means whole images in that size. test_size :
    (H, W) of images afterwards; none means `size`. init : float twin to start from, for a binary network. distil :
    weight of the loss against that twin's answers. bfloat16 : convolve in bfloat16 while training; faster where the
    processor has it, slower elsewhere. weights : of the classes in the loss against the truth; none means equal ones.
    until : end at that step, before the stages do; over the last COOLING steps the rate then falls to 0.

    InputError for what cannot be.
    """

    variant: str = "binary"
    branches: int = 1
    steps: tuple[int, ...] = (600, 600)
    grow: float | None = 0.3
    rates: tuple[float, float] = (2e-3, 1e-3)
    batch: int = 8
    seed: int = 0
    size: tuple[int, int] = DEMO.input_size
    init: str | None = None
    distil: float = 0.0
    bfloat16: bool = False
    weights: tuple[float, ...] | None = None
    until: int | None = None
    attention: str = DEMO.attention
    upsampling: str = DEMO.upsampling
    width: int = DEMO.width
    decoder_channels: int = DEMO.decoder_channels
    schedule: str = "cosine"
    weight_decay: float = 0.0
    scales: tuple[float, float] | None = None
    test_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise InputError(f"variant is {self.variant!r}; accepted: {', '.join(VARIANTS)}")
        if self.schedule not in SCHEDULES:
            raise InputError(f"schedule is {self.schedule!r}; accepted: {', '.join(SCHEDULES)}")
        if len(self.steps) < 2:
            raise InputError(f"steps are given for {len(self.steps)} stage; there are two stages or more")
        if min(self.steps) < 0 or not self.total:
            raise InputError(f"found steps {list(self.steps)}; each stage has 0 or more, and all together one or more")
        if self.distil and self.init is None:
            raise InputError("distil needs a float twin to learn from; give one as init")
        if self.distil and self.scales is not None:
            raise InputError("distil needs whole images, of which the twin has answers; leave out scales")
        if self.seed < 0:
            raise InputError(f"found seed {self.seed}; accepted: 0 up")
        multiple = 32 if self.grow is None else 64
        if any(side < 1 or side % multiple for side in self.size):
            raise InputError(f"found images of {self.size}; accepted: multiples of {multiple}, and of 32 without grow")
        self.config(2)

    def config(self, classes: int) -> Ding2024Config:
        """The network, which gives logits."""
        try:
            return Ding2024Config(
                width=self.width,
                decoder_channels=self.decoder_channels,
                branches=self.branches,
                upsampling=self.upsampling,
                attention=self.attention,
                classes=classes,
                argmax=False,
                input_size=self.test_size or self.size,
            )
        except ValueError as error:
            raise InputError(str(error)) from error

    @property
    def total(self) -> int:
        return sum(self.steps) if self.until is None else min(self.until, sum(self.steps))

    @property
    def starts(self) -> list[int]:
        """The first step of each stage."""
        return [sum(self.steps[:stage]) for stage in range(len(self.steps))]

    def stage(self, step: int) -> int:
        return max(stage for stage, start in enumerate(self.starts) if start <= step)

    def continues(self, other: "Plan", step: int) -> bool:
        """Whether the first steps of both plans are the same: they differ in what comes later, if at all."""
        stage = self.stage(max(step - 1, 0))
        same = self.steps[: stage + 1] == other.steps[: stage + 1]
        same &= self.until == other.until or step <= min(self.total, other.total) - COOLING
        return same and replace(other, steps=self.steps, until=self.until) == self

    def half(self, step: int) -> bool:
        return self.grow is not None and step < self.steps[0] + self.grow * self.steps[1]

    def rate(self, step: int) -> float:
        """Warm-up, then down to 0, in each stage; sooner at the end of a plan that leaves its stages."""
        stage = self.stage(step)
        inside = step - self.starts[stage]
        left = SCHEDULES[self.schedule](inside / self.steps[stage])
        cooling = 1.0 if self.until is None else min(1.0, (self.total - step) / COOLING)
        return self.rates[min(stage, 1)] * left * min(1.0, (inside + 1) / WARM_UP) * cooling


def as_plan(fields: dict[str, Any]) -> Plan:
    """The plan of these fields, with lists where it has tuples, as JSON has them."""
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    return Plan(**fields)


_SMALL_SIZES = {"cityscapes": (96, 192), "kitti-road": (64, 192), "ecssd": (96, 128)}
_WHOLE_SIZES = {"cityscapes": (1024, 2048), "kitti-road": (384, 1248), "ecssd": (320, 416)}
_PUBLISHED_ROWS = {"cityscapes": (240, 4e-3)}  # epochs, rate
_PUBLISHED_ROW = (80, 1e-3)


def _small(task: Task, _samples: int) -> Plan:
    return Plan(width=16, decoder_channels=32, steps=(70, 150), grow=None, size=_SMALL_SIZES[task.name])


def _published(task: Task, samples: int) -> Plan:
    epochs, rate = _PUBLISHED_ROWS.get(task.name, _PUBLISHED_ROW)
    steps = ceil(epochs * samples / 16)
    return Plan(
        width=64,
        decoder_channels=128,
        steps=(steps // 2, steps - steps // 2),
        grow=None,
        rates=(rate, rate),
        batch=16,
        schedule="poly",
        weight_decay=1e-4,
        size=(480, 480),
        scales=(0.5, 2.0),
        test_size=_WHOLE_SIZES[task.name],
    )


#: Name -> plan, from the task and the number of training samples.
PRESETS: dict[str, Callable[[Task, int], Plan]] = {"small": _small, "published": _published}
