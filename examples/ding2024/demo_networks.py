"""The three networks of the demonstration, side by side: accuracy on test scenes, latency, size of the file."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from tvm_bnn.console import Progress
from tvm_bnn.examples.ding2024.accuracy import iou, normalise
from tvm_bnn.examples.ding2024.model import Ding2024
from tvm_bnn.examples.ding2024.road_folder import CLASSES
from tvm_bnn.examples.ding2024.road_scenes import SceneId, scene
from tvm_bnn.report.timing import Timing, interleave
from tvm_bnn.runtime import Artifact

TWIN, BINARY, COMPILED = "PyTorch, float twin", "PyTorch, binary", "compiled, binary"
SPLIT = "testing"


@dataclass(frozen=True)
class Scene:
    """One test scene: image uint8 [H, W, 3], true classes uint8 [H, W]."""

    name: str
    image: np.ndarray
    truth: np.ndarray


@dataclass(frozen=True)
class Network:
    """One of the three.

    run : image float32 [1, 3, H, W], normalised -> classes int64 [1, H, W]. bytes : of its file.
    """

    title: str
    run: Callable[[Tensor], Tensor]
    bytes: int


@dataclass(frozen=True)
class Result:
    """What was measured of one network.

    iou : percent of each class that occurs in road_folder.CLASSES, and their mean, "mIoU". classes : its answers, uint8
    [H, W] for each scene.
    """

    title: str
    iou: Mapping[str, float]
    timing: Timing
    bytes: int
    classes: Sequence[np.ndarray]


def draw(count: int, size: tuple[int, int], progress: Progress) -> list[Scene]:
    """The first `count` scenes of the test split, which neither training nor its choices have seen."""
    drawn = []
    with progress.phase("draw test scenes") as detail:
        for index in range(count):
            detail(f"{index + 1} of {count}")
            which = SceneId(SPLIT, index)
            drawn.append(Scene(which.name, *scene(which, size)))
    return drawn


def three(twin: Ding2024, binary: Ding2024, compiled: Artifact, compiled_bytes: int) -> list[Network]:
    """The networks to compare. A PyTorch network's file is its state_dict as torch.save writes it, in float32."""
    return [
        Network(TWIN, twin, saved_bytes(twin)),
        Network(BINARY, binary, saved_bytes(binary)),
        Network(COMPILED, compiled, compiled_bytes),
    ]


def saved_bytes(model: nn.Module) -> int:
    """Size of the model's weights as PyTorch saves them."""
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    return len(file.getvalue())


def segment(network: Network, scenes: Sequence[Scene], preprocessing: dict, progress: Progress) -> list[np.ndarray]:
    """The network's classes, uint8 [H, W], for each scene."""
    answers = []
    with progress.phase(f"segment: {network.title}") as detail, torch.no_grad():
        for index, one in enumerate(scenes):
            detail(f"{index + 1} of {len(scenes)}")
            answers.append(network.run(normalise(one.image, preprocessing))[0].to(torch.uint8).numpy())
    return answers


def measure(
    networks: Sequence[Network], scenes: Sequence[Scene], preprocessing: dict, rounds: int, progress: Progress
) -> list[Result]:
    """Segment every scene with every network, then time them in turns on the first one, argmax included.

    PyTorch's number of threads counts for the times. The scenes are segmented with one: on a busy machine, threads
    that wait for each other cost more than they gain.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        answers = {network.title: segment(network, scenes, preprocessing, progress) for network in networks}
    finally:
        torch.set_num_threads(threads)
    truths = [torch.from_numpy(one.truth) for one in scenes]
    with progress.phase("measure latency"), torch.no_grad():
        image = normalise(scenes[0].image, preprocessing).contiguous()
        timings = interleave({network.title: partial(network.run, image) for network in networks}, rounds)
    results = []
    for network in networks:
        pairs = zip(map(torch.from_numpy, answers[network.title]), truths, strict=True)
        percent = iou(pairs, len(CLASSES))
        results.append(Result(network.title, percent, timings[network.title], network.bytes, answers[network.title]))
    return results


def agreement(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> float:
    """Share of pixels with the same class, over all scenes."""
    return float(np.mean([np.mean(a == b) for a, b in zip(one, other, strict=True)]))
