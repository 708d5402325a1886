"""Binary convolutions whose bits tables count: on vectors of 512 bits without VPOPCNTDQ, and the code for AVX2.

The grid of binary convolutions has AVX2; what differs on wider vectors is here.
"""

import re

import pytest
import tvm

from tests.schedules import conftest
from tests.schedules.test_binary_conv import conv
from tests.schedules.test_binary_product import CASES as PRODUCTS
from tests.schedules.test_matrix_conv import row_sums, summed
from tvm_bnn import targets
from tvm_bnn.schedules.apply import machine_code
from tvm_bnn.schedules.conv import choose_table_tile

TARGETS = ["avx512 by tables"]
FILLINGS = (("normal", "normal"), ("ties", "ties"), ("high", "high"), ("high", "low"), ("normal", "sparse"))
CASES = {
    f"channels {inputs}-{filters}": conv(inputs, filters)
    for inputs, filters in ((1, 32), (33, 31), (65, 64), (64, 65), (100, 96), (256, 128), (512, 160))
}
for value in (0, 1, -1):
    CASES[f"padding {value:+d}, asymmetric"] = conv(33, 64, pad_value=value, padding=(0, 2, 1, 0))
    CASES[f"padding {value:+d}, wider than the map"] = conv(33, 64, pad_value=value, padding=(3,) * 4, size=(2, 2))
CASES["stride 2"] = conv(64, 128, strides=(2, 2))
CASES["dilation 2"] = conv(64, 64, dilation=(2, 2), padding=(2, 2, 2, 2))
CASES["dilation 2, 256 channels"] = conv(256, 64, dilation=(2, 2), padding=(2, 2, 2, 2), size=(5, 6))
CASES["kernel 5x5"] = conv(64, 64, (5, 5))
CASES["kernel 1x1"] = conv(300, 64, (1, 1))
CASES["row of 14"] = conv(64, 64, size=(3, 14), out="bits")
CASES["sums beyond 16 bits"] = conv(7296, 32, size=(3, 3), out="float")
CASES["groups"] = conv(64, 64, groups=2)
CASES.update({name: PRODUCTS[name] for name in PRODUCTS if name.startswith("sum of")})
CASES["rows added up"] = row_sums
CASES["rows added up, of a sum"] = lambda case: row_sums(case, summed((64, 3, 1), (33, 1, 1)))
CASES["rows added up, of many filters"] = lambda case: row_sums(case, conv(512, 512, size=(2, 7)))


def test_equals_the_reference(grid, case, target, target_of):
    grid.check(case, target_of(target))


@pytest.mark.parametrize(("name", "lanes"), [("avx2", 32), ("avx512 by tables", 32), ("avx512 by tables", 64)])
@pytest.mark.parametrize(("width", "filters"), [(7, 512), (14, 256), (56, 64), (1, 64), (13, 192), (640, 320)])
def test_tile_fills_half_of_the_registers(width, filters, name, lanes):
    target = targets.resolve(conftest.TARGETS[name], threads=1)
    tile = choose_table_tile(width, filters, lanes, target)
    vectors = tile.vectors * target.lanes32 // lanes
    assert width % tile.pixels == 0 and filters % (vectors * lanes) == 0 and vectors > 0
    assert tile.pixels * vectors <= target.registers // 2


def test_machine_code_looks_up_and_adds(build_cases, scheduled, target_of):
    """Two instructions for 32 filters and 4 channels of a pixel; counts stay in registers, and tables are shared."""
    cases = {"one": conv(64, 64, size=(8, 8), out="bits")}
    target = target_of("avx2")
    lowered, made = scheduled(build_cases(cases, ["one"], ["one"])[0], target)
    (kernel,) = (name for name, family in lowered.family_of.items() if family == "conv")
    module = tvm.IRModule({"main": made[kernel].with_attr("global_symbol", "main")})
    text = machine_code(module, target).mod.inspect_source("asm")
    text = re.sub(r"(?m)^\.Ltmp\d+:\n", "", text)
    loops = re.findall(r"(?m)^(\.LBB\w+):\n((?:\t(?!j).*\n)*)\tjne\t\1$", text)
    bodies = [code for _, code in loops if "vbroadcasti128" in code]
    pixels, vectors = 4, 2
    assert bodies
    for body in bodies:
        count = {name: len(re.findall(rf"\t{name}\b", body)) for name in ("vpshufb", "vpaddb", "vbroadcasti128")}
        assert count == {"vpshufb": pixels * vectors, "vpaddb": pixels * vectors, "vbroadcasti128": pixels}
        assert "rsp" not in body
