"""The generator of road scenes and the folder layout that it writes."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tvm_bnn.errors import InputError
from tvm_bnn.examples.ding2024.road_folder import IGNORED, RoadFolder, layers
from tvm_bnn.examples.ding2024.road_scenes import SPLITS, SceneId, main, scene, write_folder

SMALL = (64, 128)


def _digest(which: SceneId) -> str:
    return hashlib.sha256(scene(which, SMALL)[0].tobytes()).hexdigest()


def test_a_scene_follows_from_its_seed():
    for which in (SceneId("training", 4), SceneId("testing", 7, seed=3)):
        (image, classes), (again, classes_again) = scene(which, SMALL), scene(which, SMALL)
        assert image.dtype == classes.dtype == np.uint8
        assert np.array_equal(image, again) and np.array_equal(classes, classes_again)


def test_no_scene_is_in_two_splits_or_twice_in_one():
    scenes = [SceneId(split, index, seed) for split in SPLITS for index in range(12) for seed in (0, 1)]
    assert len({which.entropy() for which in scenes}) == len(scenes)
    assert len({_digest(which) for which in scenes}) == len(scenes)


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match="split is 'train'; accepted: training, validation, testing"):
        SceneId("train", 0)


def test_labels_are_where_they_must_be():
    maps = np.stack([scene(SceneId("validation", index), SMALL)[1] for index in range(40)])
    assert set(np.unique(maps)) == {0, 1, 2, 3}
    height, width = SMALL
    assert not np.isin(maps[:, : int(0.36 * height) - 1], (1, 2)).any(), "road above the highest horizon"
    assert (maps[:, -1, width // 2] == 2).all(), "the camera stands in its lane"
    share = {number: (maps == number).mean() for number in range(4)}
    assert 0.3 < share[0] < 0.8 and share[1] > 0.05 and share[2] > 0.1 and share[3] > 0.02
    assert ((maps == 3).any(axis=(1, 2))).mean() > 0.8


def test_markings_bound_the_lane_of_a_straight_road():
    """The colour changes more at the borders of the lane than elsewhere on the road: labels and picture agree."""
    at_border, inside = [], []
    for index in range(30):
        image, classes = scene(SceneId("validation", index), (128, 256))
        row, label = image[-12].astype(float).sum(axis=1), classes[-12]
        step = np.abs(np.diff(row))
        borders = np.flatnonzero((label[1:] == 2) != (label[:-1] == 2))
        near = np.zeros(len(step), bool)
        for border in borders:
            near[max(border - 6, 0) : border + 7] = True
        on_lane = (label[1:] == 2) & (label[:-1] == 2) & ~near
        at_border.append(step[near].max() if near.any() else 0.0)
        inside.append(np.median(step[on_lane]))
    assert np.mean(at_border) > 4 * np.mean(inside)


def test_folder_holds_what_was_drawn(tmp_path: Path):
    main([str(tmp_path), "--train", "3", "--val", "2", "--test", "1", "--size", "64", "128", "--jobs", "2"])
    names = [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*.*"))]
    assert "training/image_2/um_000001.png" in names and "training/gt_image_2/um_road_000001.png" in names
    assert len(names) == 4 * (3 + 2 + 1) + 1
    for split, count in (("training", 3), ("validation", 2), ("testing", 1)):
        folder = RoadFolder.open(tmp_path, split)
        assert len(folder) == count and folder.classes == 4
        drawn = {which.name: scene(which, SMALL) for which in (SceneId(split, index) for index in range(count))}
        assert sorted(drawn) == list(folder.names)
        for index, name in enumerate(folder.names):
            assert np.array_equal(folder.image(index), drawn[name][0])
            assert np.array_equal(folder.truth(index), drawn[name][1])


def test_truth_is_in_the_colours_of_kitti():
    pictures = layers(np.array([[0, 1], [2, 3], [IGNORED, 0]], np.uint8))
    magenta, red, black = [255, 0, 255], [255, 0, 0], [0, 0, 0]
    assert pictures["road"].tolist() == [[red, magenta], [magenta, red], [black, red]]
    assert pictures["lane"].tolist() == [[red, red], [magenta, red], [black, red]]
    assert pictures["vehicle"].tolist() == [[red, red], [red, magenta], [black, red]]


def test_folder_with_road_truth_alone(tmp_path: Path):
    """The files that KITTI itself has."""
    for part in ("image_2", "gt_image_2"):
        (tmp_path / "training" / part).mkdir(parents=True)
    truth = np.array([[0, 1, IGNORED]], np.uint8)
    for name in ("uu_000000", "umm_000001"):
        category, number = name.split("_")
        Image.fromarray(np.zeros((1, 3, 3), np.uint8)).save(tmp_path / "training/image_2" / f"{name}.png")
        road = Image.fromarray(layers(truth)["road"])
        road.save(tmp_path / "training/gt_image_2" / f"{category}_road_{number}.png")
    folder = RoadFolder.open(tmp_path, "training")
    assert folder.classes == 2 and folder.layers == ("road",)
    assert folder.truth(0).tolist() == [[0, 1, IGNORED]]


def test_incomplete_folders_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match="the layout of KITTI road is expected there"):
        RoadFolder.open(tmp_path, "training")
    write_folder(tmp_path, {"training": 2}, size=SMALL)
    (tmp_path / "training/gt_image_2/umm_road_000000.png").unlink()
    with pytest.raises(InputError, match=r"1 of 2 images .* no ground truth, such as .*umm_road_000000.png"):
        RoadFolder.open(tmp_path, "training")
