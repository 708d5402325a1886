"""SplitPlaneSums: sums over large planes become sums of rows and their sum, and no bit changes."""

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax.op import divide, mean, sum

from tvm_bnn.relay_passes.split_plane_sums import SplitPlaneSums

LARGE = (2, 3, 24, 50)


def test_a_mean_becomes_sums_of_rows(build, run, emit):
    def after(x):
        total = emit(sum(emit(sum(x, [3], keepdims=True)), [2, 3]))
        return divide(total, relax.const(np.float32(24 * 50)))

    got = run(build(lambda x: mean(x, [2, 3]), LARGE), SplitPlaneSums())
    tvm.ir.assert_structural_equal(got, build(after, LARGE))


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axes", [[2, 3], [-1, -2], [3, 2]], ids=str)
@pytest.mark.parametrize("operator", [mean, sum])
def test_keeps_every_bit(build, run, agree, operators, operator, axes, keepdims):
    before = build(lambda x: operator(x, axes, keepdims=keepdims), LARGE)
    after = run(before, SplitPlaneSums())
    assert operators(after)[:2] == ["relax.sum", "relax.sum"]
    agree(before, after)


UNSPLIT = {
    "a small plane": (lambda x: mean(x, [2, 3]), (1, 3, 7, 7)),
    "one column": (lambda x: mean(x, [2, 3]), (1, 3, 2048, 1)),
    "rows": (lambda x: mean(x, [3]), LARGE),
    "everything": (lambda x: mean(x), LARGE),
    "channels as well": (lambda x: mean(x, [1, 2, 3]), LARGE),
    "another rank": (lambda x: mean(x, [1, 2]), (2, 40, 50)),
}


@pytest.mark.parametrize(("function", "shape"), UNSPLIT.values(), ids=list(UNSPLIT))
def test_declines(build, run, function, shape):
    before = build(function, shape)
    tvm.ir.assert_structural_equal(run(before, SplitPlaneSums()), before)
