"""Side-by-side segmentations: the first images of each task as PNG files beside the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tvm_bnn.artifact import make_folder, whole_file
from tvm_bnn.report.compare.content import Network, Sample, Task
from tvm_bnn.report.compare.judging import png, unpacked
from tvm_bnn.report.compare.measure import Measured

FOLDER = "samples"
#: Where two networks differ, and where they agree; pixels that no metric counts.
_DIFFERENT, _SAME, _IGNORED = (213, 94, 0), (225, 225, 225), (0, 0, 0)


def write(measured: Measured, folder: Path) -> list[Sample]:
    """Write the pictures to `folder`/samples; the samples with their file names. Raises OutputError."""
    make_folder(folder / FOLDER)
    found = []
    for name, task in measured.tasks.items():
        answers = {network: unpacked(texts) for network, texts in measured.answers.get(name, {}).items()}
        pair = _compared({network: measured.networks[network] for network in answers})
        shown = min((len(maps) for maps in answers.values()), default=0)
        for place, sample in enumerate(measured.images[name].samples[:shown]):
            maps = {network: of_network[place] for network, of_network in answers.items()}
            found.append(_sample(folder, name, task, place, sample.name, sample.image, sample.truth, maps, pair))
    return found


def _sample(
    folder: Path,
    name: str,
    task: Task,
    place: int,
    title: str,
    image: np.ndarray,
    truth: np.ndarray,
    maps: dict[str, np.ndarray],
    pair: tuple[str, str] | None,
) -> Sample:
    def saved(what: str, pixels: np.ndarray) -> str:
        path = f"{FOLDER}/{name}-{place}-{what}.png"
        with whole_file(folder / path) as file:
            file.write(png(pixels))
        return path

    predictions = {
        network: saved(f"network{number}", coloured(classes, task.palette))
        for number, (network, classes) in enumerate(maps.items())
    }
    differing = None if pair is None else maps[pair[0]] != maps[pair[1]]
    return Sample(
        task=name,
        name=title,
        image=saved("image", image),
        truth=saved("truth", coloured(truth, task.palette)),
        predictions=predictions,
        difference=None if differing is None else saved("difference", _highlighted(differing)),
        differing=None if differing is None else float(np.mean(differing)),
    )


def coloured(classes: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Classes [H, W] as colours uint8 [H, W, 3]; what is no class is black."""
    colours = np.full((256, 3), _IGNORED, np.uint8)
    colours[: len(palette)] = palette
    return colours[classes]


def _highlighted(differing: np.ndarray) -> np.ndarray:
    return np.array([_SAME, _DIFFERENT], np.uint8)[differing.astype(np.uint8)]


def _compared(networks: dict[str, Network]) -> tuple[str, str] | None:
    """The last binary network and its twin."""
    pairs = [(network.twin, name) for name, network in networks.items() if network.twin and network.twin in networks]
    return pairs[-1] if pairs else None
