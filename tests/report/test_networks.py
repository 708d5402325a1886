"""One small row, measured; the rest of a row from given times."""

import json
from functools import partial

import numpy as np
import pytest

from tests.report.small import SMALL
from tvm_bnn.examples.ding2024 import bench
from tvm_bnn.nn import BinaryConv2d
from tvm_bnn.report import networks, tables
from tvm_bnn.report.machine import MB, Limits
from tvm_bnn.report.networks import ding2024, measure
from tvm_bnn.report.peers import Peer, pytorch_eager
from tvm_bnn.report.rows import OURS
from tvm_bnn.targets import resolve

LIMITS = Limits(1, 1e12, 1e11, None, {MB: 1e11, 16 * MB: 2e10})


def refuse(network, threads):
    raise RuntimeError("Traceback:\n\nno such operator\n")


@pytest.fixture(scope="module")
def row():
    peers = [pytorch_eager.PEER, Peer("never", (), refuse)]
    (found,) = measure([ding2024("3x3", (64, 96))], {1: LIMITS}, peers, rounds=3)
    return found


def test_row_has_every_field_as_plain_data(row):
    assert set(row) == set(networks.Row.__annotations__)
    assert json.loads(json.dumps(row)) == row
    assert (row["suite"], row["name"], row["threads"], row["rounds"]) == ("networks", "bench-3x3-64x96", 1, 3)


def test_targets_take_turns_and_have_a_row_each():
    targets = [partial(resolve, "llvm -mcpu=x86-64"), partial(resolve, "llvm")]
    rows = measure([SMALL], {1: LIMITS}, [pytorch_eager.PEER], 3, None, *targets)
    names = [target(1).name for target in targets]
    assert [(row["target"], row["name"]) for row in rows] == [(name, f"{SMALL.name} {name}") for name in names]
    one, other = rows
    assert one["ours_ms"] != other["ours_ms"] and one["peers"] == other["peers"]
    assert set(one["spreads"]) == {OURS, "pytorch-eager"}


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


def test_a_peer_that_cannot_run_the_network_is_left_out_and_named(row):
    assert row["left_out"] == {"never": "no such operator"} and "never" not in row["peers"]


def test_memory_is_that_of_processes_of_their_own(row):
    assert set(row["memory_mb"]) == set(row["growth_mb"]) == {OURS, "pytorch-eager"}
    assert 0 < row["memory_mb"][OURS] and 0 < row["memory_mb"]["pytorch-eager"]
    (line,) = zip(*(column.cells for column in tables.memory([row], ["pytorch-eager"]).columns), strict=True)
    assert line[:2] == ("bench-3x3-64x96", "1") and len(line) == 7


def test_sizes_count_a_bit_for_each_binary_weight(row):
    network = bench()
    binary = sum(module.weight.numel() for module in network.modules() if isinstance(module, BinaryConv2d))
    others = sum(parameter.numel() for parameter in network.parameters()) - binary
    assert row["weight_bytes"] == binary // 8 + 4 * others
    assert row["artifact_bytes"] > row["weight_bytes"] and row["compile_s"] > 0


def test_classes_of_logits_are_compared():
    logits = np.array([[0.0, 1.0, 2.0], [3.0, 1.0, 2.0]], np.float32)
    assert networks._same(logits[:, ::-1] * 2, logits) == 0.0
    assert networks._same(logits + 1, logits) == 1.0
    assert networks._same(np.array([1, 2]), np.array([1, 3])) == 0.5
