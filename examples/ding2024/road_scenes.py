"""Seeded generator of road scenes in the layout of the KITTI road benchmark (see road_folder.py).

    python -m tvm_bnn.examples.ding2024.road_scenes OUT --train 2000 --val 100 --test 200

Scene i of a split is drawn from the seed (seed, split, i) alone, so the splits share no scene, a larger split
begins with the images of a smaller one, and any number of distinct scenes can be had. Even scenes are of category um
(one lane a direction), odd ones umm (several). The classes are background, road, lane (the camera's own) and vehicle.
The pictures are synthetic: figures measured on them say nothing about photographs.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from tvm_bnn.examples.data.scene import render
from tvm_bnn.examples.ding2024.road_folder import CLASSES, layers, truth_name

SPLITS = {"training": 0, "validation": 1, "testing": 2}
CATEGORIES = ("um", "umm")
SIZE = (256, 512)


@dataclass(frozen=True)
class SceneId:
    """One scene; ValueError for a split that is not a key of SPLITS."""

    split: str
    index: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"split is {self.split!r}; accepted: {', '.join(SPLITS)}")

    @property
    def category(self) -> str:
        return CATEGORIES[self.index % 2]

    @property
    def name(self) -> str:
        return f"{self.category}_{self.index // 2:06d}.png"

    def entropy(self) -> tuple[int, int, int]:
        return self.seed, SPLITS[self.split], self.index


def scene(which: SceneId, size: tuple[int, int] = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 [H, W, 3] and classes uint8 [H, W] (indices into road_folder.CLASSES)."""
    return render(np.random.default_rng(np.random.SeedSequence(which.entropy())), size, which.category)


def write_scene(which: SceneId, root: Path, size: tuple[int, int] = SIZE) -> None:
    """Write the image and its ground truth under root/split, whose folders exist."""
    image, classes = scene(which, size)
    folder = root / which.split
    Image.fromarray(image).save(folder / "image_2" / which.name, compress_level=1)
    for layer, picture in layers(classes).items():
        Image.fromarray(picture).save(folder / "gt_image_2" / truth_name(which.name, layer), compress_level=1)


def write_folder(
    root: Path, counts: dict[str, int], seed: int = 0, size: tuple[int, int] = SIZE, jobs: int = 1
) -> None:
    """Write counts[split] scenes of each split, and scenes.json that says how they were made."""
    scenes = [SceneId(split, index, seed) for split, count in counts.items() for index in range(count)]
    for split in counts:
        for part in ("image_2", "gt_image_2"):
            (root / split / part).mkdir(parents=True, exist_ok=True)
    work = partial(write_scene, root=root, size=size)
    with ProcessPoolExecutor(jobs) as pool:
        done = pool.map(work, scenes, chunksize=8) if jobs > 1 else map(work, scenes)
        for _ in track(done, description="drawing scenes", total=len(scenes)):
            pass
    about = {"seed": seed, "size": list(size), "counts": counts, "classes": list(CLASSES), "synthetic": True}
    (root / "scenes.json").write_text(json.dumps(about, indent=1) + "\n")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Write synthetic road scenes in the layout of KITTI road.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, default=2000)
    parser.add_argument("--val", type=int, default=100)
    parser.add_argument("--test", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, metavar=("H", "W"))
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    given = parser.parse_args(arguments)
    counts = dict(zip(SPLITS, (given.train, given.val, given.test), strict=True))
    write_folder(given.out, counts, given.seed, tuple(given.size), given.jobs)


if __name__ == "__main__":
    main()
