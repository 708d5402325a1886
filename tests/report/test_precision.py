"""The suite `precision`: one network in three precisions, side by side."""

import json

from tests.report.small import SMALL
from tvm_bnn.report import precision
from tvm_bnn.report.machine import MB, Limits
from tvm_bnn.report.rows import OURS

LIMITS = Limits(1, 1e12, 1e11, None, {MB: 1e11, 16 * MB: 2e10})


def test_a_row_compares_the_precisions():
    (row,) = precision.measure([SMALL], {1: LIMITS}, rounds=3)
    assert json.loads(json.dumps(row)) == row
    assert row["suite"] == "precision" and row["ours_ms"] > 0
    assert set(row["peers"]) == {"bf16", "int8"}
    assert set(row["spreads"]) == {OURS, "bf16", "int8"}
