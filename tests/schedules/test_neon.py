"""Kernels for Arm, run on an emulated Cortex-A72: what is at risk of each grid, and what only these kernels do."""

import fnmatch
import re

import pytest
import tvm

from tests.schedules import (
    conftest,
    test_binary_conv,
    test_binary_geometry,
    test_binary_product,
    test_branches,
    test_conv_pool,
    test_few_rows,
    test_float_conv,
    test_row_sums,
    test_shortcuts,
    test_upsampled_branches,
    test_upsampled_conv,
    test_words,
)
from tests.schedules.test_binary_conv import conv
from tvm_bnn import targets
from tvm_bnn.lower.bit_counts import HALF_LANES, half_tile
from tvm_bnn.report.inner_loop import inner_loop
from tvm_bnn.schedules.apply import machine_code

TARGETS = ["neon", "neon in order"]
FILLINGS = (("normal", "normal"), ("ties", "ties"), ("high", "low"))
#: Grid -> patterns of the names of its cases.
_CHOSEN = {
    test_binary_conv: "channels 33-* channels *-100,* kernel?5x5 stride?2x2* dilation* groups?[23]* padding?+0*",
    test_binary_geometry: "geometry?[1-4]",
    test_binary_product: "6x65x100* sums* attention* *planes padding?(-2* sum*",
    test_branches: "rates* stride* gated*",
    test_conv_pool: "[35]x*",
    test_few_rows: "3*,?step?2",
    test_float_conv: "argument,?[dgs]* stem* head* few* transposed,?[pos]* linear*",
    test_row_sums: "*",
    test_shortcuts: "3?of*",
    test_upsampled_branches: "x2,?[gp]* x2,?width?17 two*",
    test_upsampled_conv: "x2,?kernel* x2,?[pr]* x2,?width?1* channels?100*",
    test_words: "*",
}
CASES = {
    f"{grid.__name__.rpartition('.')[2].removeprefix('test_')}: {name}": case
    for grid, patterns in _CHOSEN.items()
    for name, case in grid.CASES.items()
    if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns.split(" "))
}
# a word a tap, an odd number, none that a row of them has in common with a vector
CASES.update({f"{words} words": conv(32 * words, 32, size=(5, 6)) for words in (1, 3, 4, 5, 7, 11, 16)})
CASES.update({f"{words} words, 1x1": conv(32 * words, 64, (1, 1), size=(3, 4)) for words in (1, 2, 3, 6, 8, 13)})
# tiles of all shapes
CASES.update({f"width {width}, to 64": conv(64, 64, size=(4, width), out="both") for width in (1, 2, 3, 5, 7, 8, 14)})
CASES.update({f"width 7, to {filters}": conv(96, filters, size=(3, 7), out="both") for filters in (96, 160, 256)})
CASES["sums beyond 16 bits"] = conv(7296, 32, size=(3, 3))
CASES["a large map"] = conv(64, 64, size=(40, 60), out="bits")
CASES["sums that are odd in the corners"] = conv(33, 64, (5, 5), size=(6, 6), out="both")


def test_equals_the_reference(grid, case, target, target_of):
    grid.check(case, target_of(target))


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("packs", [False, True])
@pytest.mark.parametrize(("width", "filters"), [(7, 512), (14, 256), (56, 64), (1, 32), (13, 192), (640, 320)])
def test_tile_fits_the_registers(width, filters, packs, name):
    target = targets.resolve(conftest.TARGETS[name])
    pixels, vectors = half_tile(width, filters, target, packs)
    assert width % pixels == 0 and filters % (vectors * HALF_LANES) == 0
    assert pixels * vectors < target.registers
    assert not packs or vectors * HALF_LANES % 32 == 0


@pytest.mark.parametrize(("size", "channels"), [((14, 14), 256), ((28, 28), 128), ((7, 7), 512), ((16, 56), 64)])
def test_inner_loop_counts_and_adds(build_cases, scheduled, size, channels):
    """Three instructions for 128 bits, weights in pairs of vectors, and nothing kept in memory."""
    cases = {"one": conv(channels, channels, size=size)}
    target = targets.resolve(conftest.TARGETS["neon"], threads=1)
    lowered, made = scheduled(build_cases(cases, ["one"], ["one"])[0], target)
    (kernel,) = (name for name, family in lowered.family_of.items() if family == "conv")
    module = tvm.IRModule({"main": made[kernel].with_attr("global_symbol", "main")})
    loop = inner_loop(machine_code(module, target).mod.inspect_source("s"), "cnt")
    count = {name: sum(line.split()[0] == name for line in loop) for name in ("eor", "cnt", "uadalp", "ldp", "dup")}
    pixels, vectors = half_tile(size[1], channels, target)
    steps = count["cnt"] // (pixels * vectors)
    assert steps > 0
    assert count["eor"] == count["cnt"] == count["uadalp"] == steps * pixels * vectors
    assert count["dup"] == steps * pixels
    assert count["ldp"] >= steps * vectors // 2
    assert len(loop) < 1.1 * (3 * count["cnt"] + count["dup"] + count["ldp"])
    assert not any(re.search(r"\bsp\b", line) for line in loop)
