"""The demonstration: the compiled network is PyTorch's, and the command writes what it says."""

import base64
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from jinja2 import UndefinedError
from PIL import Image

import tvm_bnn
from tvm_bnn.console import Progress
from tvm_bnn.examples.ding2024 import demo, demo_networks, demo_page, demo_pictures, demo_report
from tvm_bnn.examples.ding2024.demo_networks import Network, Result, Scene
from tvm_bnn.examples.ding2024.road_scenes import SceneId, scene
from tvm_bnn.examples.ding2024.show import main
from tvm_bnn.report.timing import Timing

SUBSET = 12
TITLES = ["PyTorch, float twin", "PyTorch, binary", "compiled, binary"]


@pytest.fixture
def progress():
    return Progress(quiet=True)


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """The folder that the command wrote, and what it printed."""
    import contextlib

    folder, said = tmp_path_factory.mktemp("demo") / "new" / "output", io.StringIO()
    options = ["--scenes", "3", "--pictures", "2", "--rounds", "2", "--threads", "1"]
    with contextlib.redirect_stdout(said):
        assert main(["-o", str(folder), *options]) == 0
    return folder, said.getvalue()


@pytest.mark.parametrize("branches", [1, 3])
def test_compiled_accuracy_is_pytorchs(branches, progress, output):
    """Of the network with one branch the command has compiled."""
    model = demo(branches)
    compiled = tvm_bnn.load(output[0] / "demo.bnn") if branches == 1 else tvm_bnn.compile(model, threads=1)
    scenes = demo_networks.draw(SUBSET, model.config.input_size, progress)
    networks = [Network("PyTorch", model, 0), Network("compiled", compiled, 0)]
    theirs, ours = demo_networks.measure(networks, scenes, model.preprocessing, 1, progress)
    assert abs(ours.iou["mIoU"] - theirs.iou["mIoU"]) <= 0.05
    assert demo_networks.agreement(ours.classes, theirs.classes) > 0.999
    # of a network that has learnt something
    assert ours.iou["mIoU"] > 60


def test_command_writes_its_files(output):
    folder, _ = output
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    pictures = ["scenes/um_000000.png", "scenes/umm_000000.png"]
    assert found == ["demo.bnn", "index.html", "overview.png", "results.json", *pictures]
    assert Image.open(folder / pictures[0]).size == (3 * 512 + 2 * demo_pictures.GAP, 256)
    assert tvm_bnn.load(folder / "demo.bnn").manifest["class_names"] == ["background", "road", "lane", "vehicle"]


def test_command_compares_three_networks(output):
    folder, said = output
    results = json.loads((folder / "results.json").read_text())
    assert [row["title"] for row in results["networks"]] == TITLES
    for row in results["networks"]:
        assert row["ms"] > 0 and 0 < row["iou"]["mIoU"] < 100
        assert f"{row['iou']['mIoU']:.2f} %" in said and f"{row['bytes'] / 1e6:.2f} MB" in said
    twin, binary, ours = results["networks"]
    assert ours["bytes"] == (folder / "demo.bnn").stat().st_size < 0.2 * min(twin["bytes"], binary["bytes"])
    assert results["miou_difference"] == pytest.approx(ours["iou"]["mIoU"] - binary["iou"]["mIoU"])
    assert (results["scenes_measured"], results["rounds"], results["threads"]) == (3, 2, 1)
    assert f"{results['miou_difference']:+.3f} points of mIoU" in said and "1 thread, in turns, median of 2" in said


def test_page_carries_everything(output):
    folder, _ = output
    page = (folder / "index.html").read_text()
    pictures = re.findall(r'src="([^"]*)"', page)
    assert len(pictures) == 2 * 3 and all(address.startswith("data:image/jpeg;base64,") for address in pictures)
    # nothing is fetched from elsewhere
    assert "http" not in page and "<link" not in page and "<script" not in page
    first = Image.open(io.BytesIO(base64.b64decode(pictures[0].partition(",")[2])))
    truth = scene(SceneId("testing", 0))[0]
    assert np.abs(np.asarray(first, int) - truth).mean() < 10
    assert 'name="viewport"' in page and all(title in page for title in TITLES)


def test_scenes_are_the_test_split(progress):
    first, second = demo_networks.draw(2, (32, 64), progress)
    assert [first.name, second.name] == ["um_000000.png", "umm_000000.png"]
    image, classes = scene(SceneId("testing", 1), (32, 64))
    assert np.array_equal(second.image, image) and np.array_equal(second.truth, classes)
    assert not np.array_equal(first.image, scene(SceneId("training", 0), (32, 64))[0])


def results(seconds=(0.4, 0.6, 0.1), titles=TITLES):
    """Results of three networks that answer 0 everywhere, and the last one's first pixel 1."""
    answers = [np.zeros((4, 8), np.uint8) for _ in titles]
    answers[-1][0, 0] = 1
    iou = {"background": 90.0, "road": 50.0, "mIoU": 70.0}
    return [
        Result(title, {**iou, "mIoU": 70.0 + index}, Timing((time, time)), 1000, [answer])
        for index, (title, time, answer) in enumerate(zip(titles, seconds, answers, strict=True))
    ]


class Compiled:
    """What `facts` reads of an artifact."""

    threads = 2
    manifest = {  # noqa: RUF012
        "target": {"name": "znver4"},
        "class_names": ["background", "road & co"],
        "palette": [[0, 0, 0], [0, 114, 178]],
        "versions": {"torch": "1", "tvm": "2"},
    }


def test_facts_compare_with_the_twin_and_with_pytorch():
    facts = demo_report.facts(results(), Compiled(), branches=1)
    assert [row["faster"] for row in facts["networks"]] == pytest.approx([1.0, 2 / 3, 4.0])
    assert facts["miou_difference"] == pytest.approx(1.0)
    assert facts["agreement"] == pytest.approx(100 * 31 / 32)
    assert facts["size"] == [4, 8]


def test_no_ratio_of_times_that_wander():
    measured = results()
    measured[2] = replace(measured[2], timing=Timing((0.1, 0.2, 0.3)))
    ours = demo_report.facts(measured, Compiled(), branches=1)["networks"][2]
    assert ours["faster"] is None and ours["faster_text"].startswith("no ratio")


def test_page_escapes_and_refuses_missing_facts():
    facts = demo_report.facts(results(), Compiled(), branches=3)
    facts["networks"] = [{**row, "iou": {**row["iou"], "road & co": 1.0}} for row in facts["networks"]]
    page = demo_page.render(facts, [])
    assert "road &amp; co" in page and "3 parallel branches" in page and "4.0&times;" in page
    del facts["threads"]
    with pytest.raises(UndefinedError, match="threads"):
        demo_page.render(facts, [])


def test_panels_show_truth_and_prediction():
    image = np.full((2, 4, 3), 100, np.uint8)
    truth, classes = np.zeros((2, 4), np.uint8), np.ones((2, 4), np.uint8)
    colours = np.array([[0, 0, 0], [200, 0, 0]], np.uint8)
    panels = demo_pictures.panels(Scene("x", image, truth), classes, colours)
    assert [panel.getpixel((1, 1)) for panel in panels] == [(100, 100, 100), (50, 50, 50), (150, 50, 50)]


def test_size_of_saved_weights():
    assert demo_networks.saved_bytes(torch.nn.Linear(1000, 100)) == pytest.approx(4 * 100_100, rel=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "file"], "cannot write to file: .*file is a file; give the name of a folder"),
        (["-o", "file/inner"], "is a file"),
        (["--branches", "2"], "invalid choice: 2"),
        (["--scenes", "0"], "a whole number from 1 up"),
        (["--threads", "9999"], "found --threads 9999; from 1 to"),
        (["-o", "/proc/demo", "--scenes", "1"], "cannot write to /proc/demo"),
    ],
)
def test_mistakes_are_found_at_the_start(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert main(arguments) == 2
    errors = capsys.readouterr().err
    assert re.fullmatch(f"error: .*{message}.*\n", errors), errors
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
