"""A small comparison, measured; stopped and resumed; over to another machine and task by merging."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.report.compare import small_networks
from tests.report.small import quick_ceilings
from tvm_bnn.console import Progress
from tvm_bnn.errors import DeviceError, InputError
from tvm_bnn.report import __main__ as report
from tvm_bnn.report.compare import config, content, executors, judging, machines, measure, samples
from tvm_bnn.report.compare.merge import merged
from tvm_bnn.report.compare.store import Store
from tvm_bnn.report.machine import Limits

CONFIG = f"""
title = "Small"
rounds = 3
samples = 1
[[task]]
name = "kitti-road"
images = 2
size = [32, 64]
[[network]]
name = "float"
task = "kitti-road"
model = "{small_networks.__name__}:twin"
executors = ["pytorch-eager", "tvm-stock"]
[[network]]
name = "binary"
task = "kitti-road"
model = "{small_networks.__name__}:binary"
twin = "float"
executors = ["tvm_bnn", "tvm_bnn-tuned"]
[[target]]
threads = [1]
"""


def written(folder, text=CONFIG):
    (folder / "c.toml").write_text(text, encoding="utf-8")
    return config.read(folder / "c.toml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("compare")


@pytest.fixture(scope="module", autouse=True)
def quick():
    with pytest.MonkeyPatch.context() as patch:
        quick_ceilings(patch)
        yield


@pytest.fixture(scope="module")
def measured(folder):
    return measure.measure(written(folder), Store(folder / "measured"), Progress(quiet=True))


def row(measured, network, executor):
    (found,) = [each for each in measured.measurements if (each.network, each.executor) == (network, executor)]
    return found


def test_every_network_and_executor_has_a_row(measured):
    rows = [(each.network, each.executor, each.left_out is None) for each in measured.measurements]
    assert rows == [
        ("float", "pytorch-eager", True),
        ("float", "tvm-stock", True),
        ("binary", "tvm_bnn", True),
        ("binary", "tvm_bnn-tuned", False),
    ]
    assert "no tuning record fits it" in row(measured, "binary", "tvm_bnn-tuned").left_out


def test_networks_tell_what_they_take(measured):
    twin, binary = measured.networks["float"], measured.networks["binary"]
    assert (twin.kind, binary.kind) == ("float", "binary") and not twin.refused
    # the same arithmetic, in bits
    assert twin.binary_macs == 0 and twin.float_macs == pytest.approx(binary.binary_macs + binary.float_macs, rel=0.05)
    assert binary.operations == binary.float_macs + binary.binary_macs / 64
    assert binary.reduction == pytest.approx(twin.operations / binary.operations) and twin.reduction is None
    assert {layer.path for layer in binary.refused} >= {"encoder.stem.conv", "head"}
    assert all(layer.reason for layer in binary.refused) and len(binary.refused) == binary.layers_float
    assert twin.sha256 != binary.sha256


def test_times_limits_and_layers(measured):
    ours, stock = row(measured, "binary", "tvm_bnn"), row(measured, "float", "tvm-stock")
    assert len(ours.latency.samples_ms) == 3 and ours.latency.least_ms == min(ours.latency.samples_ms)
    assert ours.throughput_per_s == pytest.approx(1e3 / ours.latency.median_ms)
    assert ours.limit_fraction == pytest.approx(ours.limit_ms / ours.latency.median_ms)
    assert ours.group == stock.group and stock.limit_ms is None and not stock.layers
    assert sum(layer.binary_macs for layer in ours.layers) == measured.networks["binary"].binary_macs
    assert ours.memory_mb > 0 and stock.memory_mb is None
    assert ours.memory_plan.calls == [layer.kernel for layer in ours.layers]


def test_highest_of_all_looks_at_the_machine_holds():
    looks = [Limits(2, 5.0, 2.0, None, {1: 7.0, 4: 1.0}, 3.0), Limits(2, 4.0, 3.0, None, {1: 6.0, 4: 2.0}, None)]
    assert machines.best(looks) == Limits(2, 5.0, 3.0, None, {1: 7.0, 4: 2.0}, 3.0)


def test_accuracy_beside_pytorchs(measured):
    for each in measured.measurements:
        if each.left_out is None:
            (metric, figure), *_ = each.accuracy.figures.items()
            assert metric == measured.tasks["kitti-road"].metric == "MaxF" and 0 <= figure.value <= 100
            assert 0.9 <= each.accuracy.agreement <= 1
            assert abs(each.accuracy.difference["MaxF"]) < 5
    assert row(measured, "float", "tvm-stock").accuracy.agreement > 0.999


def test_other_images_give_other_answers(measured, folder):
    """The input is read anew: figures are not those of one image, again and again."""
    chosen = written(folder)
    subject = measure.load(chosen.network[1], (32, 64), "kitti-road")
    images = judging.images_of(chosen.task[0])
    run = executors.prepare("tvm_bnn", subject, measure.HERE, 1, folder, ()).run
    pytorch = executors.prepare("pytorch-eager", subject, measure.HERE, 1, folder, ()).run
    found = judging.judge(run, subject, images)
    same = judging.judge(pytorch, subject, images)
    assert not np.array_equal(found.classes[0], found.classes[1])
    assert found.agreement(same) > 0.95
    kept = judging.unpacked(measured.answers["kitti-road"]["binary"])
    assert np.array_equal(kept[0], found.classes[0])


def test_resumed_run_measures_nothing_again(measured, folder, monkeypatch):
    def refuse(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr(measure, "prepare", refuse)
    monkeypatch.setattr(measure, "interleave", refuse)
    monkeypatch.setattr(measure, "judge", refuse)
    again = measure.measure(written(folder), Store(folder / "measured"), Progress(quiet=True))
    assert again.measurements == measured.measurements
    assert again.networks == measured.networks and again.answers == measured.answers


def test_other_settings_are_measured_anew(measured, folder, monkeypatch):
    def refuse(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr(measure, "prepare", refuse)
    with pytest.raises(AssertionError, match="measured again"):
        chosen = written(folder, CONFIG.replace("rounds = 3", "rounds = 4"))
        measure.measure(chosen, Store(folder / "measured"), Progress(quiet=True))


def whole(measured, folder, title="Small"):
    return measured.report(title, ["compare"], samples.write(measured, folder))


def test_report_is_read_back_as_written(measured, folder):
    made = whole(measured, folder)
    (folder / "report.json").write_text(made.model_dump_json())
    assert content.read(folder / "report.json") == made
    (sample,) = made.samples
    assert set(sample.predictions) == {"float", "binary"} and 0 <= sample.differing <= 1
    for path in (sample.image, sample.truth, sample.difference, *sample.predictions.values()):
        assert (folder / path).is_file()


def test_reports_merge_and_times_of_two_runs_are_not_of_one_group(measured, folder):
    one, two = whole(measured, folder, "A"), whole(measured, folder, "B")
    both = merged([one, two])
    assert both.title == "A and B" and len(both.measurements) == 2 * len(one.measurements)
    assert len(both.machines) == 2 and both.networks == one.networks and both.tasks == one.tasks
    assert len({each.group for each in both.measurements}) == 2
    assert {each.machine for each in both.measurements} == set(both.machines)
    assert len(both.samples) == 1 and both.commands == ["compare"]


def test_merged_networks_of_one_name_and_other_weights_stay_apart(measured, folder):
    one, two = whole(measured, folder), whole(measured, folder)
    other = two.networks["float"].model_copy(update={"sha256": "other"})
    both = merged([one, two.model_copy(update={"networks": {**two.networks, "float": other}})])
    assert set(both.networks) == {"float", "binary", "float (2)"}
    assert {each.network for each in both.measurements[4:]} == {"float (2)", "binary"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "no report of version 1: title"),
        ("no", "no report of version 1"),
        (json.dumps({"version": 2}), "no report of version 1: version"),
    ],
)
def test_other_files_are_no_reports(tmp_path, capsys, text, said):
    (tmp_path / "a.json").write_text(text)
    path = str(tmp_path / "a.json")
    assert report.main(["merge", path, path, "-o", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_network_for_other_images(folder):
    text = CONFIG.replace("size = [32, 64]", "size = [33, 65]")
    with pytest.raises(InputError, match="'float' does not take images of 33x65"):
        measure.measure(written(folder, text), Store(folder / "measured"), Progress(quiet=True))


def test_device_that_is_not_there_is_told_before_anything_is_measured(folder, monkeypatch):
    monkeypatch.setattr(measure, "images_of", lambda table: pytest.fail("measured"))
    text = CONFIG.replace("threads = [1]", '[[target]]\nname = "board"\nrpc = "127.0.0.1:1"')
    with pytest.raises(DeviceError):
        measure.measure(written(folder, text), Store(folder / "measured"), Progress(quiet=True))


def test_schema_describes_every_field(capsys):
    assert report.main(["schema"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["properties"]) == set(content.Report.model_fields)
    assert all(part.get("description") for part in told["$defs"].values())


def test_command_refuses_what_is_no_configuration(tmp_path, capsys):
    assert report.main(["compare", str(tmp_path / "none.toml"), "-o", str(tmp_path / "out")]) == 2
    assert "cannot read" in capsys.readouterr().err
    assert not Path(tmp_path / "out").exists()
