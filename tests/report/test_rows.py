"""What a row says of given times."""

import pytest

from tvm_bnn.report.limit import Work
from tvm_bnn.report.machine import MB, Limits
from tvm_bnn.report.rows import OURS, OURS_ALONE, compared
from tvm_bnn.report.timing import Timing

LIMITS = Limits(2, 1e12, 1e11, None, {MB: 1e11})
#: 0.4 s of arithmetic and 0.1 s of moving.
WORK = Work(binary_macs=int(0.3e12), float_macs=int(0.1e11), tensors={"x": 1e10})


def test_a_wide_spread_leaves_the_ratio_out():
    timings = {OURS: Timing((1.0, 1.0, 1.0)), "steady": Timing((4.0,) * 3), "wild": Timing((2.0, 4.0, 8.0))}
    row = compared(WORK, LIMITS, timings)
    assert row["ratios"] == {"steady": 4.0, "wild": None}
    assert row["peers"] == {"steady": 4000.0, "wild": 4000.0}
    assert (row["ours_ms"], row["limit_ms"], row["ceiling_fraction"], row["spread"]) == (1000.0, 500.0, 0.5, 0.75)
    assert (row["threads"], row["rounds"], row["scaling"]) == (2, 3, None)


def test_ours_on_one_thread_is_no_peer_but_tells_how_it_scales():
    row = compared(WORK, LIMITS, {OURS: Timing((1.0,) * 3), OURS_ALONE: Timing((1.75,) * 3)})
    assert (row["scaling"], row["peers"], row["ratios"]) == (1.75, {}, {})
    wild = compared(WORK, LIMITS, {OURS: Timing((1.0,) * 3), OURS_ALONE: Timing((1.0, 2.0, 4.0))})
    assert wild["scaling"] is None


@pytest.mark.parametrize(("size", "bound"), [(3.9e10, "compute"), (4.1e10, "bandwidth")])
def test_the_larger_part_of_the_limit_is_what_bounds_a_row(size, bound):
    work = Work(WORK.binary_macs, WORK.float_macs, {"x": size})
    assert compared(work, LIMITS, {OURS: Timing((1.0,))})["bound"] == bound


def test_repetitions_are_those_of_each():
    row = compared(WORK, LIMITS, {OURS: Timing((1.0,) * 3), "slow": Timing((30.0,))})
    assert row["repetitions"] == {OURS: 3, "slow": 1}
    assert row["ratios"]["slow"] == 30.0
