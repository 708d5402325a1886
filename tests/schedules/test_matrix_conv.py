"""Binary convolutions on a matrix unit: what fills its tiles, and what does not, against the reference.

The cases of binary convolutions run here too where there is such a unit; those below are about tiles and blocks.
"""

import re

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax.op import add

from tests.schedules import test_binary_conv
from tests.schedules.test_binary_conv import SAME, conv
from tvm_bnn import ops, targets
from tvm_bnn.lower import lower
from tvm_bnn.lower.matrix import BYTES, HALVES, Rows, pixels_of_tile, tile_weights
from tvm_bnn.schedules import schedule_module
from tvm_bnn.schedules.apply import machine_code
from tvm_bnn.schedules.matrix_conv import choose_tile

TARGETS = ["amx"]
FILLINGS = (("normal", "normal"), ("ties", "ties"), ("high", "high"), ("high", "low"), ("normal", "sparse"))
CASES = dict(test_binary_conv.CASES)
for width in (6, 8, 9, 12, 14, 15, 16, 17, 28, 32, 34, 48, 96):
    CASES[f"width {width}"] = conv(64, 64, size=(5, width))
for channels in (32, 64, 96, 128, 160):
    CASES[f"{channels} channels, {channels} filters"] = conv(channels, channels, size=(4, 16))
for step in (1, 2, 3):
    CASES[f"step {step}, two tiles"] = conv(33, 64, strides=(step, step), size=(9, 32 * step))
    CASES[f"step {step}, dilation 2"] = conv(
        33, 64, strides=(step, step), dilation=(2, 2), padding=(2, 2, 2, 2), size=(9, 16 * step)
    )
CASES["blocks of rows"] = conv(128, 64, size=(64, 16), out="bits")
CASES["weights that exceed the cache"] = conv(512, 512, size=(2, 16))
CASES["batch 3, two tiles"] = conv(64, 32, batch=3, size=(3, 32))


def summed(*layers, out="both"):
    """A case: several convolutions of their own inputs, added up, with an activation of each of the first two."""

    def build(case):
        total = None
        for inputs, kernel, stride in layers:
            pad = kernel // 2
            geometry = ops.BConv2DAttrs(padding=(pad,) * 4, strides=(stride, stride))
            bits = case.bits(1, inputs, 6 * stride, 16 * stride)
            integer = case.emit(ops.bconv2d(bits, case.signs(64, inputs, kernel, kernel), geometry))
            value = case.scaled(integer)
            total = value if total is None else case.emit(add(total, value))
        return test_binary_conv.outputs(case, total, out)

    return build


def summed_twice(case):
    """Both sums and their sum's bits are read: each map is stored."""
    first, second = (
        case.scaled(case.emit(ops.bconv2d(case.bits(1, 64, 6, 16), case.signs(64, 64, 3, 3), SAME))) for _ in "ab"
    )
    return relax.Tuple([first, second, case.positive(case.emit(add(first, second)))])


CASES["a sum of two"] = summed((64, 3, 1), (33, 1, 1))
CASES["a sum of two, bits"] = summed((64, 3, 2), (64, 1, 1), out="bits")
CASES["a sum of three"] = summed((64, 3, 1), (128, 1, 2), (3, 5, 1))
CASES["a sum whose parts are read"] = summed_twice


def followed(
    filters=64, second=64, out="both", size=(6, 16), layers=((64, 3, 1),), batch=1, residual=True, shared=False
):
    """A case: convolutions (added up), then a 1x1 convolution of their bits, with their map as its residual."""

    def build(case):
        total = None
        for inputs, kernel, stride in layers:
            geometry = ops.BConv2DAttrs(padding=(kernel // 2,) * 4, strides=(stride, stride))
            bits = case.bits(batch, inputs, size[0] * stride, size[1] * stride)
            value = case.scaled(case.emit(ops.bconv2d(bits, case.signs(filters, inputs, kernel, kernel), geometry)))
            total = value if total is None else case.emit(add(total, value))
        integer = case.emit(ops.bconv2d(case.positive(total), case.signs(second, filters, 1, 1), test_binary_conv.NONE))
        value = case.scaled(integer)
        if residual:
            value = case.emit(add(value, total))
        result = test_binary_conv.outputs(case, value, out)
        return relax.Tuple([*(result.fields if out == "both" else [result]), total]) if shared else result

    return build


CASES["pair"] = followed()
CASES["pair, float"] = followed(out="float", size=(5, 28))
CASES["pair, bits"] = followed(out="bits", size=(4, 32))
CASES["pair without a residual"] = followed(second=33, residual=False)
CASES["pair of 128, step 2"] = followed(128, 128, layers=((33, 3, 2),), size=(3, 16))
CASES["pair, a sum first"] = followed(layers=((64, 3, 1), (128, 1, 1)), size=(8, 32), batch=2)
CASES["pair, a sum first, no residual"] = followed(layers=((64, 3, 1), (33, 1, 2)), residual=False, second=96)


def chained(case):
    """Bits of integer sums all the way: what follows a convolution is a test."""
    data = case.bits(1, 64, 6, 16)
    for kernel in (3, 1):
        geometry = ops.BConv2DAttrs(padding=(kernel // 2,) * 4)
        integer = case.emit(ops.bconv2d(data, case.signs(64, 64, kernel, kernel), geometry))
        lowest, span = np.full((1, 64, 1, 1), -8, np.int32), np.full((1, 64, 1, 1), 40, np.uint32)
        data = case.emit(ops.interval(integer, relax.const(lowest), relax.const(span)))
    return data


CASES["pair of integer tests"] = chained
CASES["first map read by others"] = followed(shared=True)
CASES["first of 96 filters"] = followed(96, 96)


def row_sums(case, make=conv(33, 64, size=(6, 32)), **attributes):
    """A map, its rows' sums, and its bits."""
    result = make(case)
    value = result.fields[0] if isinstance(result, relax.Tuple) else result
    sums = case.emit(relax.op.sum(value, [3], keepdims=True))
    return relax.Tuple([*(result.fields if isinstance(result, relax.Tuple) else []), sums])


CASES["rows added up"] = row_sums
CASES["rows added up, of a sum"] = lambda case: row_sums(case, summed((64, 3, 1), (33, 1, 1)))
CASES["rows added up, of many filters"] = lambda case: row_sums(case, conv(512, 512, size=(2, 16)))
CASES["pair, rows added up"] = lambda case: row_sums(case, followed(size=(5, 28)))
CASES["pair, only the rows"] = lambda case: row_sums(case, followed(out="float"))
PAIRS = [name for name in CASES if name.startswith("pair")]


def test_equals_the_reference(grid, case, target, target_of):
    grid.check(case, target_of(target))


@pytest.mark.parametrize(("width", "pixels"), [(5, 5), (7, 7), (16, 16), (17, 1), (28, 14), (256, 16), (26, 13)])
def test_a_tile_divides_the_row(width, pixels):
    assert pixels_of_tile(width) == pixels


def test_weights_lie_as_the_unit_reads_them():
    for operands, words in ((BYTES, 4), (HALVES, 2)):
        weight = np.random.default_rng(0).integers(1, 100, (33, 3, 1, 70)).astype(operands.dtype)
        tiles, loaded = tile_weights(weight, operands), 16 * words
        assert (tiles.shape, tiles.dtype) == ((4, 3, 1, -(-70 // loaded), 16, 16, words), weight.dtype)
        for filter_, row, channel in ((0, 0, 0), (17, 2, 5), (32, 1, 69)):
            place = (filter_ // 16, row, 0, channel // loaded, channel % loaded // words, filter_ % 16, channel % words)
            assert tiles[place] == weight[filter_, row, 0, channel]
        assert np.count_nonzero(tiles) == weight.size  # and 0 elsewhere


@pytest.mark.parametrize(
    ("channels", "taps", "dilation", "kind", "taken"),
    [(3, 7, 1, "words", 1), (4, 1, 1, "words", 1), (20, 3, 1, "run", 2), (3, 3, 2, "pixels", 3)],
)
def test_neighbouring_taps_of_few_channels_share_a_load(channels, taps, dilation, kind, taken):
    """`taken` products of tiles a row of the kernel, and every element that a load reaches lies in the row."""
    weight = np.ones((32, 5, taps, channels), np.int8)
    geometry = ops.BConv2DAttrs(strides=(2, 2), padding=(2, 1, 2, 1), dilation=(1, dilation))
    reach = 15 * 2 + (taps - 1) * dilation + 1
    rows = Rows.of(BYTES, weight, reach, 16, geometry)
    tiles = tile_weights(rows.taps(weight))
    assert (rows.kind, tiles.shape[2] * tiles.shape[3]) == (kind, taken)
    last = rows.lead + 15 * 2 + (tiles.shape[2] - 1) * dilation
    assert last * rows.pixel + tiles.shape[3] * 64 <= rows.columns * rows.pixel
    assert kind != "words" or (rows.lead + 1) % 16 == 0  # the input begins with a vector


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("size", [(1, 128, 256, 64), (1, 7, 7, 512), (4, 1, 8, 32), (1, 16, 32, 512)])
def test_every_thread_has_a_share(size, threads):
    tile = choose_tile(size, 9 * 64, (size[2] + 2) * 64, 1, 3, threads)
    blocks = size[0] * size[1] // tile.rows * tile.groups
    assert size[1] % tile.rows == 0 and size[3] // 32 % tile.groups == 0
    assert blocks >= min(threads, size[0] * size[1] * size[3] // 32)


@pytest.mark.parametrize("name", [*PAIRS, "first map read by others", "first of 96 filters"])
def test_a_pair_is_one_kernel_where_nobody_else_reads_the_first(build_cases, name):
    target = targets.resolve("llvm -mcpu=sapphirerapids", threads=1)
    lowered = lower(build_cases(CASES, [name], list(CASES))[0], target)
    families = [family for family in lowered.family_of.values() if family.startswith("matrix")]
    assert families == (["matrix_conv_pair"] if name in PAIRS else ["matrix_conv", "matrix_conv"])


def test_machine_code_keeps_sums_in_tiles(build_cases):
    """Per 64 channels of a tap, four products and as many loads: what tiles share is loaded once."""
    target = targets.resolve("llvm -mcpu=sapphirerapids", threads=1)
    name = "step 1, two tiles"
    lowered = lower(build_cases(CASES, [name], list(CASES))[0], target)
    (kernel,) = (k for k, family in lowered.family_of.items() if family == "matrix_conv")
    scheduled = schedule_module(lowered.module, lowered.family_of, target)
    module = tvm.IRModule({"main": scheduled[kernel].with_attr("global_symbol", "main")})
    text = machine_code(module, target).mod.inspect_source("asm")
    count = {name: len(re.findall(rf"\t{name}\b", text)) for name in ("tdpbssd", "tileloadd", "tilestored", "tilezero")}
    assert count["tdpbssd"] == count["tileloadd"] > 0 and count["tilestored"] == count["tilezero"] > 0
    assert "ldtilecfg" in text and "tilerelease" in text
