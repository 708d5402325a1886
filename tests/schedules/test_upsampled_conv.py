"""Binary convolutions behind nearest upsampling, whose sums the pixels of a block share, against the reference."""

import pytest
from tvm import relax
from tvm.relax.op import add, concat
from tvm.relax.op.image import resize2d

from tests.schedules.conftest import one_each, resolved_target
from tests.schedules.test_binary_conv import outputs
from tvm_bnn import ops
from tvm_bnn.lower import lower
from tvm_bnn.relay_passes.phases import shared_taps
from tvm_bnn.schedules.upsampled_conv import choose_tile

TARGETS = ["avx512", "amx", "avx2", "generic", "avx512 by tables"]
FILLINGS = (("normal", "normal"), ("ties", "ties"), ("high", "high"), ("high", "low"), ("normal", "sparse"))
CHANNELS = [1, 31, 33, 64, 65, 100, 128]
FAMILIES = {"upsampled_conv", "matrix_upsampled_conv"}


def upsampled(case, data, scales):
    """Each row and column of a map several times."""
    size = [int(extent) * scale for extent, scale in zip(list(data.ty.shape)[2:], scales, strict=True)]
    mode = {"coordinate_transformation_mode": "asymmetric", "rounding_method": "floor"}
    return case.emit(resize2d(data, (size[0], size[1]), layout="NCHW", method="nearest_neighbor", **mode))


def behind(scales, inputs=33, filters=64, kernel=(3, 3), out="both", size=(3, 5), batch=1, **attributes):
    """A case: a convolution of an upsampled map, padded to keep its size unless told otherwise."""
    padding = [(extent - 1) // 2 for extent in kernel] + [extent // 2 for extent in kernel]
    geometry = ops.BConv2DAttrs(**{"padding": tuple(padding), **attributes})

    def build(case):
        weight = case.signs(filters, inputs // geometry.groups, *kernel)
        large = upsampled(case, case.bits(batch, inputs, *size), scales)
        integer = case.emit(ops.bconv2d(large, weight, geometry))
        if out != "residual":
            return outputs(case, integer, out)
        residual = case.argument(*map(int, integer.ty.shape))
        total = case.emit(add(case.scaled(integer), residual))
        return relax.Tuple([total, case.positive(total)])

    return build


CASES = {}
for scale in (2, 3, 4):
    for extent in (1, 2, 3, 5):
        CASES[f"x{scale}, kernel {extent}x{extent}"] = behind((scale, scale), kernel=(extent, extent))
    for value in (1, -1):
        CASES[f"x{scale}, padding {value:+d}"] = behind((scale, scale), 65, 32, pad_value=value)
        CASES[f"x{scale}, padding {value:+d}, bits"] = behind((scale, scale), 32, 64, pad_value=value, out="bits")
    for width in {2: (1, 2, 3, 8, 16, 17), 3: (1, 8, 17), 4: (2, 16)}[scale]:
        CASES[f"x{scale}, width {width}"] = behind((scale, scale), 32, 64, size=(2, width), out="bits")
    CASES[f"x{scale}, no padding"] = behind((scale, scale), kernel=(scale + 1,) * 2, padding=(0, 0, 0, 0), size=(4, 6))
    CASES[f"x{scale}, padding as wide as the map"] = behind(
        (scale, scale), padding=(scale,) * 4, kernel=(2 * scale + 1,) * 2, size=(1, 1)
    )
    CASES[f"x{scale}, dilation 2"] = behind((scale, scale), dilation=(2, 2), padding=(2, 2, 2, 2))
    CASES[f"x{scale}, dilation 3"] = behind((scale, scale), dilation=(3, 3), padding=(3, 3, 3, 3))
    CASES[f"x{scale}, residual"] = behind((scale, scale), out="residual")
for index, filters in enumerate(CHANNELS):
    for offset, out in enumerate(("float", "bits", "both", "residual")):
        inputs = CHANNELS[(index + 2 * offset + 1) % len(CHANNELS)]
        CASES[f"channels {inputs}-{filters}, {out}"] = behind((2, 2), inputs, filters, out=out, size=(3, 8))
CASES["padding asymmetric"] = behind((2, 2), padding=(0, 2, 2, 0))
CASES["padding asymmetric, +1"] = behind((2, 2), padding=(3, 0, 1, 2), pad_value=1)
CASES["padding negative"] = behind((2, 2), padding=(-1, -2, -1, 0), size=(5, 5))
CASES["rows alone"] = behind((2, 1), size=(3, 9))
CASES["columns alone"] = behind((1, 3), size=(4, 3))
CASES["x8"] = behind((8, 8), 64, 32, size=(2, 2), out="bits")
CASES["x16"] = behind((16, 16), 32, 32, size=(1, 2), out="bits")
CASES["two scales, kernel 5x3"] = behind((2, 4), kernel=(5, 3))
CASES["batch 3"] = behind((2, 2), 64, 96, batch=3)
CASES["blocks of rows"] = behind((2, 2), 64, 64, size=(40, 3), out="bits")
CASES["two tiles a row"] = behind((2, 2), 64, 64, size=(3, 40), out="bits")
CASES["output not in blocks"] = behind((2, 2), padding=(0, 0, 1, 1))
CASES["stride 2"] = behind((2, 2), strides=(2, 2))
CASES["groups"] = behind((2, 2), 64, 64, groups=2)


def joined(case):
    """Channels of which some are upsampled."""
    bits = case.emit(concat([upsampled(case, case.bits(1, 32, 3, 5), (2, 2)), case.bits(1, 32, 6, 10)], 1))
    weight = case.signs(64, 64, 3, 3)
    return outputs(case, case.emit(ops.bconv2d(bits, weight, ops.BConv2DAttrs(padding=(1, 1, 1, 1)))), "both")


def summed(case):
    """Two convolutions behind upsampling that one kernel adds up."""
    geometry = ops.BConv2DAttrs(padding=(1, 1, 1, 1))
    parts = [
        case.scaled(
            case.emit(ops.bconv2d(upsampled(case, case.bits(1, 64, 3, 5), (2, 2)), case.signs(64, 64, 3, 3), geometry))
        )
        for _ in range(2)
    ]
    total = case.emit(add(*parts))
    return relax.Tuple([total, case.positive(total)])


CASES["concat"] = joined
CASES["sum of 2"] = summed
VIEWS = {"output not in blocks", "stride 2", "groups", "concat"}


def test_equals_the_reference(grid, case, target, target_of):
    grid.check(case, target_of(target))


@pytest.mark.parametrize(("name", "on"), one_each(list(CASES), ["avx512", "avx2", "generic", "amx"], VIEWS))
def test_which_cases_share_sums(build_cases, name, on):
    families = set(lower(build_cases(CASES, [name], [name])[0], resolved_target(on)).family_of.values())
    few_filters = name.startswith("channels") and name.split("-")[1].startswith("1,")
    assert bool(families & FAMILIES) == (name not in VIEWS and not few_filters), families


@pytest.mark.parametrize("scale", range(1, 9))
@pytest.mark.parametrize("kernel", range(1, 8))
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_taps_read_what_they_would_read_behind_the_upsampling(scale, kernel, dilation):
    """Every tap once; no more sums than taps or steps."""
    for padding in range(-2, 8):
        found = shared_taps(kernel, scale, padding, dilation)
        assert sorted(tap for shared in found for tap in shared.taps) == list(range(kernel))
        assert len(found) <= min(kernel, scale)
        for y in range(2 * scale):
            for shared in found:
                for position, tap in enumerate(shared.taps):
                    row = shared.first + (y + shared.shift) // scale + position * shared.dilation
                    assert row == (y - padding + tap * dilation) // scale


def test_blocks_of_rows_are_shared_evenly_and_stay_in_the_cache():
    def rows(height, width, threads, convolutions=1, lateral=0):
        parts = [(height + 1, width + 2)] * 2 + [(height, width + 2)] * 2
        parts = parts * convolutions + [(2 * height, 2 * width)] * lateral
        return choose_tile((1, height, width), (2, 2), parts, 2, threads).rows

    assert rows(64, 128, 2) in (8, 16)
    assert rows(64, 128, 2, convolutions=3) < rows(64, 128, 2)
    assert rows(64, 128, 2, lateral=4) < rows(64, 128, 2)
    assert rows(6, 8, 2) == 3
    assert rows(64, 4096, 2) == 1
    assert rows(7, 5, 1) == 7
