"""Each sentence against figures from which it is clear what it must say."""

import pytest

from tests.report.compare import made
from tvm_bnn.report.compare.pareto import front, points
from tvm_bnn.report.compare.verdicts import factor, grouped, verdicts


def texts(report):
    return [each.text for each in verdicts(report)]


def about(report, *words):
    """The only sentence with all of these words."""
    found = [each for each in verdicts(report) if all(word in each.text for word in words)]
    assert len(found) == 1, found
    return found[0]


def test_faster_and_worse():
    report = made.small(
        made.measurement("k3", "tvm_bnn", 2.0, 83.1), made.measurement("float", "onnxruntime-int8", 6.2, 84.9)
    )
    verdict = about(report, "onnxruntime-int8", "as fast")
    assert verdict.text == (
        "k3 in tvm_bnn is 3.10x as fast as float in onnxruntime-int8 (2.00 ms against 6.20 ms) and 1.80 points of mIoU "
        "worse on synthetic-street (83.10 % against 84.90 %)."
    )
    assert verdict.about == ["k3", "tvm_bnn", "float", "onnxruntime-int8"]
    assert (verdict.task, verdict.machine, verdict.threads) == (made.STREET, made.HERE, 2)
    assert verdict.numbers == pytest.approx(
        {"ms": 2.0, "rival_ms": 6.2, "ratio": 3.1, "value": 83.1, "rival_value": 84.9, "difference": -1.8}
    )


def test_slower_and_better():
    report = made.small(
        made.measurement("k3", "tvm_bnn", 6.0, 85.4), made.measurement("float", "onnxruntime-fp32", 4.0, 84.9)
    )
    assert about(report, "as long as").text == (
        "k3 in tvm_bnn takes 1.50x as long as float in onnxruntime-fp32 (6.00 ms against 4.00 ms) and is 0.50 points "
        "of mIoU better on synthetic-street (85.40 % against 84.90 %)."
    )


def test_lower_is_better_in_a_metric_such_as_mae():
    networks = {
        "shape": made.network(made.SALIENT, "float"),
        "shape-k3": made.network(made.SALIENT, "binary", "shape"),
    }
    measurements = [
        made.measurement("shape-k3", "tvm_bnn", 1.0, 0.05, of=made.SALIENT),
        made.measurement("shape", "onnxruntime-fp32", 4.0, 0.03, of=made.SALIENT),
    ]
    changed = {"tasks": {made.SALIENT: made.salient()}, "networks": networks, "measurements": measurements}
    report = made.small().model_copy(update=changed)
    assert about(report, "4.00x as fast as").text.endswith(
        "and 0.0200 of MAE worse on drawings (synthetic) (0.0500 against 0.0300)."
    )
    assert about(report, "Pareto").numbers["front"] == 2


@pytest.mark.parametrize(("ours", "word"), [(84.94, "as good in mIoU"), (84.96, "0.06 points of mIoU better")])
def test_a_twentieth_of_a_point_is_no_difference(ours, word):
    report = made.small(
        made.measurement("k3", "tvm_bnn", 1.0, ours), made.measurement("float", "onnxruntime-fp32", 4.0, 84.9)
    )
    assert word in about(report, "as fast").text


def test_wide_spreads_give_a_lower_bound():
    wide = made.latency(1.0, 2.0, 3.0, 4.0, 5.0)
    report = made.small(made.measurement("k3", "tvm_bnn", 0.5, 83.0), made.measurement("float", "openvino-fp32", wide))
    verdict = about(report, "k3 in tvm_bnn is at least")
    assert verdict.numbers["spread"] == pytest.approx(2 / 3)
    # the first quartile of the one, 2 ms, over the third of the other, 0.5 ms and 1 % of it
    assert verdict.numbers["ratio"] == pytest.approx(4, rel=0.02)
    assert "spread by up to 67 %)" in verdict.text


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        # quartiles 1.1 and 1.3, then 1.29 and 1.49, then 1.31 and 1.51
        ((1.0, 1.1, 1.2, 1.3, 1.4), (1.19, 1.29, 1.39, 1.49, 1.59), False),
        ((1.0, 1.1, 1.2, 1.3, 1.4), (1.21, 1.31, 1.41, 1.51, 1.61), True),
        ((2.0,), (2.0,), False),
        ((2.0,), (2.1,), True),
    ],
)
def test_times_are_told_apart_by_the_middle_halves_of_their_samples(one, other, apart):
    found, turned = (factor(made.latency(*pair[0]), made.latency(*pair[1])) for pair in ((one, other), (other, one)))
    assert (found is not None) == (turned is not None) == apart
    if found is not None:
        assert found.value == turned.value > 1 and (found.first, turned.first) == (False, True)


def test_one_sample_is_named():
    report = made.small(
        made.measurement("k3", "tvm_bnn", 2.0), made.measurement("float", "tvm-stock", made.latency(9000.0))
    )
    assert "(2.00 ms against 9.00 s, timed once)" in about(report, "tvm-stock").text


def test_without_a_peer_the_time_stands_alone():
    report = made.small(made.measurement("k3", "tvm_bnn", 2.0, 83.1))
    assert "k3 in tvm_bnn takes 2.00 ms; nothing else was measured beside it." in texts(report)


def test_the_fastest_of_each_kind_is_compared():
    executors = {"onnxruntime-fp32": 9.0, "openvino-bf16": 8.0, "openvino-int8": 5.0, "onnxruntime-int8": 6.0}
    peers = [made.measurement("float", name, ms) for name, ms in executors.items()]
    ours = [made.measurement("k3", "tvm_bnn", 2.0), made.measurement("k3", "tvm_bnn-tuned", 1.0)]
    others = [made.measurement("float", "pytorch-eager", 4.0), made.measurement("k3", "pytorch-eager", 20.0)]
    found = [each.about[-1] for each in verdicts(made.small(*peers, *ours, *others)) if "ratio" in each.numbers]
    assert found == ["openvino-bf16", "openvino-int8", "pytorch-eager", "pytorch-eager"]
    assert all("k3 in tvm_bnn-tuned" in each for each in texts(made.small(*peers, *ours)))


@pytest.mark.parametrize("other", [{"group": "another run"}, {"threads": 1}])
def test_no_ratio_of_what_took_no_turns(other):
    report = made.small(
        made.measurement("k3", "tvm_bnn", 2.0), made.measurement("float", "onnxruntime-fp32", 4.0, **other)
    )
    assert texts(report) == ["k3 in tvm_bnn takes 2.00 ms; nothing else was measured beside it."]


def test_what_was_left_out_is_not_compared():
    absent = made.measurement("float", "onnxruntime-fp32", left_out="not installed")
    assert len(texts(made.small(made.measurement("k3", "tvm_bnn", 2.0), absent))) == 1


def test_pareto_front():
    cells = {"a": (1.0, 80.0), "b": (2.0, 79.0), "c": (2.0, 85.0), "d": (3.0, 85.0), "e": (4.0, 86.0), "f": (4.0, 86.0)}
    members = [made.measurement("k3", name, ms, value) for name, (ms, value) in cells.items()]
    found = points(made.task(), [*members, made.measurement("k3", "untimed", None, 99.0)])
    assert [each.measurement.executor for each in front(found, "higher")] == ["a", "c", "e", "f"]
    assert [each.measurement.executor for each in front(found, "lower")] == ["a", "b"]


def test_emulated_machines_have_instructions_and_no_time():
    counted = [
        made.measurement("k3", "tvm_bnn", machine=made.BOARD, instructions=20_000_000),
        made.measurement("float", "tvm_bnn", machine=made.BOARD, instructions=130_000_000),
    ]
    machines = {made.BOARD: made.machine(emulated=True, limits={})}
    report = made.small(*counted).model_copy(update={"machines": machines})
    (verdict,) = verdicts(report)
    assert verdict.text == (
        "k3 in tvm_bnn executes 20.00 M instructions an inference, float in tvm_bnn 130.00 M: 6.50x as many. They were "
        "counted on an emulated processor, which tells no time."
    )
    assert " ms" not in verdict.text


@pytest.mark.parametrize(("difference", "words"), [(-0.05, "0.05 points, within"), (0.3, "0.30 points, more than")])
def test_what_is_compiled_is_held_against_pytorch(difference, words):
    compiled = made.measurement("k3", "tvm_bnn", 2.0, 83.1)
    compiled.accuracy.difference["mIoU"] = difference
    itself = made.measurement("k3", "pytorch-eager", 9.0, 83.1)
    itself.accuracy.agreement = 0.999
    assert about(made.small(compiled, itself), "Compiled").text == (
        f"Compiled, mIoU on synthetic-street differs from PyTorch's by {words} 0.05 points, with the same class in "
        "99.987 % of the pixels (PyTorch without oneDNN in 99.900 %): k3 in tvm_bnn."
    )


def test_what_is_as_right_as_in_pytorch_is_one_sentence_and_the_rest_one_each():
    members = [made.measurement("k3", f"tvm_bnn-{name}", 2.0, 83.1) for name in "abcd"]
    for each, difference in zip(members, (0.01, -0.04, 0.2, -0.3), strict=True):
        each.accuracy.difference["mIoU"] = difference
    found = [each for each in texts(made.small(*members)) if each.startswith("Compiled")]
    assert [each.rpartition(": ")[2] for each in found] == [
        "k3 in tvm_bnn-a, k3 in tvm_bnn-b.",
        "k3 in tvm_bnn-c.",
        "k3 in tvm_bnn-d.",
    ]
    assert "by at most 0.04 points, within 0.05 points" in found[0]


def test_accuracy_is_told_once_for_all_numbers_of_threads():
    report = made.small(*(made.measurement("k3", "tvm_bnn", 2.0, 83.1, threads=threads) for threads in (1, 2)))
    assert sum("Compiled" in each for each in texts(report)) == 1


def test_branches():
    report = made.small().model_copy(update={"sweeps": [made.sweep()]})
    (verdict,) = verdicts(report)
    assert "with 4 branches takes 2.00x as long as with one (4.00 ms against 2.00 ms)" in verdict.text
    assert verdict.numbers == {"branches": 4, "ms": 4.0, "one_ms": 2.0, "ratio": 2.0, "multiple": 2.0}


def test_branches_without_one_say_nothing():
    sweep = made.sweep()
    sweep.counts.pop(0)
    assert verdicts(made.small().model_copy(update={"sweeps": [sweep]})) == []


def test_training_says_what_cannot_be_told_apart_and_carries_findings():
    factor, finding = verdicts(made.small().model_copy(update={"ablations": [made.ablation()]}))
    assert factor.text == (
        "Trained on synthetic-road, branches: 3 instead of 1: +1.50 points of MaxF, where seeds spread by 0.25 points; "
        "no difference in MaxF that can be told: 5 instead of 3 (-0.12 points)."
    )
    assert finding.text == "Does more K help? From 1 to 3 by 1.5 points. (On synthetic-road.)"
    assert finding.numbers == {"gain": 1.5}


@pytest.mark.parametrize("missing", sorted(made.ablation()))
def test_training_may_be_incomplete(missing):
    ablation = made.ablation()
    del ablation[missing]
    verdicts(made.small().model_copy(update={"ablations": [ablation]}))


def test_synthetic_data_are_named_in_every_sentence_with_a_figure_of_them():
    named = 0
    for each in verdicts(made.whole()):
        if any(metric in each.text for metric in ("mIoU", "MAE", "MaxF")):
            assert "synthetic" in each.text
            named += 1
    assert named > 10


def test_places_are_headings_that_keep_all_verdicts():
    found = verdicts(made.whole())
    groups = list(grouped(found))
    assert [each for _, own in groups for each in own] == found
    headings = [f"cityscapes: {made.HERE}, {threads}" for threads in ("1 thread", "2 threads")]
    assert [heading for heading, _ in groups][:2] == headings


def test_nothing_measured_says_nothing():
    assert verdicts(made.empty()) == []
