"""KITTI road: the road, pixel by pixel, on marked and unmarked roads (https://www.cvlibs.net/datasets/kitti).

    ROOT/training/image_2/um_000000.png             um: marked, two ways; umm: several lanes; uu: unmarked
    ROOT/training/gt_image_2/um_road_000000.png     blue is 255 on the road, red where the pixel counts

The truth of its test images is private, so a fifth of the training images of each category is held out as `val`. The
lane's truth, um_lane_*, is another task.
"""

import numpy as np
from numpy.random import Generator

from tvm_bnn.examples.data.layout import Encoding, Key, Layout, Split
from tvm_bnn.examples.data.scene import render
from tvm_bnn.examples.data.task import Generated, Task

IGNORED = 255
CATEGORIES = {"um": 95, "umm": 96, "uu": 98}
_COMPLETE = tuple((category, f"{number:06d}") for category, count in CATEGORIES.items() for number in range(count))


def from_colours(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> 1 on the road, 0 beside it, IGNORED where red says that nothing is known."""
    road = (pixels[..., 2] > 0).astype(np.uint8)
    return np.where(pixels[..., 0] > 0, road, np.uint8(IGNORED))


def to_colours(classes: np.ndarray) -> np.ndarray:
    """Back: magenta, red, black."""
    picture = np.zeros((*classes.shape, 3), np.uint8)
    picture[..., 0] = np.where(classes == IGNORED, 0, 255)
    picture[..., 2] = np.where(classes == 1, 255, 0)
    return picture


def _draw(rng: Generator, size: tuple[int, int], index: int) -> tuple[np.ndarray, np.ndarray]:
    image, classes = render(rng, size, _key(index)[0])
    # the camera's lane is road too; what stands on the road is not
    return image, ((classes == 1) | (classes == 2)).astype(np.uint8)


def _key(index: int) -> Key:
    return list(CATEGORIES)[index % len(CATEGORIES)], f"{index // len(CATEGORIES):06d}"


def category(key: Key) -> str:
    """um, umm or uu."""
    return key[0]


KITTI_ROAD = Task(
    name="kitti-road",
    palette={"background": (0, 0, 0), "road": (0, 114, 178)},
    ignored=IGNORED,
    layout=Layout(
        name="kitti-road",
        folders=("data_road", "kitti-road", "kitti_road", "KITTI/data_road", "kitti/data_road"),
        images="{split}/image_2/{category}_{number}.png",
        truths=(Encoding("{split}/gt_image_2/{category}_road_{number}.png", "RGB", from_colours, to_colours),),
        splits={"train": Split("training", _COMPLETE, "rest"), "val": Split("training", _COMPLETE, "held")},
        key=_key,
        group=category,
        source="data_road.zip of www.cvlibs.net/datasets/kitti/eval_road.php has it",
    ),
    generated=Generated("synthetic-road", _draw, (192, 640)),
)
