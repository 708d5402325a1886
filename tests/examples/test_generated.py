"""The generated stand-ins: determinism, and that truth and picture agree."""

import numpy as np
import pytest

from tvm_bnn.examples.data.dataset import draw_data
from tvm_bnn.examples.data.task import SPLITS, Task
from tvm_bnn.examples.data.tasks import TASKS

SMALL = (96, 192)


@pytest.fixture(params=sorted(TASKS))
def task(request: pytest.FixtureRequest) -> Task:
    return TASKS[request.param]


def test_a_sample_follows_from_its_seed_alone(task: Task):
    many, few = (draw_data(task, "val", count, seed=3, size=SMALL) for count in (5, 3))
    assert many[2].image.shape == (*SMALL, 3) and many[2].truth.dtype == many[2].image.dtype == np.uint8
    for index in (2, 0):
        one, other = many[index], few[index]
        assert one.name == other.name
        assert np.array_equal(one.image, other.image) and np.array_equal(one.truth, other.truth)


def test_no_sample_comes_twice(task: Task):
    samples = [
        draw_data(task, split, 3, seed, SMALL)[index].image.tobytes()
        for split in SPLITS
        for seed in (0, 1)
        for index in range(3)
    ]
    assert len(set(samples)) == len(samples)


def test_the_default_size_fits_a_network(task: Task):
    assert draw_data(task, "train", 1)[0].truth.shape == task.generated.size
    assert all(extent % 32 == 0 for extent in task.generated.size)


def test_streets_have_all_classes():
    maps = np.stack([sample.truth for sample in draw_data(TASKS["cityscapes"], "train", 40, size=SMALL)])
    seen = {number for number in range(256) if (maps == number).any()}
    assert seen == {*range(19), 255}
    road, sky = 0, 10
    assert not (maps[:, 0] == road).any() and not (maps[:, -1] == sky).any()
    assert (maps[:, -1] == 255).mean() > 0.5, "the camera's car is not to be counted"
    assert 0.15 < (maps == road).mean() < 0.45 and (maps == 255).mean() < 0.12


def test_things_of_a_street_differ_from_what_is_behind_them():
    """At the border of a person or a car the picture changes more than elsewhere."""
    across, elsewhere = [], []
    for _, image, truth in draw_data(TASKS["cityscapes"], "train", 12):
        step = np.abs(np.diff(image.astype(int), axis=1)).sum(axis=2)
        thing = np.isin(truth, (11, 13))
        border = thing[:, 1:] != thing[:, :-1]
        across += step[border].tolist()
        elsewhere += step[~border].tolist()
    assert np.median(across) > 2 * np.median(elsewhere)


def test_roads_are_of_three_categories():
    for _, _, truth in draw_data(TASKS["kitti-road"], "train", 6, size=SMALL):
        assert set(np.unique(truth)) <= {0, 1} and not truth[: SMALL[0] // 4].any() and truth.mean() > 0.05


def test_unmarked_roads_have_no_lines():
    """Far fewer of their pixels are much lighter than the road around them."""

    def light(index: int) -> float:
        image, truth = TASKS["kitti-road"].generated.sample("train", index)
        road = image[truth == 1].astype(float).mean(axis=1)
        return float((road > 1.6 * np.median(road)).mean())

    um, uu = ([light(index) for index in range(first, 36, 3)] for first in (0, 2))
    assert np.mean(um) > 2 * np.mean(uu)


def test_salient_objects_stand_out():
    shares, contrast = [], []
    for _, image, truth in draw_data(TASKS["ecssd"], "train", 30, size=SMALL):
        assert set(np.unique(truth)) <= {0, 1}
        shares.append(truth.mean())
        means = [image[truth == value].astype(float).mean(axis=0) for value in (0, 1)]
        contrast.append(np.abs(means[0] - means[1]).max())
    assert 0.01 < min(shares) and max(shares) < 0.6 and 0.1 < np.mean(shares) < 0.3
    assert np.mean(np.array(contrast) > 20) > 0.8
