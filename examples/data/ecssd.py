"""ECSSD: 1000 pictures of salient objects (https://www.cse.cuhk.edu.hk/leojia/projects/hsaliency/dataset.html).

    ROOT/images/0001.jpg
    ROOT/ground_truth_mask/0001.png     white where an object is

The figures that others publish are of all 1000 pictures, by networks that were trained on others: split `all`. To train
here, a fifth is held out as `val`; what is trained on `train` must not be measured on `all`.
"""

import numpy as np
from numpy.random import Generator

from tvm_bnn.examples.data.layout import Encoding, Key, Layout, Split
from tvm_bnn.examples.data.salient_scenes import render
from tvm_bnn.examples.data.task import Generated, Task

_COMPLETE = tuple((f"{number:04d}",) for number in range(1, 1001))


def from_mask(pixels: np.ndarray) -> np.ndarray:
    """Greys uint8 -> 1 in the lighter half, else 0."""
    return (pixels > 127).astype(np.uint8)


def to_mask(classes: np.ndarray) -> np.ndarray:
    """0 and 1 -> black and white."""
    return classes * np.uint8(255)


def _draw(rng: Generator, size: tuple[int, int], _index: int) -> tuple[np.ndarray, np.ndarray]:
    return render(rng, size)


def _key(index: int) -> Key:
    return (f"{index + 1:04d}",)


def _one_group(_key: Key) -> str:
    return ""


ECSSD = Task(
    name="ecssd",
    palette={"background": (0, 0, 0), "object": (230, 159, 0)},
    ignored=None,
    layout=Layout(
        name="ecssd",
        folders=("ECSSD", "ecssd"),
        images="images/{number}.jpg",
        truths=(Encoding("ground_truth_mask/{number}.png", "L", from_mask, to_mask),),
        splits={
            "train": Split("", _COMPLETE, "rest"),
            "val": Split("", _COMPLETE, "held"),
            "all": Split("", _COMPLETE),
        },
        key=_key,
        group=_one_group,
        source="images.zip and ground_truth_mask.zip of www.cse.cuhk.edu.hk/leojia/projects/hsaliency have it",
    ),
    generated=Generated("synthetic-salient", _draw, (288, 384)),
)
