"""The suite `ablation`: every switch changes what is compiled, and not what it computes."""

import json
from dataclasses import dataclass

import pytest
import tvm

from tests.report.small import SMALL
from tvm_bnn import targets
from tvm_bnn.frontend.naming import name_by_node
from tvm_bnn.frontend.source import load_source
from tvm_bnn.report import ablation
from tvm_bnn.report.machine import MB, Limits
from tvm_bnn.report.networks import ding2024
from tvm_bnn.report.rows import OURS

TARGET = targets.resolve("llvm -mcpu=sapphirerapids", threads=1)
LIMITS = Limits(1, 1e12, 1e11, None, {MB: 1e11, 16 * MB: 2e10})


@dataclass(frozen=True)
class Known:
    """A network, and the hash of its kernels."""

    imported: tvm.IRModule
    kernels: int


def known(network):
    model, _, inputs = network.make()
    source = load_source(model, inputs)
    imported = name_by_node(source.imported(), source.single).module
    return Known(imported, ablation.kernels_hash(imported, TARGET))


@pytest.fixture(scope="module")
def networks():
    """With one thing or another, and one whose maps are large enough for what is meant for such."""
    kinds = [
        {"upsampling": "pixel_shuffle", "attention": "token"},
        {"upsampling": "nearest", "attention": "spatial"},
        {"upsampling": "bilinear", "attention": "none"},
    ]
    return [known(each) for each in (*(ding2024("3x3", (64, 96), **k) for k in kinds), ding2024("3x3", (256, 512)))]


@pytest.mark.parametrize("switch", ablation.SWITCHES, ids=lambda switch: switch.name)
def test_a_switch_changes_the_kernels(networks, switch):
    with switch.off():
        assert any(ablation.kernels_hash(each.imported, switch.target(TARGET)) != each.kernels for each in networks)


def test_a_row_compares_the_variants_with_other_kernels():
    names = "epilogues", "writing in place", "channels in the order of a shuffle"
    switches = [switch for switch in ablation.SWITCHES if switch.name in names]
    (row,) = ablation.measure([SMALL], {1: LIMITS}, rounds=3, switches=switches)
    assert json.loads(json.dumps(row)) == row
    assert row["suite"] == "ablation" and row["ours_ms"] > 0
    assert set(row["peers"]) == {"without epilogues", "without writing in place"}
    assert set(row["spreads"]) == {OURS, *row["peers"]}
