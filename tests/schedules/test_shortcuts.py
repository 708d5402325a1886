"""Branches that each add a convolution of bits of their own to one map: one kernel, which reads the map once.

Where the map is that of other convolutions, and nothing else reads it, a matrix unit makes its rows in the same kernel.
"""

import pytest
from tvm import relax
from tvm.relax.op import add

from tests.schedules.conftest import one_each, resolved_target
from tests.schedules.test_binary_conv import conv
from tests.schedules.test_matrix_conv import summed
from tvm_bnn import ops
from tvm_bnn.lower import lower

TARGETS = ["amx", "avx512", "avx2", "generic", "avx512 by tables"]
FILLINGS = (("normal", "normal"), ("ties", "ties"), ("high", "high"), ("high", "low"), ("normal", "sparse"))


def given(channels=64, size=(6, 16), batch=1):
    """A map that another kernel makes."""
    return lambda case: case.emit(relax.op.nn.relu(case.argument(batch, channels, *size)))


def shortcuts(make=None, count=3, kernels=(1,), out="both", bits="own"):
    """A case: branches that add convolutions of bits of a map to that map.

    make : the map; by default one that another kernel makes. kernels : sizes, of one branch after the other.
    out : what of each branch is read: its map, bits and the sums of its rows, or some of these, by their first letters.
    bits : "own" thresholds of each branch, or the same bits for all ("shared").
    """

    def build(case):
        data = (make or given())(case)
        channels, shared, results = int(data.ty.shape[1]), case.positive(data), []
        for number in range(count):
            kernel = kernels[number % len(kernels)]
            geometry = ops.BConv2DAttrs(padding=(kernel // 2,) * 4)
            read = shared
            if bits == "own":
                read = case.positive(case.emit(add(data, case.constant(1, channels, 1, 1))))
            integer = case.emit(ops.bconv2d(read, case.signs(channels, channels, kernel, kernel), geometry))
            value = case.emit(add(case.emit(relax.op.nn.relu(case.scaled(integer))), data))
            results += [value] if out in ("map", "both", "map and rows", "all") else []
            results += [case.positive(case.scaled(value))] if out in ("bits", "both", "all") else []
            if out in ("rows", "map and rows", "all"):
                results.append(case.emit(relax.op.sum(value, [3], keepdims=True)))
        return relax.Tuple(results)

    return build


CASES = {
    f"{count} of a stored map, {out}": shortcuts(count=count, out=out)
    for count in (2, 3, 8)
    for out in ("map", "bits", "map and rows")
}
CASES |= {
    "all of each": shortcuts(out="all"),
    "only rows": shortcuts(out="rows"),
    "33 channels": shortcuts(given(33, (7, 13)), out="all"),
    "160 channels, 7 columns": shortcuts(given(160, (7, 7)), out="all"),
    "batch 3": shortcuts(given(64, (3, 16), 3), out="all"),
    "the same bits": shortcuts(bits="shared", kernels=(3,), out="map"),
    "kernels of several sizes": shortcuts(kernels=(3, 1, 5), out="all"),
    "3x3": shortcuts(count=2, kernels=(3,), out="map and rows"),
    "512 channels": shortcuts(given(512, (2, 16)), out="map and rows"),
}
for count in (2, 3, 5):
    for out in ("map", "bits", "map and rows"):
        CASES[f"rows for {count}, {out}"] = shortcuts(conv(64, 64, out="float", size=(6, 16)), count, out=out)
CASES |= {
    "rows for all": shortcuts(conv(33, 128, out="float", size=(5, 28)), out="all"),
    "rows for sums alone": shortcuts(conv(33, 64, out="float", size=(5, 32)), out="rows"),
    "rows of a sum of three": shortcuts(summed((64, 3, 1), (128, 1, 2), (3, 5, 1), out="float"), out="map and rows"),
    "rows of a batch": shortcuts(conv(64, 64, out="float", size=(4, 16), batch=2), count=2, out="all"),
}


def test_equals_the_reference(grid, case, target, target_of):
    grid.check(case, target_of(target))


@pytest.mark.parametrize(
    ("described", "on"), one_each([name for name in CASES if "7 columns" not in name], TARGETS[:4])
)
def test_one_kernel_makes_all_branches(build_cases, described, on):
    lowered = lower(build_cases(CASES, [described], list(CASES))[0], resolved_target(on))
    made = [family for family in lowered.family_of.values() if family != "elementwise"]
    rows = described.startswith("rows")
    if on == "amx":
        assert made == (["matrix_conv_pair"] if rows else ["matrix_conv"])
    else:
        assert made == ["conv"] * (2 if rows else 1)
