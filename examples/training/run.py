"""One training run: optimiser steps, its file of progress, and the compact checkpoint at its end.

Two stages, as in Bi-Real Net and ReActNet: first the activations are binary and the weights real, then both are
binary. Where a plan says so, work is saved by starting small: stage one, and a first part of stage two, see the images
at half their size, the rest at full size. (The twin has the same two stages of sizes, with nothing binary.) Further
stages repeat the second at full size, the learning rate starting anew; a finished run can be given more of them.
With `distil` the twin teaches as well (see distil.py).
A run that was stopped continues from its last saved step: the batches, their augmentation and the learning rate follow
from the seed and the number of the step alone. On a CPU, what comes out is then the same, bit for bit.
"""

import io
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from tvm_bnn.artifact import whole_file
from tvm_bnn.errors import InputError, OutputError
from tvm_bnn.examples.ding2024.model import Ding2024
from tvm_bnn.examples.ding2024.twin import FLOAT_CONVOLUTIONS, float_twin
from tvm_bnn.examples.ding2024.weights import load_compact, round_compact, save_compact
from tvm_bnn.examples.training.batches import IGNORED, Ahead, Batches, Samples, class_weights
from tvm_bnn.examples.training.plan import Plan, as_plan

LOSS_EVERY = 10  # steps that a point of the loss curve is the mean of

#: Is told of every step: how many are done, and the loss.
Watcher = Callable[[int, float], None]


def _real_weights(model: nn.Module) -> None:
    """Stage one: every binary convolution becomes a float one of the same parameters."""
    for name, child in model.named_children():
        if type(child) in FLOAT_CONVOLUTIONS:
            conv = FLOAT_CONVOLUTIONS[type(child)](child)
            for parameter, value in child.named_parameters():
                setattr(conv, parameter, value)
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
    config = plan.config(classes)
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


class Run:
    """One training run and its file of progress, `state`.

    losses : the loss curve, pairs of a number of steps and the mean loss of the LOSS_EVERY steps before.
    device : "cpu" or "cuda"; a run may go on on another one. workers : threads that prepare batches ahead; none means
    that each is prepared when its step comes.
    """

    def __init__(self, plan: Plan, data: Samples, state: Path, device: str = "cpu", workers: int = 0):
        self.plan, self.state, self.device = plan, state, device
        self.model = fresh(plan, len(data.class_names)).to(device)
        self.batches = Batches(plan, data, self.model.preprocessing, device)
        self.ahead = Ahead(self.batches, workers)
        weights = class_weights(plan, data)
        self.weights = None if weights is None else weights.to(device)
        self.step, self.seconds = 0, 0.0
        self.losses: list[tuple[int, float]] = []
        self.recent: list[float] = []
        saved = torch.load(state, map_location=device, weights_only=True) if state.exists() else None
        if saved is not None and not plan.continues(as_plan(json.loads(saved["plan"])), saved["step"]):
            raise InputError(f"{state} is of a run with another plan: {saved['plan']}; delete it or give another OUT")
        self._enter(plan.stage(saved["step"] if saved else 0))
        if saved is not None:
            self.model.load_state_dict(saved["model"])
            self.optimiser.load_state_dict(saved["optimiser"])
            self.step, self.seconds, self.recent = saved["step"], saved["seconds"], saved["recent"]
            self.losses = [(step, loss) for step, loss in saved["losses"]]

    def _enter(self, stage: int) -> None:
        """Begin a stage with the weights at hand."""
        if self.plan.variant == "binary":
            binary = Ding2024(self.model.config)
            binary.load_state_dict(self.model.state_dict())
            if stage == 0:
                _real_weights(binary)
            self.model = binary.to(self.device)
        self.model.train()
        for parameter in self.model.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self.optimiser = torch.optim.Adam(self.model.parameters(), weight_decay=self.plan.weight_decay)

    def advance(self) -> float:
        """One optimiser step; its loss."""
        begun = time.perf_counter()
        if self.step in self.plan.starts[1:]:
            self._enter(self.plan.stage(self.step))
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.rate(self.step)
        loss = self._loss(*self.ahead(self.step))
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.step += 1
        value = float(loss.detach())
        self.recent.append(value)
        if len(self.recent) == LOSS_EVERY:
            self.losses.append((self.step, sum(self.recent) / LOSS_EVERY))
            self.recent = []
        self.seconds += time.perf_counter() - begun
        return value

    def _loss(self, images: Tensor, truth: Tensor, soft: Tensor | None) -> Tensor:
        """Cross-entropy against the truth, and against the twin's probabilities on its coarse grid."""
        with torch.autocast(self.device, torch.bfloat16, enabled=self.plan.bfloat16):
            coarse = self.model.coarse(images)
        coarse = coarse.float()
        logits = F.interpolate(coarse, size=images.shape[2:], mode="bilinear", align_corners=False)
        loss = F.cross_entropy(logits, truth, self.weights, ignore_index=IGNORED)
        return loss if soft is None else loss + self.plan.distil * F.cross_entropy(coarse, soft)

    def save(self) -> None:
        """Write the progress, whole or not at all. Raises OutputError."""
        content = {
            "plan": json.dumps(asdict(self.plan)),
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "losses": self.losses,
            "recent": self.recent,
        }
        whole = io.BytesIO()
        torch.save(content, whole)
        with whole_file(self.state) as file:
            file.write(whole.getbuffer())

    def network(self, argmax: bool) -> Ding2024:
        """What is trained so far, as a compact checkpoint gives it back: rounded, in eval mode, on the CPU.

        argmax : whether it gives class maps; else logits.
        """
        config = replace(self.model.config, argmax=argmax)
        model = float_twin(config) if self.plan.variant == "twin" else Ding2024(config)
        model.load_state_dict(self.model.state_dict())
        round_compact(model, self.plan.variant)
        return model.eval()

    def write(self, out: Path, network: Ding2024, notes: dict[str, str] | None = None) -> None:
        """Write a compact checkpoint of what `network` gave, with the plan, the seconds that it took, and the notes."""
        about = {"plan": json.dumps(asdict(self.plan)), "seconds": f"{self.seconds:.0f}", "device": self.device}
        about["threads"] = str(torch.get_num_threads())
        with writing(out):
            save_compact(network, out, self.plan.variant, {**about, **(notes or {})})


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """OutputError, in one line, for what goes wrong inside while a file or folder is written."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def train(
    plan: Plan,
    data: Samples,
    out: Path,
    device: str = "cpu",
    save_every: int = 50,
    stop_after: int | None = None,
    watch: Watcher = lambda step, loss: None,
    workers: int = 0,
) -> Run:
    """Run the plan, or go on with it; the caller writes what came out, with `Run.write`.

    Progress is kept beside `out`, in NAME.state. stop_after : leave early, after that many steps in all.
    """
    with writing(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
    run = Run(plan, data, out.with_suffix(".state"), device, workers)
    while run.step < min(plan.total, plan.total if stop_after is None else stop_after):
        watch(run.step + 1, run.advance())
        if run.step % save_every == 0 or run.step == plan.total:
            run.save()
    return run


@contextmanager
def shown(name: str, total: int, done: int = 0) -> Iterator[Watcher]:
    """A bar with the remaining time on stderr, for `train` to move; silent where stderr is no terminal."""
    console = Console(stderr=True)
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=total, completed=done)
        average: list[float] = []

        def watch(step: int, loss: float) -> None:
            average[:] = [0.95 * average[0] + 0.05 * loss] if average else [loss]
            progress.update(task, completed=step, description=f"{name} loss {average[0]:.3f}")

        yield watch
