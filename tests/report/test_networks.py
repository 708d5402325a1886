"""One small row, measured; the rest of a row from given times."""

import json

import pytest

from tvm_bnn.report import networks
from tvm_bnn.report.machine import MB, Limits
from tvm_bnn.report.networks import OURS, ding2024, measure
from tvm_bnn.report.peers import pytorch_eager
from tvm_bnn.report.timing import Timing

LIMITS = Limits(1, 1e12, 1e11, None, {MB: 1e11, 16 * MB: 2e10})


@pytest.fixture(scope="module")
def row():
    (found,) = measure([ding2024("3x3", (64, 96))], {1: LIMITS}, [pytorch_eager.PEER], rounds=3)
    return found


def test_row_has_every_field_as_plain_data(row):
    assert set(row) == set(networks.Row.__annotations__)
    assert json.loads(json.dumps(row)) == row
    assert (row["suite"], row["name"], row["threads"], row["rounds"]) == ("networks", "bench-3x3-64x96", 1, 3)


def test_row_compares_times_and_limit(row):
    assert set(row["peers"]) == set(row["ratios"]) == {"pytorch-eager"}
    assert set(row["spreads"]) == set(row["agreement"]) == {OURS, "pytorch-eager"}
    assert row["spread"] == max(row["spreads"].values())
    assert row["ceiling_fraction"] == pytest.approx(row["limit_ms"] / row["ours_ms"])


def test_limit_of_the_row_counts_the_networks_arithmetic(row):
    # 25.27 binary Gmac at 512x1024, in proportion to the area; the stem and the head 0.31 float Gmac
    share = 64 * 96 / (512 * 1024)
    arithmetic = share * (25.27e9 / LIMITS.binary + 0.306e9 / LIMITS.fp32)
    weights = 1.4e6 / LIMITS.bandwidth(1.4e6)
    assert 1e3 * (arithmetic + weights) < row["limit_ms"] < 2e3 * (arithmetic + weights)


def test_both_compute_what_pytorch_computes(row):
    assert row["agreement"]["pytorch-eager"] == 1.0
    assert 1 - row["agreement"][OURS] <= max(2 * (1 - row["pytorch_agreement"]), 0.01)


def test_every_kernel_call_has_a_time_and_most_a_layer(row):
    layers = row["layers"]
    assert all(each["ms"] > 0 for each in layers)
    assert {"kernel", "layers", "ms"} == set(layers[0])
    paths = [path for each in layers for path in each["layers"]]
    # each binary convolution has its kernel
    binary = [each for each in layers if each["kernel"].startswith("bconv2d")]
    assert len(binary) >= 16 and all(each["layers"] for each in binary)
    assert len({each["layers"][0] for each in binary}) == len(binary)
    assert {"encoder.stem.conv", "head"} <= set(paths)


def test_a_wide_spread_leaves_the_ratio_out():
    timings = {OURS: Timing((1.0, 1.0, 1.0)), "steady": Timing((4.0,) * 3), "wild": Timing((2.0, 4.0, 8.0))}
    row = networks._row("name", LIMITS, 0.5, timings, {}, 1.0, [])
    assert row["ratios"] == {"steady": 4.0, "wild": None}
    assert row["peers"] == {"steady": 4000.0, "wild": 4000.0}
    assert (row["ours_ms"], row["limit_ms"], row["ceiling_fraction"], row["spread"]) == (1000.0, 500.0, 0.5, 0.75)
