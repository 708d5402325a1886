"""Sums along the rows of a binary convolution's map, added up where the map is made, without a matrix unit.

(With one: test_matrix_conv.py.)
"""

import pytest

from tests.schedules.test_binary_conv import conv
from tests.schedules.test_matrix_conv import row_sums, summed
from tvm_bnn.lower import lower

FILLINGS = (("normal", "normal"), ("ties", "ties"), ("high", "high"), ("high", "low"), ("normal", "sparse"))


def only_sums(case):
    """A map that nobody reads."""
    return row_sums(case, conv(64, 64, out="float")).fields[-1]


CASES = {
    "map, bits and sums": row_sums,
    "of many filters": lambda case: row_sums(case, conv(128, 512, size=(2, 7))),
    "of a sum": lambda case: row_sums(case, summed((64, 3, 1), (33, 1, 1))),
    "batch 3, stride 2": lambda case: row_sums(case, conv(33, 40, batch=3, strides=(2, 2))),
    "sums alone": only_sums,
    "of groups": lambda case: row_sums(case, conv(64, 64, groups=2)),
    "of few filters": lambda case: row_sums(case, conv(64, 3)),
}


def test_equals_the_reference(grid, case, target, target_of):
    grid.check(case, target_of(target))


@pytest.mark.parametrize("name", ["avx512", "avx2", "generic"])
def test_one_kernel_makes_map_and_sums(build_cases, target_of, name):
    lowered = lower(build_cases(CASES, ["map, bits and sums"], list(CASES))[0], target_of(name))
    assert list(lowered.family_of.values()).count("conv") == 1
    assert not {"reduce", "plane_sum"} & set(lowered.family_of.values())
