"""The suite `ablation`: every switch changes what is compiled, and not what it computes."""

import json

import pytest
import tvm_ffi

from tvm_bnn import targets
from tvm_bnn.frontend.naming import name_by_node
from tvm_bnn.frontend.source import load_source
from tvm_bnn.lower import lower
from tvm_bnn.relay_passes.decisions import Decisions
from tvm_bnn.relay_passes.pipeline import optimize
from tvm_bnn.report import ablation
from tvm_bnn.report.machine import MB, Limits
from tvm_bnn.report.networks import ding2024
from tvm_bnn.report.rows import OURS

LIMITS = Limits(1, 1e12, 1e11, None, {MB: 1e11, 16 * MB: 2e10})


def kernels(imported, target):
    """A hash of the kernels and of what calls them."""
    return tvm_ffi.structural_hash(lower(optimize(imported, Decisions()), target).module)


@pytest.fixture(scope="module")
def network():
    model, _, inputs = ding2024("3x3", (256, 512)).make()  # large enough for what is meant for large maps
    source = load_source(model, inputs)
    return name_by_node(source.imported(), source.single).module


@pytest.mark.parametrize("switch", ablation.SWITCHES, ids=lambda switch: switch.name)
def test_a_switch_changes_the_kernels(network, switch):
    target = targets.resolve("llvm -mcpu=sapphirerapids", threads=1)
    before = kernels(network, target)
    with switch.off():
        assert kernels(network, switch.target(target)) != before


def test_a_row_compares_the_variants():
    switches = [switch for switch in ablation.SWITCHES if switch.name in ("writing in place", "sums of rows")]
    (row,) = ablation.measure([ding2024("3x3", (64, 96))], {1: LIMITS}, rounds=3, switches=switches)
    assert json.loads(json.dumps(row)) == row
    assert row["suite"] == "ablation" and row["ours_ms"] > 0
    assert set(row["peers"]) == {"without writing in place", "without sums of rows"}
    assert set(row["spreads"]) == {OURS, *row["peers"]}
