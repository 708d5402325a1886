"""Several convolutions of one kernel, of which some read a nearest-upsampled map and share sums, with the reference."""

from functools import reduce
from typing import Any

import numpy as np
import pytest
from tvm import relax
from tvm.relax.op import add, multiply

from tests.schedules.conftest import one_each, resolved_target
from tests.schedules.test_upsampled_conv import upsampled
from tvm_bnn import ops
from tvm_bnn.lower import lower

TARGETS = ["avx512", "amx", "avx2", "generic", "avx512 by tables"]
FILLINGS = (("normal", "normal"), ("ties", "ties"), ("high", "high"), ("high", "low"), ("normal", "sparse"))
FAMILIES = {"upsampled_conv", "matrix_upsampled_conv"}


def same(kernel: int = 3, dilation: int = 1, pad_value: int = 0, stride: int = 1) -> tuple[int, ops.BConv2DAttrs]:
    """A kernel that keeps the size at stride 1, even or odd."""
    reach = (kernel - 1) * dilation
    padding = (reach // 2, reach // 2, reach - reach // 2, reach - reach // 2)
    return kernel, ops.BConv2DAttrs((stride,) * 2, padding, (dilation,) * 2, pad_value=pad_value)


def maps_of(case, scales, kernels, lateral, size, inputs, filters, one_map) -> list[relax.Var]:
    """Convolutions of the shape of the upsampled map: behind it, each of bits of its own, and the lateral ones."""
    large = [extent * scale for extent, scale in zip(size, scales, strict=True)]
    bits = case.bits(1, inputs, *size) if one_map else None
    found = []
    for kernel, geometry in kernels:
        data = upsampled(case, bits if bits is not None else case.bits(1, inputs, *size), scales)
        found.append(case.emit(ops.bconv2d(data, case.signs(filters, inputs, kernel, kernel), geometry)))
    for kernel, geometry in lateral:
        data = case.bits(1, inputs + 32, *(extent * geometry.strides[0] for extent in large))
        found.append(case.emit(ops.bconv2d(data, case.signs(filters, inputs + 32, kernel, kernel), geometry)))
    return found


def merged(
    scales, *kernels, lateral=(), size=(3, 5), inputs=64, filters=64, readers=1, shortcut=True, one_map=False
) -> Any:
    """A case: convolutions scaled and added up, with a repeated map of floats; the map, and its signs for readers."""

    def build(case):
        integers = maps_of(case, scales, kernels, lateral, size, inputs, filters, one_map)
        total = reduce(lambda a, b: case.emit(add(a, b)), [case.scaled(integer) for integer in integers])
        if shortcut:
            total = case.emit(add(total, upsampled(case, case.argument(1, filters, *size), scales)))
        return relax.Tuple([total, *(case.positive(case.scaled(total)) for _ in range(readers))])

    return build


def gated(scales, *kernels, lateral=(), size=(3, 5), out="both") -> Any:
    """A case: each convolution with a share of the sum of all; several values join them."""

    def build(case):
        integers = maps_of(case, scales, kernels, lateral, size, 64, 64, False)
        maps = [case.emit(relax.op.nn.relu(case.scaled(integer))) for integer in integers]
        rest = case.emit(multiply(reduce(lambda a, b: case.emit(add(a, b)), maps), relax.const(np.float32(0.75))))
        results = []
        for value in maps:
            value = case.emit(add(case.emit(multiply(value, relax.const(np.float32(0.25)))), rest))
            results += [value] if out == "both" else []
            results += [case.positive(case.scaled(value))]
        return relax.Tuple(results)

    return build


CASES = {}
for scale in (2, 3, 4):  # what the scale cannot change has one or two of them
    both = (scale, scale)
    CASES[f"2 at x{scale}"] = merged(both, *[same()] * 2)
    CASES[f"3 at x{scale} and a lateral one"] = merged(both, *[same()] * 3, lateral=[same(1)])
    for value in {2: (-1, 1), 3: (1,), 4: (-1,)}[scale]:
        CASES[f"x{scale}, padding {value:+d}"] = merged(
            both, same(3, 1, value), same(3, 1, value), lateral=[same(3, 1, value)], inputs=33
        )
    CASES[f"x{scale}, lateral 3x3 and 5x5"] = merged(both, same(5), lateral=[same(3), same(5)], inputs=31, filters=65)
    CASES[f"x{scale}, kernels, dilation"] = merged(both, same(2), same(3, 2), same(5), lateral=[same(3, 3)])
    for width in {2: (2, 8, 16, 17), 3: (17,), 4: (2,)}[scale]:
        CASES[f"x{scale}, width {width}"] = merged(both, same(), same(), lateral=[same(1)], size=(2, width))
for scale in (2, 4):
    both = (scale, scale)
    CASES[f"1 at x{scale} and a lateral one"] = merged(both, same(), lateral=[same(1)], shortcut=False)
    CASES[f"x{scale}, one map"] = merged(both, same(), same(), same(3, 1, 1), one_map=True)
    CASES[f"x{scale}, 1x1"] = merged(both, same(), lateral=[same(1)], size=(1, 1))
for scale in (2, 3):
    both = (scale, scale)
    CASES[f"x{scale}, gate"] = gated(both, same(), same(), lateral=[same(1)])
    CASES[f"x{scale}, gate, bits"] = gated(both, same(), same(), same(), out="bits")
CASES["five"] = merged((2, 2), *[same()] * 5, lateral=[same(1)], readers=5)
CASES["readers"] = merged((2, 2), *[same()] * 3, lateral=[same(1)], readers=3, size=(4, 8), filters=96)
CASES["lateral first"] = merged((2, 2), lateral=[same(1)], size=(4, 8))
CASES["rows alone"] = merged((2, 1), same(), same(), lateral=[same()], size=(3, 9))
CASES["blocks of rows"] = merged((2, 2), same(), same(), lateral=[same()], size=(20, 3))
CASES["two tiles a row"] = merged((2, 2), same(), same(), lateral=[same()], size=(3, 40), shortcut=False)
CASES["lateral with stride 2"] = merged((2, 2), same(), lateral=[same(1, 1, 0, 2)])


def of_two_scales(case):
    """Convolutions behind x2 and behind x4: the pixels of the second's blocks share nothing."""
    maps = [upsampled(case, case.bits(1, 64, *size), (s, s)) for s, size in ((2, (4, 6)), (4, (2, 3)))]
    integers = [case.emit(ops.bconv2d(x, case.signs(64, 64, 3, 3), same()[1])) for x in maps]
    total = case.emit(add(*map(case.scaled, integers)))
    return relax.Tuple([total, case.positive(total)])


CASES["two scales"] = of_two_scales
VIEWS = {"lateral first", "lateral with stride 2"}


def test_equals_the_reference(grid, case, target, target_of):
    grid.check(case, target_of(target))


@pytest.mark.parametrize(("name", "on"), one_each(list(CASES), ["avx512", "avx2", "generic", "amx"], VIEWS))
def test_which_kernels_share_sums(build_cases, name, on):
    families = [*lower(build_cases(CASES, [name], [name])[0], resolved_target(on)).family_of.values()]
    (family,) = (family for family in families if "conv" in family)
    assert (family in FAMILIES) == (name not in VIEWS)


def test_branches_of_one_map_copy_its_rows_once(build_cases, scheduled, target_of):
    module = scheduled(build_cases(CASES, ["x2, one map"], list(CASES))[0], target_of("avx512"))[1]
    (kernel,) = (func for var, func in module.functions_items() if var.name_hint == "bconv2d")
    copies = {block for block in kernel.script().split('"') if block.startswith("pad")}
    assert len(copies) == 2  # padded with 0, and with 1
