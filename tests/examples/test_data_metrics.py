"""The metrics of the three tasks, against cases that are computed by hand."""

import sys
from math import isnan

import numpy as np
import pytest
import torch
from torchmetrics.classification import BinaryPrecisionRecallCurve

from tvm_bnn.errors import InputError
from tvm_bnn.examples.data.metrics import LEVELS, MeanIoU, Metric, RoadF, metric_of
from tvm_bnn.examples.data.predictions import predictions
from tvm_bnn.examples.data.tasks import TASKS

ALL = sorted(TASKS)


def _new(name: str) -> Metric:
    if name == "ecssd":
        pytest.importorskip("py_sod_metrics", reason="pysodmetrics is not installed; make test installs it")
    return metric_of(TASKS[name])


def _values(metric: Metric, *pairs: tuple[object, object]) -> dict[str, float]:
    for prediction, truth in pairs:
        metric.update(np.array(prediction), np.array(truth, np.uint8))
    return {name: figure.value for name, figure in metric.result().items()}


def test_iou_by_hand():
    truth = [[0, 0, 1, 1], [2, 2, 255, 1]]
    predicted = [[0, 1, 1, 1], [2, 0, 2, 1]]
    found = _values(MeanIoU(["a", "b", "c", "d"], 255), (predicted, truth), ([[1, 2, 2, 2]], [[1, 2, 2, 2]]))
    # a: 1 of 3; b: 4 of 5; c: 4 of 5; d neither occurs nor is predicted; the ignored pixel does not count
    assert found["mIoU"] == pytest.approx(100 * (1 / 3 + 4 / 5 + 4 / 5) / 3)
    assert [found[f"IoU {name}"] for name in "abc"] == pytest.approx([100 / 3, 80, 80]) and isnan(found["IoU d"])


def test_a_class_that_is_only_predicted_counts_as_zero():
    found = _values(MeanIoU(["a", "b"], 255), ([[0, 0, 0, 1]], [[0, 0, 0, 0]]))
    assert found == pytest.approx({"mIoU": 37.5, "IoU a": 75, "IoU b": 0})


def test_road_by_hand():
    probability = np.array([[0.9, 0.8, 0.6], [0.4, 0.3, 1.0]])
    # down to 0.3: 3 of 5 are road, and all road is found; to 0.8: 2 of 2, and 2 of 3; the last pixel is ignored
    found = _values(RoadF(255), (probability, [[1, 1, 0], [0, 1, 255]]))
    assert found == pytest.approx({"MaxF": 80, "precision": 100, "recall": 200 / 3})
    # pixels of all images count together
    both = _values(RoadF(255), (probability, [[1, 1, 0], [0, 1, 255]]), ([[0.85, 0.1]], [[0, 0]]))
    # to 0.3: 3 of 6 and 3 of 3: 2/3; to 0.8: 2 of 3 and 2 of 3: 2/3; the higher threshold is taken
    assert both == pytest.approx({"MaxF": 200 / 3, "precision": 200 / 3, "recall": 200 / 3})


def test_road_is_what_torchmetrics_curve_gives():
    rng = np.random.default_rng(0)
    metric, curve = RoadF(255), BinaryPrecisionRecallCurve(thresholds=LEVELS, ignore_index=255)
    for _ in range(3):
        truth = rng.choice([0, 1, 255], (20, 30), p=[0.5, 0.4, 0.1])
        probability = np.clip(0.5 + 0.3 * (truth == 1) + rng.normal(0, 0.3, truth.shape), 0, 1).astype(np.float32)
        probability[:5] = np.round(probability[:5] * 255) / np.float32(255)
        metric.update(probability, truth)
        curve.update(torch.from_numpy(probability), torch.from_numpy(truth))
    precision, recall = (values[:-1].double().nan_to_num(0) for values in curve.compute()[:2])
    f1 = 2 * precision * recall / (precision + recall)
    found = {name: figure.value for name, figure in metric.result().items()}
    assert found["MaxF"] == pytest.approx(100 * float(f1.nan_to_num(0).max()), rel=1e-6)
    pairs = torch.stack([precision, recall], dim=1)[f1 >= f1.nan_to_num(0).max() * (1 - 1e-6)]
    assert any([found["precision"], found["recall"]] == pytest.approx([100 * p, 100 * r]) for p, r in pairs.tolist())


def test_salient_objects_by_hand():
    # thresholds up to 0.2: all, precision 1/2, recall 1; to 0.6: 2/3 and 1; to 1: 1/1 and 1/2
    one = ([[1.0, 0.6], [0.6, 0.0]], [[1, 1], [0, 0]])

    def f(precision: float, recall: float) -> float:
        return 1.3 * precision * recall / (0.3 * precision + recall)

    assert _values(_new("ecssd"), one) == pytest.approx({"MaxF": f(1, 1 / 2), "MAE": (0.4 + 0.6) / 4})
    # the second is found at every threshold but 0, where all is; the mean of both curves has its maximum
    other = ([[0.0, 1.0]], [[0, 1]])
    both = {"MaxF": max((f(1, 1 / 2) + 1) / 2, (f(2 / 3, 1) + 1) / 2), "MAE": 0.125}
    assert _values(_new("ecssd"), one, other) == pytest.approx(both)
    # a map is stretched: 0.2 and 0.4 are as 0 and 1
    assert _values(_new("ecssd"), ([[0.2, 0.4]], [[0, 1]])) == pytest.approx({"MaxF": 1, "MAE": 0})


TRUTH = [[1, 0, 0], [1, 0, 1]]
INVERTED = [[0, 1, 1], [0, 1, 0]]


@pytest.mark.parametrize("name", ALL)
def test_perfect_and_inverted(name: str):
    perfect = _values(_new(name), (TRUTH, TRUTH))
    inverted = _values(_new(name), (INVERTED, TRUTH))
    if name == "cityscapes":
        assert perfect["mIoU"] == perfect["IoU road"] == perfect["IoU sidewalk"] == 100
        assert inverted["mIoU"] == inverted["IoU road"] == inverted["IoU sidewalk"] == 0
    elif name == "kitti-road":
        assert perfect == {"MaxF": 100, "precision": 100, "recall": 100}
        # at threshold 0 everything is road: half of it is, and all of it is found
        assert inverted == pytest.approx({"MaxF": 200 / 3, "precision": 50, "recall": 100})
    else:
        assert perfect == {"MaxF": 1, "MAE": 0}
        assert inverted == pytest.approx({"MaxF": 1.3 * 0.5 / (0.3 * 0.5 + 1), "MAE": 1})


@pytest.mark.parametrize("name", ALL)
def test_one_pixel(name: str):
    first = next(iter(_values(_new(name), ([[1]], [[1]])).values()))
    assert first == (1 if name == "ecssd" else 100)


@pytest.mark.parametrize("name", ["cityscapes", "kitti-road"])
def test_all_ignored_is_undefined(name: str):
    assert all(isnan(value) for value in _values(_new(name), ([[0, 1]], [[255, 255]])).values())
    # and changes nothing
    assert _values(_new(name), ([[0, 1]], [[255, 255]]), (TRUTH, TRUTH)) == pytest.approx(
        _values(_new(name), (TRUTH, TRUTH)), nan_ok=True
    )


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
@pytest.mark.parametrize("name", ALL)
def test_no_image_is_undefined(name: str):
    assert all(isnan(figure.value) for figure in _new(name).result().values())


def test_truth_without_the_class():
    assert all(isnan(value) for value in _values(_new("kitti-road"), ([[0.9, 0.0]], [[0, 0]])).values())
    assert _values(_new("ecssd"), ([[1.0, 0.0]], [[0, 0]])) == {"MaxF": 0, "MAE": 0.5}
    found = _values(_new("cityscapes"), ([[0, 0]], [[0, 0]]))
    assert found["mIoU"] == found["IoU road"] == 100 and isnan(found["IoU car"])


@pytest.mark.parametrize("name", ALL)
def test_every_figure_says_what_is_better(name: str):
    metric = _new(name)
    metric.update(torch.tensor(TRUTH), torch.tensor(TRUTH))
    better = {key: figure.better for key, figure in metric.result().items()}
    assert {key for key, value in better.items() if value == "lower"} == ({"MAE"} if name == "ecssd" else set())
    assert next(iter(better)) == ("mIoU" if name == "cityscapes" else "MaxF")


@pytest.mark.parametrize("name", ALL)
def test_predictions_that_are_none(name: str):
    for wrong in (np.zeros((2, 3)), np.zeros((1, 2, 2)), np.zeros((0, 0))):
        with pytest.raises(ValueError, match=r"both are to be of one \[H, W\]"):
            _new(name).update(wrong, np.zeros((2, 2), np.uint8))
    for value in (-0.5, 1.5, np.nan) if name != "cityscapes" else (-1, 19, 0.5):
        message = "classes 0 up to 18" if name == "cityscapes" else r"in 0\.\.1; logits need a sigmoid"
        with pytest.raises(ValueError, match=message):
            _new(name).update(np.full((1, 2), value), np.zeros((1, 2), np.uint8))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "py_sod_metrics", None)
    with pytest.raises(InputError, match=r"need the package pysodmetrics .* pip install 'tvm_bnn\[metrics\]'"):
        metric_of(TASKS["ecssd"])


def test_predictions_of_logits_and_class_maps():
    """Two classes: the softmax of class 1; more: the class of the largest logit; class maps as they are."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (2, 2, 3, 4)).astype(np.float32)
    expected = torch.from_numpy(logits).double().softmax(1)[:, 1].numpy()
    for name in ("kitti-road", "ecssd"):
        found = predictions(logits, TASKS[name])
        assert found.dtype == np.float32 and found.shape == (2, 3, 4)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    streets = rng.normal(size=(2, 19, 3, 4)).astype(np.float32)
    assert np.array_equal(predictions(streets, TASKS["cityscapes"]), torch.from_numpy(streets).argmax(1).numpy())
    classes = rng.integers(0, 2, (2, 3, 4))
    assert np.array_equal(predictions(classes, TASKS["kitti-road"]), classes)


def test_certain_predictions_are_zero_and_one():
    """However far apart the logits are; a metric refuses anything beyond."""
    logits = np.array([[-3e38, 3e38], [3e38, -3e38]], np.float32).reshape(1, 2, 1, 2) / 2
    assert predictions(logits, TASKS["ecssd"]).tolist() == [[[1.0, 0.0]]]


@pytest.mark.parametrize(
    "output, found",
    [
        (np.zeros((1, 3, 4, 4), np.float32), r"float32 \[1, 3, 4, 4\]"),
        (np.zeros((1, 4, 4), np.float32), r"float32 \[1, 4, 4\]"),
        (np.zeros((1, 2, 4, 4), np.int64), r"int64 \[1, 2, 4, 4\]"),
    ],
)
def test_outputs_that_are_no_predictions(output: np.ndarray, found: str):
    with pytest.raises(InputError, match=rf"output {found}; kitti-road takes class maps, .* or logits, .*\[N, 2, H, W"):
        predictions(output, TASKS["kitti-road"])
