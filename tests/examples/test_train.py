"""Training, compact checkpoints, and the networks that ship."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from tvm_bnn.artifact import DEFAULT_PREPROCESSING
from tvm_bnn.errors import InputError, ModelError
from tvm_bnn.examples.ding2024 import DEMO, Ding2024Config, build, example_inputs, float_twin
from tvm_bnn.examples.ding2024 import train as train_module
from tvm_bnn.examples.ding2024.accuracy import evaluate, iou, normalise
from tvm_bnn.examples.ding2024.figures import FIGURES, QUICK, training_command
from tvm_bnn.examples.ding2024.road_folder import IGNORED, RoadFolder
from tvm_bnn.examples.ding2024.road_scenes import write_folder
from tvm_bnn.examples.ding2024.train import main
from tvm_bnn.examples.ding2024.trained import CHECKPOINTS, demo, demo_float_twin
from tvm_bnn.examples.ding2024.weights import load_compact, read_compact, save_compact
from tvm_bnn.examples.training import plan as plan_module
from tvm_bnn.examples.training import run as run_module
from tvm_bnn.examples.training.batches import Batches
from tvm_bnn.examples.training.plan import Plan
from tvm_bnn.examples.training.run import Run, fresh
from tvm_bnn.nn import BinaryConv2d, BinaryConvTranspose2d, binary_weight

SIZE = (64, 64)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    write_folder(root, {"training": 6, "validation": 2}, size=SIZE)
    return root


def _plan(**fields) -> Plan:
    return Plan(**{"steps": (2, 2), "grow": 0.5, "batch": 2, "size": SIZE, **fields})


def train(plan: Plan, data: Path, out: Path, **options) -> Run:
    run = run_module.train(plan, RoadFolder.open(data, "training"), out, **options)
    if run.step == plan.total:
        run.write(out, run.network(argmax=True))
    return run


def _batches(plan: Plan, data: Path) -> Batches:
    return Batches(plan, RoadFolder.open(data, "training"), fresh(plan, 4).preprocessing)


def _same_tensors(first: Path, second: Path) -> bool:
    one, other = read_compact(first)[0], read_compact(second)[0]
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(stop: int, data: Path, tmp_path: Path):
    plan = _plan(branches=2)
    train(plan, data, tmp_path / "whole.safetensors")
    train(plan, data, tmp_path / "parts.safetensors", save_every=1, stop_after=stop)
    assert not (tmp_path / "parts.safetensors").exists()
    assert train(plan, data, tmp_path / "parts.safetensors").step == 4
    assert _same_tensors(tmp_path / "whole.safetensors", tmp_path / "parts.safetensors")


def test_a_finished_run_can_be_given_another_stage(data: Path, tmp_path: Path):
    train(_plan(), data, tmp_path / "parts.safetensors")
    train(_plan(steps=(2, 2, 1)), data, tmp_path / "parts.safetensors")
    train(_plan(steps=(2, 2, 1)), data, tmp_path / "whole.safetensors")
    assert _same_tensors(tmp_path / "whole.safetensors", tmp_path / "parts.safetensors")
    with pytest.raises(InputError, match="another plan"):
        train(_plan(steps=(2, 3, 1)), data, tmp_path / "parts.safetensors")


def test_the_rate_falls_in_each_stage():
    plan = Plan(steps=(100, 100, 50), rates=(2e-3, 1e-3))
    assert plan.starts == [0, 100, 200] and plan.total == 250
    assert [plan.stage(step) for step in (0, 99, 100, 199, 200, 249, 250)] == [0, 0, 1, 1, 2, 2, 2]
    assert [plan.rate(start + 25) for start in (0, 100)] == pytest.approx([2e-3 * 0.853553, 1e-3 * 0.853553])
    assert plan.rate(225) == pytest.approx(0.5e-3) and plan.rate(0) == pytest.approx(2e-3 / 20)
    assert max(plan.rate(step) for step in (99, 199, 249)) < 2e-6
    with pytest.raises(InputError, match="steps are given for 1 stage; there are two stages or more"):
        Plan(steps=(5,))


def test_a_run_can_end_before_its_stages_do(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plan_module, "COOLING", 1)
    whole, short = _plan(steps=(2, 4)), _plan(steps=(2, 4), until=4)
    train(whole, data, tmp_path / "parts.safetensors", save_every=1, stop_after=3)
    assert train(short, data, tmp_path / "parts.safetensors").step == 4
    train(short, data, tmp_path / "whole.safetensors")
    assert _same_tensors(tmp_path / "whole.safetensors", tmp_path / "parts.safetensors")
    with pytest.raises(InputError, match="another plan"):
        train(whole, data, tmp_path / "parts.safetensors")


def test_the_rate_falls_at_an_early_end():
    whole, short = Plan(steps=(100, 1000)), Plan(steps=(100, 1000), until=600)
    assert short.total == 600 and [short.rate(step) for step in (0, 99, 500)] == [whole.rate(s) for s in (0, 99, 500)]
    assert [short.rate(step) / whole.rate(step) for step in (550, 599)] == pytest.approx([0.5, 0.01])
    assert Plan(steps=(5, 5), until=40).total == 10
    assert short.continues(whole, 500) and not short.continues(whole, 501)


def test_seeds_and_steps_change_the_result(data: Path, tmp_path: Path):
    out = [tmp_path / f"{index}.safetensors" for index in range(3)]
    for path, plan in zip(out, (_plan(), _plan(seed=1), _plan(steps=(2, 3))), strict=True):
        train(plan, data, path)
    assert not _same_tensors(out[0], out[1]) and not _same_tensors(out[0], out[2])


def test_progress_of_another_plan_is_refused(data: Path, tmp_path: Path):
    train(_plan(variant="twin"), data, tmp_path / "n.safetensors", save_every=1, stop_after=1)
    with pytest.raises(InputError, match=r"n\.state is of a run with another plan: .*; delete it or give another OUT"):
        train(_plan(variant="twin", seed=1), data, tmp_path / "n.safetensors")


def test_command_line(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    options = ["--steps", "1", "1", "--batch", "2", "--size", "64", "64", "--threads", "1"]
    twin, binary = str(tmp_path / "twin.safetensors"), str(tmp_path / "k2.safetensors")
    assert main([str(data), twin, "--variant", "twin", *options]) == 0
    assert main([str(data), binary, "--branches", "2", "--init", twin, *options]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0 <= last["validation"]["mIoU"] <= 100
    assert load_compact(Path(binary)).config == replace(DEMO, branches=2, input_size=SIZE)
    assert main([str(tmp_path / "nowhere"), twin, *options]) == 2
    assert "no images CATEGORY_NUMBER.png" in capsys.readouterr().err


def test_stage_one_trains_real_weights_and_stage_two_binary_ones(data: Path, tmp_path: Path):
    for stop, binary in ((1, False), (3, True)):
        run = train(_plan(), data, tmp_path / f"{stop}.safetensors", stop_after=stop)
        kinds = {type(module) for module in run.model.modules()}
        assert (BinaryConv2d in kinds) == binary


def test_a_binary_network_starts_from_the_twin(data: Path, tmp_path: Path):
    twin = tmp_path / "twin.safetensors"
    train(_plan(variant="twin", steps=(1, 0)), data, twin)
    model, source = fresh(_plan(branches=2, init=str(twin)), classes=4), load_compact(twin)
    encoder, blocks = "encoder.stages.0.0.conv.weight", "decoder.last.branches.blocks"
    assert torch.equal(model.get_parameter(encoder), source.get_parameter(encoder))
    first, second = (model.get_parameter(f"{blocks}.{index}.conv.weight") for index in range(2))
    original = source.get_parameter(f"{blocks}.0.conv.weight")
    assert torch.equal(first, original)
    assert 0.3 < ((second - original).std() / original.std()) < 0.7


@pytest.fixture(scope="module")
def twin(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("twin") / "twin.safetensors"
    train(_plan(variant="twin", steps=(3, 0)), data, path)
    return path


def test_the_twin_teaches_what_it_makes_of_each_image(data: Path, twin: Path):
    plan = _plan(init=str(twin), distil=1.0, steps=(0, 9), grow=0.0)
    folder, teacher = RoadFolder.open(data, "training"), load_compact(twin)
    batches = _batches(plan, data)
    seen = set()
    for step in range(3):
        _, truth, soft = batches(step)
        assert soft is not None and soft.shape == (2, 4, SIZE[0] // 4, SIZE[1] // 4)
        torch.testing.assert_close(soft.sum(1), torch.ones(2, 16, 16), rtol=0, atol=2e-3)
        indices, mirrored = batches._indices(step), _flipped(truth, folder, batches, step)
        for index, flipped, answer in zip(indices, mirrored, soft, strict=True):
            image = normalise(folder.image(index), teacher.preprocessing)
            expected = teacher.coarse(image)[0].softmax(0)
            torch.testing.assert_close(answer, expected.flip(2) if flipped else expected, rtol=0, atol=1e-3)
            seen.add(flipped)
    assert seen == {True, False}
    (_, _, whole), (small, _, half) = batches(0), _batches(replace(plan, grow=1.0), data)(0)
    assert small.shape[2:] == (32, 32) and whole is not None
    torch.testing.assert_close(half, F.avg_pool2d(whole, 2))


def _flipped(truth: torch.Tensor, folder: RoadFolder, batches: Batches, step: int) -> list[bool]:
    """Which images of a batch came as in a mirror, by their truth."""
    originals = [torch.from_numpy(folder.truth(index)).long() for index in batches._indices(step)]
    assert all(torch.equal(a, b) != torch.equal(a, b.flip(1)) for a, b in zip(truth, originals, strict=True))
    return [torch.equal(a, b.flip(1)) for a, b in zip(truth, originals, strict=True)]


@pytest.mark.parametrize("option", [{"distil": 1.0}, {"weights": (1.0, 1.0, 1.0, 5.0)}, {"bfloat16": True}])
def test_each_way_to_train_is_part_of_the_plan(option: dict, data: Path, twin: Path, tmp_path: Path):
    plain, plan = _plan(init=str(twin)), _plan(init=str(twin), **option)
    train(plain, data, tmp_path / "plain.safetensors")
    train(plan, data, tmp_path / "whole.safetensors")
    train(plan, data, tmp_path / "parts.safetensors", save_every=1, stop_after=3)
    with pytest.raises(InputError, match="another plan"):
        train(plain, data, tmp_path / "parts.safetensors")
    train(plan, data, tmp_path / "parts.safetensors")
    assert _same_tensors(tmp_path / "whole.safetensors", tmp_path / "parts.safetensors")
    assert not _same_tensors(tmp_path / "whole.safetensors", tmp_path / "plain.safetensors")


def test_the_loss_by_hand(data: Path, twin: Path):
    plan = _plan(init=str(twin), distil=0.5, weights=(1.0, 1.0, 1.0, 5.0), steps=(0, 9), grow=0.0)
    run = Run(plan, RoadFolder.open(data, "training"), data / "none.state")
    images, truth, soft = run.batches(0)
    assert soft is not None
    coarse = run.model.coarse(images)
    logits = F.interpolate(coarse, size=SIZE, mode="bilinear", align_corners=False).log_softmax(1)
    weight = torch.tensor(plan.weights)[truth]
    hard = -(weight * logits.gather(1, truth[:, None])[:, 0]).sum() / weight.sum()
    taught = -(soft * coarse.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(run._loss(images, truth, soft), hard + 0.5 * taught)


def test_plans_that_cannot_be():
    with pytest.raises(InputError, match="distil needs a float twin to learn from; give one as init"):
        Plan(distil=1.0)


def test_weights_are_one_a_class(data: Path, tmp_path: Path):
    with pytest.raises(InputError, match="2 weights were given for the 4 classes of the data set"):
        train(_plan(weights=(1.0, 2.0)), data, tmp_path / "n.safetensors")


def test_the_command_in_the_figures_is_the_plan(monkeypatch: pytest.MonkeyPatch):
    plans: list[Plan] = []

    class Untrained:
        def network(self, argmax: bool) -> torch.nn.Module:
            return demo_float_twin()

        def write(self, *_: object) -> None:
            pass

    def note(plan: Plan, *_: object, **__: object) -> Untrained:
        plans.append(plan)
        return Untrained()

    monkeypatch.setattr(train_module, "train", note)
    monkeypatch.setattr(train_module.RoadFolder, "open", lambda *_: None)
    monkeypatch.setattr(train_module, "evaluate", lambda *_: {})
    wanted = [Plan("twin", steps=(4, 5), grow=0.0), Plan(branches=3, init="OUT/twin.safetensors", distil=1.0)]
    wanted.append(Plan(init="OUT/twin.safetensors", weights=(1.0, 2.0), bfloat16=True, seed=4, rates=(0.1, 0.2)))
    for plan in wanted:
        words = training_command(plan, "name", str(torch.get_num_threads())).split()
        assert main(words[words.index("DATA") :]) == 0
    assert plans == wanted
    networks = json.loads(FIGURES.read_text())["networks"]
    assert all("--threads 1" in network["command"] for network in networks.values())


def test_every_image_comes_once_an_epoch(data: Path):
    plan = _plan()
    batches = _batches(plan, data)
    epochs = [[index for step in range(e * 3, e * 3 + 3) for index in batches._indices(step)] for e in range(3)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(6))] * 3
    assert epochs[0] != epochs[1] or epochs[1] != epochs[2]
    assert batches(2)[0].shape == (2, 3, 32, 32) and batches(3)[0].shape == (2, 3, 64, 64)


def test_iou_by_hand():
    true = torch.tensor([[[0, 0, 1, 1], [2, 2, IGNORED, 1]]])
    predicted = torch.tensor([[[0, 1, 1, 1], [2, 0, 2, 1]]])
    other = torch.tensor([[[1, 2, 2, 2]]])
    result = iou([(predicted, true), (other, other)], 3)
    # background: 1 of 3; road: 3 and 1 of 4 and 1; lane: 1 and 3 of 2 and 3, the ignored pixel not counted
    expected = {"background": 100 / 3, "road": 80.0, "lane": 80.0}
    assert result == pytest.approx({**expected, "mIoU": sum(expected.values()) / 3})


def test_a_class_that_is_nowhere_is_not_in_the_mean():
    true = torch.tensor([[[0, 0, 1, IGNORED]]])
    found = iou([(torch.tensor([[[0, 1, 1, 0]]]), true)], 4)
    assert found == {"background": 50.0, "road": 50.0, "lane": 0.0, "vehicle": 0.0, "mIoU": 50.0}
    # one that is predicted alone is wrong, and in the mean
    assert iou([(torch.tensor([[[0, 2, 1, 0]]]), true)], 4)["mIoU"] == 50.0


def test_pixels_of_a_network_that_says_nothing_of_them():
    image = torch.arange(24, dtype=torch.uint8).reshape(2, 4, 3).numpy()
    found = normalise(image, DEFAULT_PREPROCESSING)
    assert found.shape == (1, 3, 2, 4) and found[0, 2, 1, 3] == pytest.approx(23 / 255)


@pytest.mark.parametrize("upsampling", ["nearest", "transposed"])
def test_compact_checkpoints_are_exact(upsampling: str, small: Ding2024Config, tmp_path: Path):
    model = build(replace(small, upsampling=upsampling, branches=2))
    save_compact(model, tmp_path / "a", "binary")
    loaded = load_compact(tmp_path / "a")
    save_compact(loaded, tmp_path / "b", "binary")
    again = load_compact(tmp_path / "b")
    assert _same_tensors(tmp_path / "a", tmp_path / "b") and loaded.config == model.config and not loaded.training
    inputs = example_inputs(model)
    assert torch.equal(loaded(*inputs), again(*inputs))
    pairs = list(zip(model.modules(), loaded.modules(), strict=True))
    assert sum(isinstance(module, BinaryConv2d | BinaryConvTranspose2d) for module, _ in pairs) > 20
    for module, restored in pairs:
        if isinstance(module, BinaryConv2d):
            assert isinstance(restored, BinaryConv2d)
            assert torch.equal(binary_weight(restored.weight), restored.weight)
            torch.testing.assert_close(binary_weight(restored.weight), binary_weight(module.weight), rtol=5e-4, atol=0)
        elif not isinstance(module, BinaryConvTranspose2d):
            for name, value in module.named_parameters(recurse=False):
                assert torch.equal(value, restored.get_parameter(name))


def test_compact_twin_is_rounded_once(small: Ding2024Config, tmp_path: Path):
    twin = float_twin(small)
    save_compact(twin, tmp_path / "a", "twin")
    loaded = load_compact(tmp_path / "a")
    for name, value in loaded.state_dict().items():
        expected = twin.state_dict()[name]
        assert torch.equal(value, expected.half().to(expected.dtype)), name


def test_bad_checkpoints_are_refused(small: Ding2024Config, tmp_path: Path):
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(ModelError, match="cannot read the checkpoint"):
        load_compact(tmp_path / "text")
    model = build(small)
    save_compact(model, tmp_path / "other", "binary", {"config": "x"})
    tensors, about = read_compact(tmp_path / "other")
    assert json.loads(about["config"])["width"] == small.width, "notes do not replace what loading needs"
    save_file({**tensors, "head.bias": tensors["head.bias"][:-1]}, tmp_path / "short", about)
    with pytest.raises(ModelError, match=r"1 tensors of the checkpoint do not fit the network, such as head\.bias"):
        load_compact(tmp_path / "short")
    save_file(tensors, tmp_path / "foreign", {**about, "format": "?"})
    with pytest.raises(ModelError, match="is not a compact checkpoint"):
        load_compact(tmp_path / "foreign")


def test_shipped_networks_are_the_measured_ones(tmp_path: Path):
    figures = json.loads(FIGURES.read_text())
    write_folder(tmp_path, {"testing": QUICK}, figures["data"]["seed"], tuple(figures["data"]["size"]))
    folder = RoadFolder.open(tmp_path, "testing")
    networks = {"demo-twin": demo_float_twin(), "demo-k1": demo(branches=1), "demo-k3": demo(branches=3)}
    assert networks.keys() == figures["networks"].keys()
    for name, model in networks.items():
        measured = evaluate(model, model.preprocessing, folder)
        assert measured["mIoU"] == pytest.approx(figures["networks"][name]["first"]["mIoU"], abs=1.0)


def test_shipped_networks_are_small_and_fit_the_demo():
    assert sum(path.stat().st_size for path in CHECKPOINTS.iterdir()) < 15e6
    for branches in (1, 3):
        assert demo(branches).config == replace(DEMO, branches=branches)
    assert demo_float_twin().config == DEMO


def test_untrained_demo_needs_a_seed():
    with pytest.raises(ValueError, match="no trained network has 2 branches; accepted: 1, 3; or give a seed"):
        demo(branches=2)
    assert len(demo(branches=2, seed=0).decoder.last.branches.blocks) == 2
