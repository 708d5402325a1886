"""Folders of road images in the layout of the KITTI road benchmark.

    ROOT/training/image_2/um_000000.png             image, RGB
    ROOT/training/gt_image_2/um_road_000000.png     road: magenta (255, 0, 255); other ground truth: red (255, 0, 0);
                                                    black (0, 0, 0): not to be counted
    ROOT/training/gt_image_2/um_lane_000000.png     the camera's own lane, in the same colours
    ROOT/training/gt_image_2/um_vehicle_000000.png  vehicles, in the same colours (KITTI has no such file)

Image names are CATEGORY_NUMBER with the categories um, umm and uu. The road's file includes the lane. The class
of a pixel is 0 background, 1 road, 2 lane, 3 vehicle, the later file over the earlier, and IGNORED where the road's
file is black. A folder has the classes that every one of its images has a file for: KITTI's own has background and
road. Beside `training`, a folder may have `validation` and `testing` in the same layout (KITTI's own testing is without
truth).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tvm_bnn.errors import InputError
from tvm_bnn.examples.data.dataset import Sample

CLASSES = ("background", "road", "lane", "vehicle")
IGNORED = 255
MAGENTA, RED = (255, 0, 255), (255, 0, 0)


def truth_name(image_name: str, layer: str) -> str:
    """um_000000.png, road -> um_road_000000.png"""
    category, number = image_name.rsplit("_", 1)
    return f"{category}_{layer}_{number}"


def layers(classes: np.ndarray) -> dict[str, np.ndarray]:
    """Classes [H, W] -> for each layer its picture in KITTI's colours, uint8 [H, W, 3]."""
    members = {"road": (classes == 1) | (classes == 2), "lane": classes == 2, "vehicle": classes == 3}
    pictures = {}
    for name, member in members.items():
        picture = np.where(member[:, :, None], np.array(MAGENTA, np.uint8), np.array(RED, np.uint8))
        picture[classes == IGNORED] = 0
        pictures[name] = picture
    return pictures


@dataclass(frozen=True)
class RoadFolder:
    """One split of a folder: root/split/image_2 with its truth. InputError if it is not there or not complete."""

    root: Path
    split: str
    names: tuple[str, ...]
    layers: tuple[str, ...]

    @staticmethod
    def open(root: Path, split: str) -> "RoadFolder":
        images, truth = root / split / "image_2", root / split / "gt_image_2"
        names = tuple(sorted(path.name for path in images.glob("*_*.png")))
        if not names:
            raise InputError(f"no images CATEGORY_NUMBER.png in {images}; the layout of KITTI road is expected there")
        there = {path.name for path in truth.glob("*.png")}
        missing = [name for name in names if truth_name(name, "road") not in there]
        if missing:
            first = truth / truth_name(missing[0], "road")
            raise InputError(f"{len(missing)} of {len(names)} images in {images} have no ground truth, such as {first}")
        found = ["road"]
        for layer in CLASSES[2:]:
            if not all(truth_name(name, layer) in there for name in names):
                break
            found.append(layer)
        return RoadFolder(root, split, names, tuple(found))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def classes(self) -> int:
        return 1 + len(self.layers)

    @property
    def class_names(self) -> tuple[str, ...]:
        return CLASSES[: self.classes]

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.names[index], self.image(index), self.truth(index))

    def image(self, index: int) -> np.ndarray:
        """uint8 [H, W, 3]"""
        with Image.open(self.root / self.split / "image_2" / self.names[index]) as picture:
            return np.asarray(picture.convert("RGB"))

    def truth(self, index: int) -> np.ndarray:
        """Classes, uint8 [H, W]: 0 up to classes - 1, and IGNORED."""
        result = None
        for number, layer in enumerate(self.layers, start=1):
            path = self.root / self.split / "gt_image_2" / truth_name(self.names[index], layer)
            with Image.open(path) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            if result is None:
                result = np.where(pixels[:, :, 0] > 0, 0, IGNORED).astype(np.uint8)
            result[(pixels[:, :, 2] > 0) & (pixels[:, :, 0] > 0)] = number
        assert result is not None
        return result
