"""Data sets in the original layouts, incomplete ones, and what is drawn in their place."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from tvm_bnn.errors import InputError, OutputError
from tvm_bnn.examples.data.__main__ import main
from tvm_bnn.examples.data.cityscapes import to_label_ids, to_train_ids
from tvm_bnn.examples.data.dataset import Sample, draw_data, open_data
from tvm_bnn.examples.data.kitti_road import CATEGORIES, IGNORED, from_colours, to_colours
from tvm_bnn.examples.data.layout import MARKER, held_out
from tvm_bnn.examples.data.task import Task
from tvm_bnn.examples.data.tasks import TASKS, task_named
from tvm_bnn.examples.data.transforms import Resize, random_crop, resize
from tvm_bnn.examples.data.writer import write_data

COUNT, SIZE = 6, (32, 64)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three data sets in sub-folders of one root, under usual names."""
    root = tmp_path_factory.mktemp("data")
    for task in TASKS.values():
        write_data(task, root / task.layout.folders[0], COUNT, size=SIZE)
    return root


@pytest.fixture(params=sorted(TASKS))
def task(request: pytest.FixtureRequest) -> Task:
    return TASKS[request.param]


@pytest.fixture
def folder(task: Task, tmp_path: Path) -> Path:
    """A generated data set of the task that a test may damage."""
    write_data(task, tmp_path / "made", COUNT, size=SIZE)
    return tmp_path / "made"


def _files(folder: Path, task: Task, part: str) -> list[Path]:
    """All images, or all truths."""
    place = {"images": task.layout.images, "truths": task.layout.truths[0].pattern}[part]
    return sorted(path for path in folder.rglob("*.*g") if path.match("*" + Path(place).suffix) and _is(path, place))


def _is(path: Path, pattern: str) -> bool:
    return any(name in path.parts for name in Path(pattern).parts if "{" not in name)


def test_a_folder_holds_what_was_drawn(task: Task, shipped: Path):
    seen: set[str] = set()
    for split, where in task.layout.splits.items():
        data = open_data(task, shipped, split)
        drawn = draw_data(task, split if where.folder == split else "train", COUNT, size=SIZE)
        assert data.name == drawn.name == task.generated.name and data.name.startswith("synthetic") and data.synthetic
        names = {"/".join(task.layout.key(index)): index for index in range(COUNT)}
        assert set(data.names) <= set(names)
        for name, image, truth in data:
            _, expected, classes = drawn[names[name]]
            assert image.dtype == truth.dtype == np.uint8 and image.shape == (*SIZE, 3)
            assert np.array_equal(truth, classes)
            lossy = task.layout.images.endswith("jpg")
            assert np.abs(image.astype(int) - expected).mean() < 8 if lossy else np.array_equal(image, expected)
        seen |= set(data.names)
    assert seen == set(names)


def test_the_root_may_be_the_data_set_itself(task: Task, shipped: Path):
    split = next(iter(task.layout.splits))
    below, itself = (open_data(task, root, split) for root in (shipped, shipped / task.layout.folders[0]))
    assert below.names == itself.names and np.array_equal(below[0].image, itself[0].image)


def test_a_data_set_is_one_of_pytorch(task: Task, shipped: Path):
    data = open_data(task, shipped, "val", transform=Resize((16, 24)))
    for one in (data, draw_data(task, "test", 2, size=SIZE, transform=Resize((16, 24)))):
        names, images, truths = next(iter(DataLoader(one, batch_size=2)))
        assert list(names) == list(one.names[:2])
        assert images.shape[1:] == (16, 24, 3) and truths.shape[1:] == (16, 24) and images.dtype == torch.uint8
        again = pickle.loads(pickle.dumps(one))
        assert np.array_equal(again[-1].image, one[len(one) - 1].image)
    with pytest.raises(IndexError):
        data[len(data)]
    assert data.class_names == tuple(task.palette) and data.ignored == task.ignored


def test_held_out_samples_are_always_the_same():
    every = [(name, f"{number:06d}") for name, count in CATEGORIES.items() for number in range(count)]
    held = held_out(every, lambda key: key[0])
    assert {name: sum(key[0] == name for key in held) for name in CATEGORIES} == {"um": 19, "umm": 20, "uu": 20}
    assert held == held_out(reversed(every), lambda key: key[0])
    # written down, so that figures of different versions are of the same images
    assert sorted(held)[:3] == [("um", "000003"), ("um", "000006"), ("um", "000013")]


@pytest.mark.parametrize("name", ["kitti-road", "ecssd"])
def test_held_out_samples_are_in_no_training(name: str, shipped: Path):
    train, val = (set(open_data(TASKS[name], shipped, split).names) for split in ("train", "val"))
    assert train and val and not train & val and len(train | val) == COUNT


@pytest.mark.parametrize("name", ["kitti-road", "ecssd"])
def test_held_out_samples_stay_so_where_others_are_missing(name: str, tmp_path: Path):
    task = TASKS[name]
    write_data(task, tmp_path / "made", 12, size=SIZE)
    before = {split: set(open_data(task, tmp_path / "made", split).names) for split in ("train", "val")}
    lost = _files(tmp_path / "made", task, "images")[::3]
    for path in lost:
        path.unlink()
    after = {split: open_data(task, tmp_path / "made", split, partial=True) for split in before}
    assert sum(map(len, after.values())) == 12 - len(lost)
    for split, data in after.items():
        assert data.name.endswith(f", {12 - len(lost)} of 12") and set(data.names) <= before[split]


@pytest.mark.parametrize(("part", "counts"), [("images", (COUNT - 1, COUNT)), ("truths", (COUNT, COUNT - 1))])
def test_a_missing_half_of_a_sample_is_named(part: str, counts: tuple[int, int], task: Task, folder: Path):
    split = list(task.layout.splits)[-1]
    lost = next(path for path in _files(folder, task, part) if task.layout.splits[split].folder in path.as_posix())
    lost.unlink()
    with pytest.raises(InputError) as caught:
        open_data(task, folder, split)
    text = str(caught.value)
    assert f"found {counts[0]} images" in text and f"and {counts[1]} truths" in text
    assert f"expected {COUNT} of each; 1 missing: {lost.relative_to(folder).as_posix()};" in text
    assert task.layout.source in text and "\n" not in text
    assert open_data(task, folder, split, partial=True).name == f"{task.generated.name}, {COUNT - 1} of {COUNT}"


def test_many_missing_files_are_counted(task: Task, folder: Path):
    for path in _files(folder, task, "truths"):
        path.unlink()
    for partial in (False, True):
        with pytest.raises(InputError, match=rf"and 0 truths .*; {COUNT} missing: [^,]+, [^,]+, [^,]+, \.\.\.;"):
            open_data(task, folder, "val", partial=partial)


def test_without_its_label_a_generated_data_set_is_an_incomplete_one(task: Task, folder: Path):
    (folder / MARKER).unlink()
    full = {"cityscapes": 500, "kitti-road": 289, "ecssd": 1000}[task.name]
    with pytest.raises(InputError, match=rf"found {COUNT} images .* and {COUNT} truths .*, expected {full} of each"):
        open_data(task, folder, "val")
    assert open_data(task, folder, "val", partial=True).name == f"{task.name}, {COUNT} of {full}"


def test_a_root_without_the_data_set(task: Task, tmp_path: Path):
    with pytest.raises(InputError) as caught:
        open_data(task, tmp_path, "train")
    text = str(caught.value)
    assert text.startswith(f"no {task.name} in {tmp_path}, nor in its sub-folders {task.layout.folders[0]}")
    assert task.layout.images in text and task.layout.truths[0].pattern in text and task.layout.source in text


def test_splits_and_tasks_that_are_none(task: Task, shipped: Path):
    with pytest.raises(InputError, match=f"{task.name} has no split 'test'; accepted: train, val"):
        open_data(task, shipped, "test")
    with pytest.raises(InputError, match="found split 'all' of generated samples; accepted: train, val, test"):
        draw_data(task, "all", 1)
    with pytest.raises(InputError, match="found task 'coco'; accepted: cityscapes, kitti-road, ecssd"):
        task_named("coco")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "does not say what was generated here"),
        ("[", "does not say what was generated here"),
        ('{"task": "coco", "name": "", "counts": {"val": 1, "training": 1, "": 1}}', "samples of coco, not of"),
    ],
)
def test_labels_that_say_nothing(content: str, message: str, task: Task, folder: Path):
    (folder / MARKER).write_text(content)
    with pytest.raises(InputError, match=message):
        open_data(task, folder, "val")


def test_pictures_that_are_damaged(task: Task, folder: Path):
    for path in (*_files(folder, task, "truths"), *_files(folder, task, "images")):
        content = path.read_bytes()
        half = content[: len(content) // 2]
        for damaged, message in ((b"none", "is no image that can be read"), (half, "cannot be read")):
            path.write_bytes(damaged)
            with pytest.raises(InputError, match=f"{path.name} {message}"):
                for split in task.layout.splits:
                    list(open_data(task, folder, split))
        path.write_bytes(content)


def test_truths_that_do_not_fit(task: Task, folder: Path):
    path = _files(folder, task, "truths")[0]
    with Image.open(path) as picture:
        mode = picture.mode
    Image.new(mode, (SIZE[1], SIZE[0] + 1)).save(path)
    with pytest.raises(InputError, match=r"a truth has the size of its image; found .* \[33, 64\], .* \[32, 64\]"):
        for split in task.layout.splits:
            list(open_data(task, folder, split))


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (Image.new("L", SIZE[::-1], 77), "has pixels that are of none of the 19 classes"),
        (Image.new("RGB", SIZE[::-1]), "expected one byte a pixel"),
    ],
)
def test_truths_of_no_class(picture: Image.Image, message: str, tmp_path: Path):
    task = TASKS["cityscapes"]
    write_data(task, tmp_path / "made", 1, size=SIZE)
    picture.save(_files(tmp_path / "made", task, "truths")[0])
    with pytest.raises(InputError, match=message):
        list(open_data(task, tmp_path / "made", "train"))


def test_label_ids_of_cityscapes():
    # unlabeled, road, sidewalk, parking, building, guard rail, sky, car, caravan, bicycle, licence plate
    ids = np.array([0, 7, 8, 9, 11, 14, 23, 26, 29, 33, 255], np.uint8)
    assert to_train_ids(ids).tolist() == [255, 0, 1, 255, 2, 255, 10, 13, 255, 18, 255]
    every = np.array([*range(19), 255], np.uint8)
    assert np.array_equal(to_train_ids(to_label_ids(every)), every)


def test_training_ids_are_read_where_there_are_more(tmp_path: Path):
    task = TASKS["cityscapes"]
    write_data(task, tmp_path / "made", 2, size=SIZE)
    before = [sample.truth for sample in open_data(task, tmp_path / "made", "val")]
    for path, truth in zip(sorted(tmp_path.glob("made/gtFine/val/*/*")), before, strict=True):
        Image.fromarray(truth).save(path.with_name(path.name.replace("labelIds", "labelTrainIds")))
        path.unlink()
    after = [sample.truth for sample in open_data(task, tmp_path / "made", "val")]
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


def test_colours_of_kitti_road():
    magenta, red, black = [255, 0, 255], [255, 0, 0], [0, 0, 0]
    assert from_colours(np.array([[magenta, red, black]], np.uint8)).tolist() == [[1, 0, IGNORED]]
    assert to_colours(np.array([[1, 0, IGNORED]], np.uint8)).tolist() == [[magenta, red, black]]


def test_lanes_of_kitti_are_another_task(shipped: Path, tmp_path: Path):
    task = TASKS["kitti-road"]
    write_data(task, tmp_path / "made", COUNT, size=SIZE)
    for path in (tmp_path / "made").rglob("um_road_*"):
        Image.new("RGB", SIZE[::-1]).save(path.with_name(path.name.replace("road", "lane")))
    for split in task.layout.splits:
        one, other = open_data(task, tmp_path / "made", split), open_data(task, shipped, split)
        assert all(np.array_equal(a.truth, b.truth) for a, b in zip(one, other, strict=True))


def test_only_new_folders_are_written(tmp_path: Path):
    (tmp_path / "kept").write_text("mine")
    for place in (tmp_path, tmp_path / "kept"):
        with pytest.raises(OutputError, match="is not empty; give a folder that is not there yet"):
            write_data(TASKS["ecssd"], place, 1, size=SIZE)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    with pytest.raises(OutputError, match="cannot write /proc/made"):
        write_data(TASKS["ecssd"], Path("/proc/made"), 1, size=SIZE)


def test_what_was_begun_is_not_left(tmp_path: Path):
    def stop(progress: str) -> None:
        if progress.startswith("2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_data(TASKS["ecssd"], tmp_path / "made", 3, size=SIZE, report=stop)
    assert not list(tmp_path.iterdir())


def test_command(tmp_path: Path, capfd: pytest.CaptureFixture):
    out = tmp_path / "road"
    assert main(["kitti-road", "-o", str(out), "--count", "3", "--size", "32", "64", "--seed", "4"]) == 0
    assert capfd.readouterr().out == f"{out}/training: 3 synthetic samples\n"
    drawn = draw_data(TASKS["kitti-road"], "train", 3, seed=4, size=SIZE)
    val = open_data(TASKS["kitti-road"], out, "val")
    # one of each category: all are held out
    assert val.names == ("um/000000", "umm/000000", "uu/000000")
    assert all(np.array_equal(a.image, b.image) for a, b in zip(val, drawn, strict=True))
    with pytest.raises(InputError, match=r"split train, in .* has no sample: the split is a share of too few"):
        open_data(TASKS["kitti-road"], out, "train")
    new = str(tmp_path / "new")
    wrong = [["coco", "-o", new], ["ecssd", "-o", new, "--seed", "-1"], ["ecssd", "-o", new, "--size", "8", "64"]]
    for arguments in (*wrong, ["ecssd", "-o", str(out)], ["ecssd"], ["ecssd", "--data-root", str(out)]):
        assert main(arguments) == 2
        said = capfd.readouterr().err
        assert said.startswith("error: ") and said.count("\n") == 1
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capfd.readouterr().out
    assert all(name in said for name in TASKS)


def test_command_that_looks_at_a_data_set(shipped: Path, capfd: pytest.CaptureFixture):
    assert main(["ecssd", "--data-root", str(shipped)]) == 0
    said = capfd.readouterr().out.splitlines()
    name = TASKS["ecssd"].generated.name
    counts = {"train": 4, "val": 2, "all": 6}
    assert said == [f"{name}, split {split}: {count} samples" for split, count in counts.items()]


def test_sizes():
    image = np.zeros((2, 4, 3), np.uint8)
    image[:, 2:] = 200
    truth = np.array([[0, 0, 7, 7], [0, 0, 255, 7]], np.uint8)
    grown, classes = resize(image, truth, (4, 8))
    assert set(np.unique(classes)) == {0, 7, 255} and classes.shape == (4, 8)
    assert 0 < grown[0, 3, 0] < 200, "images are smooth at an edge"
    assert resize(image, truth, (2, 4))[0] is image


def test_crops_follow_from_their_generator_and_keep_labels_on_pixels():
    truth = np.arange(48, dtype=np.uint8).reshape(6, 8)
    sample = Sample("a", np.repeat(truth[..., None], 3, axis=2), truth)
    seen = set()
    for seed in range(20):
        crop, again = (random_crop(sample, np.random.default_rng(seed), (4, 5), (1.0, 1.0)) for _ in range(2))
        assert crop.image.shape == (4, 5, 3) and np.array_equal(crop.image, again.image)
        assert np.array_equal(crop.image[..., 0], crop.truth)
        seen.add(crop.truth.tobytes())
    assert len(seen) > 10
    small = random_crop(sample, np.random.default_rng(0), (8, 10), (0.5, 0.5), outside=99)
    assert small.truth.shape == (8, 10) and (small.truth != 99).sum() == 3 * 4
    assert (small.image[small.truth == 99] == 128).all()
