"""An image and its segmentations, side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from tvm_bnn.report.compare import wording
from tvm_bnn.report.compare.content import Sample, Task
from tvm_bnn.report.compare.pictures import style

_COLUMNS = 2


def panels(sample: Sample) -> dict[str, str]:
    """Caption -> file, in the order in which they are shown."""
    found = {"image": sample.image, "truth": sample.truth, **sample.predictions}
    if sample.difference is not None:
        part = "" if sample.differing is None else f": {wording.share(sample.differing)}"
        found[f"differing{part}"] = sample.difference
    return found


def is_complete(sample: Sample, folder: Path) -> bool:
    """Whether all files are there."""
    return all((folder / file).is_file() for file in panels(sample).values())


@style.styled
def samples(sample: Sample, task: Task, folder: Path, title: str) -> Figure:
    """Image, truth, each network's classes, and where they differ, with a legend of the classes in sight.

    folder : that the files are in, all of them.
    """
    shown = panels(sample)
    rows = -(-len(shown) // _COLUMNS)
    images = [np.asarray(Image.open(folder / file).convert("RGB")) for file in shown.values()]
    height, width = images[0].shape[:2]
    # image, then class maps, and last where they differ
    maps = images[1 : 2 + len(sample.predictions)]
    seen = {tuple(map(int, colour)) for each in maps for colour in np.unique(each.reshape(-1, 3), axis=0)}
    classes = [pair for pair in zip(task.class_names, task.palette, strict=False) if tuple(pair[1]) in seen]
    tall = rows * (style.WIDTH / _COLUMNS * height / width + 0.3)
    made = style.blank(tall + 0.22 * -(-len(classes) // 3), title, between=0.06)
    grid = made.subplots(rows, _COLUMNS, squeeze=False).flat
    for axes in grid:
        axes.set_axis_off()
    for axes, caption, image in zip(made.axes, shown, images, strict=False):
        axes.imshow(image, interpolation="nearest")
        axes.set_title(style.shortened(caption, 22), loc="left")
    patches = [Patch(facecolor=f"#{bytes(colour).hex()}", edgecolor=style.BLACK) for _, colour in classes]
    style.legend(made, patches, [name for name, _ in classes], columns=3)
    return made
