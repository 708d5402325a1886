"""Train the network, or its float twin, on a folder in the layout of the KITTI road benchmark (see road_folder.py).

    python -m tvm_bnn.examples.ding2024.train DATA OUT/twin.safetensors --variant twin
    python -m tvm_bnn.examples.ding2024.train DATA OUT/k3.safetensors --branches 3 --init OUT/twin.safetensors \
        --distil 1

Two stages, as in Bi-Real Net and ReActNet: first the activations are binary and the weights real, then both are
binary. Half of the pixels' work is saved by starting small: stage one, and a first part of stage two, see the images
at half their size, the rest at full size. (The twin has the same two stages of sizes, with nothing binary.) Further
stages repeat the second at full size, the learning rate starting anew; a finished run can be given more of them.
With --distil the twin teaches as well (see distil.py).
A run that was stopped continues from its last saved step: the batches, their augmentation and the learning rate follow
from the seed and the number of the step alone.
"""

import argparse
import json
import os
import re
import time
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from tvm_bnn.errors import BnnError, InputError
from tvm_bnn.examples.data.transforms import resize
from tvm_bnn.examples.ding2024.accuracy import evaluate
from tvm_bnn.examples.ding2024.config import DEMO
from tvm_bnn.examples.ding2024.distil import SoftLabels
from tvm_bnn.examples.ding2024.model import Ding2024
from tvm_bnn.examples.ding2024.road_folder import IGNORED, RoadFolder
from tvm_bnn.examples.ding2024.twin import float_twin
from tvm_bnn.examples.ding2024.weights import load_compact, save_compact
from tvm_bnn.nn import BinaryConv2d

WARM_UP = 20
COOLING = 100
CACHED = 2000  # decoded images that are kept


@dataclass(frozen=True)
class Plan:
    """What a run does; two runs of one plan on the same data give the same network.

    variant : "twin" or "binary". branches : K. steps : optimiser steps of each stage, two or more. grow : share of
    stage two that still sees half-size images. rates : highest learning rate of stage one and of the later ones.
    size : (H, W) of full images. init : float twin to start from, for a binary network. distil : weight of the
    loss against that twin's answers. bfloat16 : convolve in bfloat16 while training; faster where the
    processor has it, slower elsewhere. weights : of the classes in the loss against the truth; none means equal ones.
    until : end at that step, before the stages do; over the last COOLING steps the rate then falls to 0.
    """

    variant: str = "binary"
    branches: int = 1
    steps: tuple[int, ...] = (600, 600)
    grow: float = 0.3
    rates: tuple[float, float] = (2e-3, 1e-3)
    batch: int = 8
    seed: int = 0
    size: tuple[int, int] = DEMO.input_size
    init: str | None = None
    distil: float = 0.0
    bfloat16: bool = False
    weights: tuple[float, ...] | None = None
    until: int | None = None

    def __post_init__(self) -> None:
        if self.variant not in ("twin", "binary"):
            raise ValueError(f"variant is {self.variant!r}; accepted: twin, binary")
        if len(self.steps) < 2:
            raise ValueError(f"steps are given for {len(self.steps)} stage; there are two stages or more")
        if self.distil and self.init is None:
            raise ValueError("distil needs a float twin to learn from; give one as init")

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
        return step < self.steps[0] + self.grow * self.steps[1]

    def rate(self, step: int) -> float:
        """Warm-up, then half a cosine down to 0, in each stage; sooner at the end of a plan that leaves its stages."""
        stage = self.stage(step)
        inside = step - self.starts[stage]
        cosine = 0.5 + 0.5 * np.cos(np.pi * inside / self.steps[stage])
        cooling = 1.0 if self.until is None else min(1.0, (self.total - step) / COOLING)
        return self.rates[min(stage, 1)] * float(cosine) * min(1.0, (inside + 1) / WARM_UP) * cooling


def as_plan(fields: dict[str, Any]) -> Plan:
    """The plan of these fields, with lists where it has tuples."""
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    return Plan(**fields)


def _real_weights(model: nn.Module) -> None:
    """Stage one: every binary convolution becomes a float one of the same parameters."""
    for name, child in model.named_children():
        if isinstance(child, BinaryConv2d):
            geometry = (child.kernel_size, child.stride, child.padding, child.dilation, child.groups)
            conv = nn.Conv2d(child.in_channels, child.out_channels, *geometry, bias=child.bias is not None)
            conv.weight, conv.bias = child.weight, child.bias
            setattr(model, name, conv)
        else:
            _real_weights(child)


def start_from_twin(model: Ding2024, twin: Ding2024) -> None:
    """Copy what the twin has too; each branch begins as the twin's one with noise on it, else all would stay equal."""
    source, target = twin.state_dict(), model.state_dict()
    for name, value in target.items():
        origin = re.sub(r"((?:upsample\.branches|branches\.blocks)\.)\d+\.", r"\g<1>0.", name)
        if origin in source and source[origin].shape == value.shape:
            value.copy_(source[origin])
            if origin != name and value.dim() == 4:
                value.add_(torch.randn_like(value) * 0.5 * value.std())


def fresh(plan: Plan, classes: int) -> Ding2024:
    """The untrained network of a plan; it gives logits."""
    config = replace(DEMO, branches=plan.branches, classes=classes, input_size=plan.size, argmax=False)
    torch.manual_seed(plan.seed)
    if plan.variant == "twin":
        model = float_twin(config)
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.BatchNorm2d):
                module.reset_parameters()
        return model
    model = Ding2024(config)
    if plan.init is not None:
        start_from_twin(model, load_compact(Path(plan.init)))
    return model


class Batches:
    """The batch of each step, from the plan's seed: images with random flips and lights, and their classes.

    With a plan that distils, also what the twin makes of the images as they are in the folder.
    """

    def __init__(self, plan: Plan, folder: RoadFolder, model: Ding2024):
        self.plan, self.folder = plan, folder
        self.mean, self.std = (torch.tensor(model.preprocessing[k]).reshape(1, 3, 1, 1) for k in ("mean", "std"))
        self.scale = model.preprocessing["scale"]
        self.read = lru_cache(maxsize=CACHED)(self._read)
        self.soft = SoftLabels(load_compact(Path(plan.init))) if plan.distil and plan.init is not None else None
        self.order = lru_cache(maxsize=2)(self._order)

    def _read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return resize(self.folder.image(index), self.folder.truth(index), self.plan.size)

    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.plan.seed, epoch]).permutation(len(self.folder))

    def _indices(self, step: int) -> list[int]:
        """Positions step * batch and following in an endless row of shuffled epochs."""
        count, first = len(self.folder), step * self.plan.batch
        return [int(self.order(place // count)[place % count]) for place in range(first, first + self.plan.batch)]

    def __call__(self, step: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """float32 [batch, 3, H, W], int64 [batch, H, W], and probabilities float32 [batch, classes, H/4, W/4]."""
        rng = np.random.default_rng([self.plan.seed, step, 1])
        images, truths, taught = [], [], []
        for index in self._indices(step):
            image, truth = self.read(index)
            answer = self.soft(index, image) if self.soft is not None else None
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
        return x.contiguous(memory_format=torch.channels_last), y.contiguous(), soft


class Run:
    """One training run and its file of progress, `state`."""

    def __init__(self, plan: Plan, folder: RoadFolder, state: Path):
        self.plan, self.state = plan, state
        self.model = fresh(plan, folder.classes)
        self.batches = Batches(plan, folder, self.model)
        if plan.weights is not None and len(plan.weights) != folder.classes:
            raise InputError(f"{len(plan.weights)} weights were given for the {folder.classes} classes of the folder")
        self.weights = None if plan.weights is None else torch.tensor(plan.weights)
        self.step, self.seconds = 0, 0.0
        saved = torch.load(state, weights_only=True) if state.exists() else None
        if saved is not None and not plan.continues(as_plan(json.loads(saved["plan"])), saved["step"]):
            raise InputError(f"{state} is of a run with another plan: {saved['plan']}; delete it or give another OUT")
        self._enter(plan.stage(saved["step"] if saved else 0))
        if saved is not None:
            self.model.load_state_dict(saved["model"])
            self.optimiser.load_state_dict(saved["optimiser"])
            self.step, self.seconds = saved["step"], saved["seconds"]

    def _enter(self, stage: int) -> None:
        """Begin a stage with the weights at hand."""
        if self.plan.variant == "binary":
            binary = Ding2024(self.model.config)
            binary.load_state_dict(self.model.state_dict())
            if stage == 0:
                _real_weights(binary)
            self.model = binary
        self.model.train()
        for parameter in self.model.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self.optimiser = torch.optim.Adam(self.model.parameters())

    def advance(self) -> float:
        """One optimiser step; its loss."""
        begun = time.perf_counter()
        if self.step in self.plan.starts[1:]:
            self._enter(self.plan.stage(self.step))
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.rate(self.step)
        loss = self._loss(*self.batches(self.step))
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.step += 1
        self.seconds += time.perf_counter() - begun
        return float(loss.detach())

    def _loss(self, images: Tensor, truth: Tensor, soft: Tensor | None) -> Tensor:
        """Cross-entropy against the truth, and against the twin's probabilities on its coarse grid."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.plan.bfloat16):
            coarse = self.model.coarse(images)
        coarse = coarse.float()
        logits = F.interpolate(coarse, size=images.shape[2:], mode="bilinear", align_corners=False)
        loss = F.cross_entropy(logits, truth, self.weights, ignore_index=IGNORED)
        return loss if soft is None else loss + self.plan.distil * F.cross_entropy(coarse, soft)

    def save(self) -> None:
        """Write the progress, whole or not at all."""
        content = {
            "plan": json.dumps(asdict(self.plan)),
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        beside = self.state.with_suffix(".partial")
        torch.save(content, beside)
        os.replace(beside, self.state)

    def write(self, out: Path) -> None:
        """Write the trained network, which gives class maps, with the plan and the seconds that it took."""
        self.model.config = replace(self.model.config, argmax=True)
        notes = {"plan": json.dumps(asdict(self.plan)), "seconds": f"{self.seconds:.0f}"}
        notes["threads"] = str(torch.get_num_threads())
        save_compact(self.model, out, self.plan.variant, notes)


def train(plan: Plan, data: Path, out: Path, save_every: int = 50, stop_after: int | None = None) -> Run:
    """Run the plan, or go on with it, and write the compact checkpoint to `out` at its end.

    Progress is kept beside `out`, in NAME.state. stop_after : leave early, after that many steps in all.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    run = Run(plan, RoadFolder.open(data, "training"), out.with_suffix(".state"))
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    with Progress(*columns) as progress:
        task = progress.add_task(out.stem, total=plan.total, completed=run.step)
        average = None
        while run.step < min(plan.total, plan.total if stop_after is None else stop_after):
            loss = run.advance()
            average = loss if average is None else 0.95 * average + 0.05 * loss
            progress.update(task, completed=run.step, description=f"{out.stem} loss {average:.3f}")
            if run.step % save_every == 0 or run.step == plan.total:
                run.save()
                progress.console.print(f"step {run.step} loss {average:.4f} after {run.seconds:.0f} s")
    if run.step == plan.total:
        run.write(out)
    return run


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train the network of Ding et al. 2024, or its float twin.")
    parser.add_argument("data", type=Path, help="folder in the layout of the KITTI road benchmark")
    parser.add_argument("out", type=Path, help="compact checkpoint to write, NAME.safetensors")
    parser.add_argument("--variant", choices=["twin", "binary"], default=Plan.variant)
    parser.add_argument("--branches", type=int, default=Plan.branches, metavar="K")
    parser.add_argument("--init", help="float twin to start a binary network from")
    parser.add_argument("--distil", type=float, default=Plan.distil, help="weight of the loss against that twin")
    parser.add_argument("--steps", type=int, nargs="+", default=Plan.steps, help="of each stage, two or more")
    parser.add_argument("--until", type=int, metavar="STEP", help="end there, before the stages do")
    parser.add_argument("--grow", type=float, default=Plan.grow, help="share of stage two on half-size images")
    parser.add_argument("--rates", type=float, nargs=2, default=Plan.rates, metavar=("STAGE1", "STAGE2"))
    parser.add_argument("--batch", type=int, default=Plan.batch)
    parser.add_argument("--size", type=int, nargs=2, default=Plan.size, metavar=("H", "W"))
    parser.add_argument("--weights", type=float, nargs="+", help="of the classes in the loss; default equal ones")
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--bfloat16", action="store_true", help="convolve in bfloat16 while training")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser


def main(arguments: list[str] | None = None) -> int:
    given = vars(_parser().parse_args(arguments))
    data, out = given.pop("data"), given.pop("out")
    torch.set_num_threads(given.pop("threads"))
    try:
        plan = as_plan(given)
    except ValueError as error:
        print(f"error: {error}")
        return 2
    try:
        train(plan, data, out)
        model = load_compact(out)
        folder = RoadFolder.open(data, "validation")
        print(json.dumps({"validation": evaluate(model, model.preprocessing, folder)}))
    except BnnError as error:
        print(f"error: {error}")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
