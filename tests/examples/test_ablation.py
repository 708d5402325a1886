"""The ablation: its runs, its rule of what a difference is, and what it sees inside networks."""

import json
from dataclasses import replace
from math import sqrt
from pathlib import Path

import pytest
import torch
from torch import nn

from tvm_bnn.errors import InputError
from tvm_bnn.examples.data.dataset import DataSet, draw_data
from tvm_bnn.examples.data.tasks import TASKS
from tvm_bnn.examples.ding2024 import DEMO, Ding2024, build
from tvm_bnn.examples.training import splits
from tvm_bnn.examples.training.ablate import selected
from tvm_bnn.examples.training.ablation import main
from tvm_bnn.examples.training.cases import CENTRE, FACTORS, all_cases, shipped_cases
from tvm_bnn.examples.training.diagnostics import Moments, branch_errors, diagnose
from tvm_bnn.examples.training.evaluate import measure
from tvm_bnn.examples.training.findings import (
    by_configuration,
    compare,
    comparisons,
    findings,
    in_words,
    verdict,
)
from tvm_bnn.examples.training.plan import PRESETS
from tvm_bnn.examples.training.records import Record, as_json
from tvm_bnn.examples.training.trained import CHECKPOINTS, load_trained, shipped
from tvm_bnn.nn import WeightedMerge
from tvm_bnn.nn.binary_mask import BinaryMask

SIZE = (32, 64)
TINY = ["--steps", "1", "1", "--size", "32", "64", "--width", "4", "--decoder-channels", "8", "--batch", "2"]
FEW = [*TINY, "--samples", "4", "--seeds", "2", "--only", "kitti-road-k[13]-channel-nearest-*"]


@pytest.fixture(autouse=True)
def few_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "JUDGED", 2)


def test_every_run_is_made_once():
    cases = all_cases(3)
    ablated = [case for case in cases if case.task == "kitti-road" and case.variant == "binary"]
    assert len(ablated) == 27 and len({case.configuration for case in ablated}) == 9
    assert len(cases) == len({case.name for case in cases}) == 27 + 7
    for pairs in FACTORS.values():
        for before, after in pairs:
            fields = [name for name, value in vars(before).items() if value != vars(after)[name]]
            assert len(fields) == 1, "one factor at a time"
    assert [case.name for case in selected(1, ["*-twin-*"])] == [f"{task}-twin-seed0" for task in TASKS]
    assert CENTRE in cases


def test_two_configurations_and_two_seeds(tmp_path: Path, capsys: pytest.CaptureFixture):
    """Made, found again, and what the file says of them."""
    assert main([str(tmp_path), *FEW]) == 0
    first = (tmp_path / "ablation.json").read_text()
    content = json.loads(first)
    assert content["synthetic"] and content["data_set"] == "synthetic-road" and content["seeds"] == [0, 1]
    assert content["command"].startswith("python -m tvm_bnn.examples.training.ablation OUT_DIR --steps 1 1")
    assert (content["metric"], content["better"], content["unit"], content["size"]) == ("MaxF", "higher", "%", [32, 64])
    runs = content["runs"]
    configurations = ["k1-channel-nearest", "k3-channel-nearest"]
    assert [(run["name"], run["seed"]) for run in runs] == [(name, seed) for seed in (0, 1) for name in configurations]
    assert all(0 <= run["figures"]["MaxF"]["value"] <= 100 for run in runs)
    (comparison,) = content["comparisons"]
    mean = {name: sum(r["figures"]["MaxF"]["value"] for r in runs if r["name"] == name) / 2 for name in configurations}
    assert (comparison["factor"], comparison["from"], comparison["to"]) == ("branches", *configurations)
    assert comparison["difference"] == pytest.approx(mean[configurations[1]] - mean[configurations[0]])
    assert runs[0]["diagnostics"]["error_correlation"] is None and len(runs[1]["diagnostics"]["error_correlation"]) == 3
    assert content["findings"][0]["question"] == "Do more branches help?"
    assert [(run["variant"], run["branches"]) for run in content["other_tasks"]] == [("binary", 1), ("binary", 3)]
    assert load_trained(tmp_path / "kitti-road-k3.safetensors").model.config.branches == 3
    # the third is lost; the others are not made again
    (tmp_path / "runs" / "kitti-road-k1-channel-nearest-seed1.json").unlink()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}
    assert main([str(tmp_path), *FEW]) == 0
    assert {path.name for path, time in kept.items() if path.stat().st_mtime_ns != time} == {
        "kitti-road-k1-channel-nearest-seed1.safetensors"
    }
    again = json.loads((tmp_path / "ablation.json").read_text())
    for run in (*runs, *again["runs"]):
        run["seconds"] = 0
    assert again["runs"] == runs
    # another plan is another run
    assert main([str(tmp_path), *FEW, "--rates", "1e-3", "1e-3"]) == 0
    assert all(path.stat().st_mtime_ns != time for path, time in kept.items())
    assert "kitti-road-k3-channel-nearest-seed1: MaxF" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--only", "nothing*"], "no run's name matches nothing*; such as: kitti-road-k3-channel-nearest-seed0"),
        (["--seeds", "0"], "found '0'; a whole number from 1 up is needed"),
        (["--branches", "3"], "unrecognized arguments: --branches 3"),
        (["--size", "30", "64"], "found images of (30, 64); accepted: multiples of 32"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main([str(tmp_path / "out"), *arguments]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ") and errors.count("\n") == 1 and message in errors, errors


def test_a_record_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "kitti-road-k1-channel-nearest-seed0.json").write_text("{}")
    assert main([str(tmp_path), *FEW]) == 2
    assert "seed0.json is no record of a run" in capsys.readouterr().err


def test_differences_by_hand():
    """Means 2 apart; deviations 1 and sqrt(3) pooled to sqrt(2), twice of which is 2.83."""
    values = {"a": [1.0, 2.0, 3.0], "b": [2.0, 5.0, 5.0], "c": [5.0, 5.0, 5.0], "one": [9.0]}
    found = compare("branches", "a", "b", values)
    assert found.difference == pytest.approx(2) and found.seed_spread == pytest.approx(2 * sqrt(2))
    assert not found.distinguishable and in_words(found, "%") == "b against a (spread of the seeds 2.83)"
    # 3 apart; deviations 1 and 0 pooled to sqrt(1 / 2), twice of which is 1.41
    found = compare("branches", "a", "c", values)
    assert found.distinguishable and in_words(found, "%") == "c against a, +3 points (spread of the seeds 1.41)"
    assert compare("branches", "c", "a", values).difference == -found.difference
    alone = compare("branches", "a", "one", values)
    assert alone.seed_spread is None and not alone.distinguishable
    assert found.as_json()["from"] == "a" and found.as_json()["to"] == "c"


def test_verdicts_by_hand():
    """A difference counts where it exceeds the spread, whichever way is better."""
    values = {"a": [1.0, 1.2], "up": [3.0, 3.2], "down": [0.0, 0.2], "near": [1.1, 1.3], "one": [9.0]}
    made = [compare("attention", "a", name, values) for name in ("up", "down", "near", "one")]
    up = "up against a, +2 points (spread of the seeds 0.283)"
    down = "down against a, -1 points (spread of the seeds 0.283)"
    rest = "No difference: near against a (spread of the seeds 0.283). Not known, from one seed: one against a."
    assert verdict("?", made, "higher", "%").answer == f"Better: {up}. Worse: {down}. {rest}"
    found = verdict("?", made, "lower", "%")
    assert found.answer == f"Worse: {up}. Better: {down}. {rest}"
    assert found.numbers == pytest.approx({"up - a": 2, "down - a": -1, "near - a": 0.1, "one - a": 7.9})


def test_moments_come_in_parts():
    torch.manual_seed(0)
    values = torch.randn(3, 50)
    values[2] = -2 * values[0] + 1
    moments = Moments()
    for part in values.split([20, 30], dim=1):
        moments.update(part)
    torch.testing.assert_close(moments.covariance(), torch.cov(values.double(), correction=0))
    torch.testing.assert_close(moments.correlation(), torch.corrcoef(values.double()))
    assert moments.correlation()[0, 2] == pytest.approx(-1)
    constant = Moments()
    constant.update(torch.tensor([[1.0, 1.0], [0.0, 1.0]]))
    assert constant.correlation().tolist() == [[0, 0], [0, 1]]


def _network(branches: int, **fields) -> Ding2024:
    small = replace(DEMO, width=4, decoder_channels=8, classes=2, argmax=False, input_size=SIZE)
    return build(replace(small, branches=branches, **fields))


def _data(count: int = 2) -> DataSet:
    return draw_data(TASKS["kitti-road"], "val", count, size=SIZE)


def test_equal_branches_err_alike():
    model = _network(3)
    blocks = model.decoder.last.branches.blocks
    blocks[1].load_state_dict(blocks[0].state_dict())
    attention = model.decoder.last.branches.attention.attend.linear
    nn.init.zeros_(attention.weight), nn.init.ones_(attention.bias)  # all is let through
    found = diagnose(model, _data())
    assert found.error_correlation is not None and found.mean_error_correlation is not None
    assert found.error_correlation[0][1] == pytest.approx(1) and found.error_correlation[0][2] < 0.999
    pairs = [found.error_correlation[i][j] for i, j in ((0, 1), (0, 2), (1, 2))]
    assert found.mean_error_correlation == pytest.approx(sum(pairs) / 3)
    assert found.masks["decoder.last.branches.attention.attend.mask"].near_uniform == 1
    assert diagnose(_network(1), _data(1)).error_correlation is None


def test_the_error_of_a_branch_by_hand():
    """A head that tells road by the first channel alone: logits 0 and x, of branches times the sum of the weights."""
    model = _network(2)
    with torch.no_grad():
        model.head.weight.zero_(), model.head.bias.zero_()
        model.head.weight[1, 0] = 1
        model.decoder.last.merge.weight.copy_(torch.tensor([0.5, 1.5]))
    branches = [torch.zeros(1, 8, 1, 1), torch.full((1, 8, 1, 1), 0.7)]
    truth = torch.tensor([[1, 0, 255]])
    road = 1 / (1 + torch.exp(torch.tensor(-1.4)))
    expected = torch.tensor([[0.5, 0.5], [1 - road, road]])
    torch.testing.assert_close(branch_errors(model, branches, truth), expected)


def test_variances_are_of_what_is_added_up():
    """Of one image, beside PyTorch's; a branch with weight 0 has none."""
    model, seen = _network(2), []
    merge = model.decoder.up[0].upsample.merge
    assert isinstance(merge, WeightedMerge)
    with torch.no_grad():
        merge.weight.copy_(torch.tensor([0.0, 2.0]))
    hook = merge.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][1]))
    found = diagnose(model, _data(1)).branch_variance["decoder.up.0.upsample.merge"]
    hook.remove()
    expected = float((2 * seen[0][0]).flatten(1).double().var(1, correction=0).mean())
    assert found == [0, pytest.approx(expected)]


def test_masks_by_hand():
    """One attention lets everything through, in every image; the others are left as they are."""
    model = _network(2, attention="spatial")
    conv = model.decoder.up[1].branches.attention.attend.conv
    nn.init.zeros_(conv.weight), nn.init.zeros_(conv.bias)
    found = diagnose(model, _data()).masks
    assert len(found) == sum(isinstance(module, BinaryMask) for module in model.modules()) == 4
    always = found["decoder.up.1.branches.attention.attend.mask"]
    assert (always.ones, always.near_uniform, always.constant) == (1, 1, 1)
    assert any(0 < mask.ones < 1 and mask.near_uniform < 1 for mask in found.values())


def test_what_ships_is_what_the_ablation_made():
    """Each checkpoint is its run of ablation.json, with the plan of the preset; one is measured again."""
    content = json.loads((CHECKPOINTS / "ablation.json").read_text())
    made = {(run["task"], run["name"], run["seed"]): run for run in content["other_tasks"]}
    cases = shipped_cases()
    assert sorted(path.stem for path in CHECKPOINTS.glob("*.safetensors")) == sorted(cases)
    assert sum(path.stat().st_size for path in CHECKPOINTS.iterdir()) < 7e6
    for name, case in cases.items():
        task = TASKS[case.task]
        trained = load_trained(shipped(task, name.removeprefix(f"{task.name}-")))
        run = made[case.task, case.configuration, case.seed]
        assert trained.plan == case.plan(PRESETS["small"](task, trained.samples)) and trained.data == run["data_set"]
        assert as_json(trained.figures) == run["figures"]
    trained = load_trained(shipped(TASKS["kitti-road"], "k1"))
    data = draw_data(trained.task, "val", 64, size=trained.plan.size)
    found = measure(trained.model, trained.model.preprocessing, data)
    assert found["MaxF"].value == pytest.approx(trained.figures["MaxF"].value, abs=0.5), "sums differ by processor"
    with pytest.raises(InputError, match="found network 'k5'; accepted: twin, k1, k3"):
        shipped(TASKS["kitti-road"], "k5")


def test_what_the_ablation_found_follows_from_its_runs():
    content = json.loads((CHECKPOINTS / "ablation.json").read_text())
    runs = by_configuration(Record(**run) for run in content["runs"])
    assert content["comparisons"] == [one.as_json() for one in comparisons(runs)]
    assert content["findings"] == [vars(one) for one in findings(runs, content["better"], content["unit"])]
