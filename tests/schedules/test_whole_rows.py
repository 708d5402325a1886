"""Binary convolutions of narrow maps, whose register tile is a whole row: columns of padding are left out."""

import re

import pytest
import tvm
from tvm.s_tir import Schedule

from tests.schedules.test_binary_conv import conv
from tests.schedules.test_binary_product import sum_of_convolutions
from tvm_bnn import ops
from tvm_bnn.schedules.apply import machine_code
from tvm_bnn.schedules.stages import Stages

TARGETS = ["avx512"]
FILLINGS = (("normal", "normal"), ("ties", "ties"), ("high", "high"), ("high", "low"), ("normal", "sparse"))
CASES = {f"width {width}": conv(128, 64, size=(3, width)) for width in range(1, 9)}
for inputs, filters in ((97, 31), (128, 32), (160, 96), (512, 256), (128, 3)):
    CASES[f"channels {inputs}-{filters}, bits"] = conv(inputs, filters, size=(7, 7), out="bits")
CASES["stride 2"] = conv(128, 64, strides=(2, 2), size=(9, 13))
CASES["stride 2, even"] = conv(128, 64, strides=(2, 2), size=(8, 14))
CASES["dilation 2"] = conv(128, 64, dilation=(2, 2), padding=(2, 2, 2, 2), size=(7, 7))
CASES["padding asymmetric"] = conv(128, 64, padding=(0, 2, 1, 0), size=(4, 6))
CASES["padding of columns alone"] = conv(128, 64, padding=(0, 1, 0, 1), size=(4, 5))
CASES["padding wider than the map"] = conv(128, 64, padding=(3,) * 4, size=(2, 2))
CASES["kernel 5x5"] = conv(128, 32, (5, 5), size=(3, 3))
CASES["batch 3"] = conv(128, 64, batch=3, size=(7, 7))
CASES["padding +1"] = conv(128, 64, pad_value=1, size=(7, 7))
CASES["groups"] = conv(256, 64, groups=2, size=(7, 7))
CASES["sum of 2"] = sum_of_convolutions(2, 128, 64, False, ops.BConv2DAttrs(padding=(1, 1, 1, 1), strides=(2, 2)))


def test_equals_the_reference(grid, case, target, target_of):
    grid.check(case, target_of(target))


@pytest.mark.parametrize("out", ["bits", "float"])
def test_machine_code_counts_what_lies_inside(build_cases, scheduled, target_of, out):
    """For each word and 16 filters of a row of 7 pixels, 6 + 7 + 6 counts; no copy of the input is made."""
    cases = {"one": conv(128, 32, size=(7, 7), out=out)}
    target = target_of("avx512")
    lowered, made = scheduled(build_cases(cases, ["one"], ["one"])[0], target)
    (kernel,) = (name for name, family in lowered.family_of.items() if family == "conv")
    assert not Stages.of(Schedule(tvm.IRModule({"main": lowered.module[kernel]}))).has("pad")
    module = tvm.IRModule({"main": made[kernel].with_attr("global_symbol", "main")})
    text = machine_code(module, target).mod.inspect_source("asm")
    blocks, counts = 2, len(re.findall(r"\tvpopcntd\b", text))
    assert counts > 0 and counts % (blocks * (6 + 7 + 6)) == 0
