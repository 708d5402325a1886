"""Training of the three tasks: the command, what it writes, and what a run is."""

from pathlib import Path

import pytest
import torch

from tvm_bnn.errors import InputError, ModelError
from tvm_bnn.examples.data.dataset import draw_data
from tvm_bnn.examples.data.metrics import metric_of
from tvm_bnn.examples.data.predictions import predictions
from tvm_bnn.examples.data.tasks import TASKS
from tvm_bnn.examples.data.writer import write_data
from tvm_bnn.examples.ding2024 import DEMO, build
from tvm_bnn.examples.ding2024.accuracy import normalise
from tvm_bnn.examples.ding2024.weights import save_compact
from tvm_bnn.examples.training import run as run_module
from tvm_bnn.examples.training import splits
from tvm_bnn.examples.training.batches import Batches
from tvm_bnn.examples.training.plan import PRESETS, Plan
from tvm_bnn.examples.training.run import fresh
from tvm_bnn.examples.training.splits import draw_splits
from tvm_bnn.examples.training.train import main
from tvm_bnn.examples.training.trained import load_trained

SIZE = (32, 64)
JUDGED = 3
TINY = ["--width", "4", "--decoder-channels", "8", "--batch", "2"]
FEW = ["--steps", "1", "1", "--size", "32", "64", "--samples", "4", "--threads", "1", *TINY]


def _tiny(**fields) -> Plan:
    small = {"steps": (2, 2), "grow": None, "batch": 2, "size": SIZE, "width": 4, "decoder_channels": 8}
    return Plan(**{**small, **fields})


@pytest.fixture(autouse=True)
def few_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "JUDGED", JUDGED)


@pytest.mark.parametrize("variant", ["twin", "binary"])
@pytest.mark.parametrize("name", sorted(TASKS))
def test_a_task_is_trained_and_judged(name: str, variant: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    """The command; and the figures that its file tells are those of the network in it."""
    if name == "ecssd":
        pytest.importorskip("py_sod_metrics", reason="pysodmetrics is not installed; make test installs it")
    out = tmp_path / "made" / "n.safetensors"
    assert main([name, str(out), "--variant", variant, *FEW]) == 0
    assert "synthetic" in capsys.readouterr().out
    trained, task = load_trained(out), TASKS[name]
    assert (trained.task.name, trained.variant, trained.data) == (name, variant, task.generated.name)
    assert (trained.samples, trained.plan.steps) == (4, (1, 1)) and not trained.model.training
    assert trained.model.class_names == list(task.palette)
    assert all(value.isfinite().all() for value in trained.model.state_dict().values()), "the losses were finite"
    metric, shapes = metric_of(task), set()
    for _, image, truth in draw_data(task, "val", JUDGED, size=SIZE):
        with torch.no_grad():
            output = trained.model(normalise(image, trained.model.preprocessing)).numpy()
        shapes.add((output.shape, output.dtype.name))
        metric.update(predictions(output, task)[0], truth)
    two = len(task.palette) == 2
    assert shapes == {((1, 2, *SIZE), "float32") if two else ((1, *SIZE), "int64")}
    for label, figure in metric.result().items():
        assert trained.figures[label].value == pytest.approx(figure.value, nan_ok=True)


def test_a_data_set_on_disk_is_trained_on(tmp_path: Path):
    write_data(TASKS["kitti-road"], tmp_path / "data", 15, size=(48, 80))
    out, steps = tmp_path / "n.safetensors", ["--steps", "1", "1", "--size", "32", "64"]
    assert main(["kitti-road", str(out), "--data-root", str(tmp_path / "data"), *steps, *TINY]) == 0
    assert load_trained(out).samples == 12, "a fifth of each category is held out"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nowhere", "n.safetensors"], "found task 'nowhere'; accepted: cityscapes, kitti-road, ecssd"),
        (["ecssd", "n.pt"], "found n.pt to write to; accepted: NAME.safetensors"),
        (["ecssd", "n.safetensors", "--preset", "large"], "found preset 'large'; accepted: small, published"),
        (["ecssd", "n.safetensors", "--variant", "ternary"], "variant is 'ternary'; accepted: twin, binary"),
        (["ecssd", "n.safetensors", "--attention", "x"], "attention is 'x'; accepted: none, channel, spatial, token"),
        (["ecssd", "n.safetensors", "--schedule", "x"], "schedule is 'x'; accepted: cosine, poly"),
        (["ecssd", "n.safetensors", "--branches", "0"], "found '0'; a whole number from 1 up is needed"),
        (["ecssd", "n.safetensors", "--size", "40", "64"], "found images of (40, 64); accepted: multiples of 32"),
        (["ecssd", "n.safetensors", "--steps", "0", "0"], "found steps [0, 0]"),
        (["ecssd", "n.safetensors", "--seed", "-1"], "found seed -1; accepted: 0 up"),
        (["ecssd", "n.safetensors", "--grow", "half"], "found 'half'; a share of 1 or none is needed"),
        (["ecssd", "n.safetensors", "--data-root", "x", "--samples", "2"], "found --samples with --data-root"),
        (["ecssd", "n.safetensors", "--data-root", "nowhere"], "no ecssd in nowhere"),
        (["kitti-road", "/proc/no/n.safetensors", *FEW], "cannot write /proc/no"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ") and errors.count("\n") == 1 and message in errors, errors
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_cuda_device_that_is_not_there(capsys: pytest.CaptureFixture):
    assert main(["ecssd", "n.safetensors", "--device", "cuda"]) == 2
    assert "found --device cuda, and PyTorch" in capsys.readouterr().err


@pytest.mark.parametrize("fields", [{}, {"scales": (0.5, 2.0), "schedule": "poly", "upsampling": "transposed"}])
def test_a_run_is_the_same_bit_for_bit(fields: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """At once, with a stop and a new start, and with batches that are made ahead."""
    monkeypatch.setattr(run_module, "LOSS_EVERY", 2)
    plan = _tiny(**fields)
    data = draw_splits(TASKS["kitti-road"], plan, samples=4).train
    runs = [run_module.train(plan, data, tmp_path / "whole")]
    run_module.train(plan, data, tmp_path / "parts", save_every=1, stop_after=3)
    runs.append(run_module.train(plan, data, tmp_path / "parts"))
    runs.append(run_module.train(plan, data, tmp_path / "ahead", workers=2))
    for name, value in runs[0].model.state_dict().items():
        assert all(torch.equal(value, run.model.state_dict()[name]) for run in runs), name
    assert runs[0].losses == runs[1].losses == runs[2].losses and [step for step, _ in runs[0].losses] == [2, 4]


def test_what_is_outside_a_crop_does_not_count():
    plan = _tiny(scales=(0.25, 0.25), seed=3)
    data = draw_splits(TASKS["ecssd"], plan, samples=4).train
    _, truth, _ = Batches(plan, data, fresh(plan, 2).preprocessing)(0)
    height, width = data[0].truth.shape
    assert truth.shape == (2, *SIZE)
    seen = int((truth != 255).sum())
    assert seen == 2 * min(SIZE[0], height // 4) * min(SIZE[1], width // 4)


def test_published_settings():
    """Epochs of a data set's size, and images that its networks can see."""
    plan = PRESETS["published"](TASKS["cityscapes"], 2975)
    assert sum(plan.steps) == -(-240 * 2975 // 16) and abs(plan.steps[0] - plan.steps[1]) <= 1
    assert (plan.batch, plan.size, plan.rates, plan.weight_decay) == (16, (480, 480), (4e-3, 4e-3), 1e-4)
    middle = plan.steps[0] // 2
    assert plan.rate(middle) == pytest.approx(4e-3 * (1 - middle / plan.steps[0]) ** 0.9)
    for task in TASKS.values():
        for preset in PRESETS.values():
            assert all(side % 32 == 0 for side in preset(task, 100).config(2).input_size)


def test_plans_that_contradict_themselves():
    with pytest.raises(InputError, match="distil needs whole images, of which the twin has answers; leave out scales"):
        _tiny(init="twin", distil=1.0, scales=(0.5, 2.0))


def test_checkpoints_of_no_task_are_refused(tmp_path: Path):
    save_compact(build(DEMO), tmp_path / "demo", "binary")
    with pytest.raises(ModelError, match="is of none of the three tasks"):
        load_trained(tmp_path / "demo")
