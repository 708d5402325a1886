"""Cityscapes: street scenes in 19 classes (https://www.cityscapes-dataset.com).

    ROOT/leftImg8bit/{train,val}/CITY/CITY_000000_000019_leftImg8bit.png
    ROOT/gtFine/{train,val}/CITY/CITY_000000_000019_gtFine_labelIds.png (or _labelTrainIds.png)

The truth of its test split is private: the files there say nothing.
"""

import numpy as np
from numpy.random import Generator

from tvm_bnn.examples.data.layout import Encoding, Key, Layout, Split
from tvm_bnn.examples.data.street_scenes import IGNORED, render
from tvm_bnn.examples.data.task import Generated, Task
from tvm_bnn.examples.ding2024.labels import CITYSCAPES as PALETTE

#: Label id of each training class, in the order of their training ids.
IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
UNLABELLED = 0
_UNKNOWN = 254  # no class: whoever reads the picture refuses it

# ids go up to 33; the licence plate's, -1, is 255 in a byte
_TRAIN_IDS = np.full(256, _UNKNOWN, np.uint8)
_TRAIN_IDS[[*range(34), 255]] = IGNORED
_TRAIN_IDS[list(IDS)] = range(len(IDS))
_LABEL_IDS = np.full(256, UNLABELLED, np.uint8)
_LABEL_IDS[: len(IDS)] = IDS


def to_train_ids(label_ids: np.ndarray) -> np.ndarray:
    """Label ids uint8 -> 0 up to 18, and 255 where the benchmark does not count."""
    return _TRAIN_IDS[label_ids]


def to_label_ids(train_ids: np.ndarray) -> np.ndarray:
    """Back; what is not counted becomes "unlabeled"."""
    return _LABEL_IDS[train_ids]


def _as_it_is(classes: np.ndarray) -> np.ndarray:
    return classes


def _draw(rng: Generator, size: tuple[int, int], _index: int) -> tuple[np.ndarray, np.ndarray]:
    return render(rng, size)


def _key(index: int) -> Key:
    return "synthetic", f"synthetic_{index:06d}_000019"


def _city(key: Key) -> str:
    return key[0]


_TRUTH = "gtFine/{split}/{city}/{frame}_gtFine_"
CITYSCAPES = Task(
    name="cityscapes",
    palette=PALETTE,
    ignored=IGNORED,
    layout=Layout(
        name="cityscapes",
        folders=("cityscapes", "Cityscapes"),
        images="leftImg8bit/{split}/{city}/{frame}_leftImg8bit.png",
        truths=(
            Encoding(f"{_TRUTH}labelIds.png", None, to_train_ids, to_label_ids),
            Encoding(f"{_TRUTH}labelTrainIds.png", None, _as_it_is, _as_it_is),
        ),
        splits={"train": Split("train", 2975), "val": Split("val", 500)},
        key=_key,
        group=_city,
        source="leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of www.cityscapes-dataset.com have it",
    ),
    generated=Generated("synthetic-street", _draw, (256, 512)),
)
