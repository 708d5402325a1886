"""DecomposeCubic: takes, products and sums that compute the reference evaluator's cubic resize."""

import pytest
from tvm.relax import op

from tvm_bnn.relay_passes.decompose_cubic import DecomposeCubic


def resize(x, size, method="cubic", mode="half_pixel", **attributes):
    return op.image.resize2d(
        x, size, layout="NCHW", method=method, coordinate_transformation_mode=mode, cubic_alpha=-0.75, **attributes
    )


@pytest.mark.parametrize("size", [(14, 18), (3, 4), (7, 13), (1, 9)], ids=str)
@pytest.mark.parametrize("mode", ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"])
def test_cubic_is_weighted_copies(build, run, agree, operators, size, mode):
    before = build(lambda x: resize(x, size, mode=mode), (2, 3, 7, 9))
    after = run(before, DecomposeCubic())
    assert set(operators(after)) == {"relax.take", "relax.multiply", "relax.add"}
    assert operators(after).count("relax.take") == 8
    agree(before, after, relative=1e-6)  # the reference rounds a product and its sum at once


@pytest.mark.parametrize("how", [{"method": "linear"}, {"cubic_exclude": 1}], ids=str)
def test_others_stay(build, run, operators, how):
    after = run(build(lambda x: resize(x, (14, 18), **how), (2, 3, 7, 9)), DecomposeCubic())
    assert operators(after) == ["relax.image.resize2d"]
