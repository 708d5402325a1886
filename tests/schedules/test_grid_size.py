"""How large the kernel grid is: at least 20,000 cases, over at most 2,000 kernels, on every schedule."""

import collections
import itertools

from tests.schedules import (
    test_binary_conv,
    test_binary_geometry,
    test_binary_product,
    test_elementwise,
    test_float_conv,
    test_pooling,
)
from tests.schedules.conftest import FILLINGS, ROTATION, TARGETS, TOGETHER, build, isa_of, targets_of
from tvm_bnn import targets
from tvm_bnn.lower import lower
from tvm_bnn.schedules.apply import RULES

FILES = [
    test_binary_conv, test_binary_geometry, test_binary_product, test_elementwise, test_float_conv, test_pooling,
]  # fmt: skip


def groups(module):
    """The names of one file that are compiled together, with the target."""
    rotation = getattr(module, "TARGETS", ROTATION)
    pairs = [(number, name, on) for number, name in enumerate(module.CASES) for on in targets_of(number, rotation)]
    pairs.sort(key=lambda pair: (pair[0] // TOGETHER, pair[2], pair[0]))
    for (_, on), together in itertools.groupby(pairs, lambda pair: (pair[0] // TOGETHER, pair[2])):
        yield [name for _, name, _ in together], targets.resolve(TARGETS[on], threads=1)


def test_size_of_the_grid():
    cases, kernels = 0, collections.Counter()
    for module in FILES:
        fillings = len(getattr(module, "FILLINGS", FILLINGS))
        for names, target in groups(module):
            lowered = lower(build(module.CASES, names, list(module.CASES))[0], target)
            kernels.update((target.isa, family) for family in lowered.family_of.values())
            cases += len(names) * fillings
    print(f"{cases} cases over {kernels.total()} kernels: {dict(sorted(kernels.items()))}")
    assert cases >= 20_000
    assert kernels.total() <= 2_000
    everywhere = {isa_of(name) for name in ROTATION}
    missing = set(itertools.product(everywhere, RULES)) - set(kernels)
    # two that depend on how a target counts and stores; and families that have a file of their own
    elsewhere = {
        "fixed",
        "plane_sum",
        "conv_pool",
        "masked_conv",
        "matrix_conv",
        "matrix_conv_pair",
        "matrix_masked_conv",
        "upsampled_conv",
        "matrix_upsampled_conv",
        "weighted_mean",
    }
    assert {family for _, family in missing} <= elsewhere, missing
