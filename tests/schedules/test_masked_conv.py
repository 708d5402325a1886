"""Attention over positions: one kernel makes the maps of branches, a mask of all their channels, and masks the maps."""

import pytest
from tvm import relax
from tvm.relax.op import add, concat, multiply

from tvm_bnn import ops
from tvm_bnn.lower import lower

TARGETS = ["amx", "avx512", "avx2", "generic", "avx512 by tables", "neon"]
FILLINGS = (("normal", "normal"), ("ties", "ties"), ("high", "low"))
FAMILIES = {"masked_conv", "matrix_masked_conv"}


def mask_of(case, maps):
    """1 or 0 a position: whether a 1x1 convolution of all maps is at least 0."""
    whole = case.emit(concat(maps, 1)) if len(maps) > 1 else maps[0]
    total = case.emit(relax.op.nn.conv2d(whole, case.constant(1, int(whole.ty.shape[1]), 1, 1)))
    chosen = case.positive(case.emit(add(total, case.constant(1, 1, 1, 1))))
    one, minus_one = (relax.const(value, "float32") for value in (1.0, -1.0))
    return case.emit(relax.op.nn.relu(case.emit(relax.op.where(chosen, one, minus_one))))


def masked(count=3, inputs=64, filters=64, size=(4, 16), batch=1, kernel=1, out="both", shortcut=True, **attributes):
    """A case: binary convolutions of one map's bits, masked.

    out : what is read of the masked maps: bits of each, their sum, or both. shortcut : to each a float map is added.
    """
    geometry = ops.BConv2DAttrs(**{"padding": (kernel // 2,) * 4, **attributes})

    def build(case):
        bits, maps, results = case.bits(batch, inputs, *size), [], []
        rows, columns = (extent // step for extent, step in zip(size, geometry.strides, strict=True))
        shared = case.emit(relax.op.nn.relu(case.argument(batch, filters, rows, columns)))
        for _ in range(count):
            value = case.scaled(case.emit(ops.bconv2d(bits, case.signs(filters, inputs, kernel, kernel), geometry)))
            if shortcut:
                value = case.emit(add(value, shared))
            maps.append(case.emit(relax.op.nn.relu(value)))
        mask = mask_of(case, maps)
        spread = [case.emit(multiply(value, mask)) for value in maps]
        if out in ("bits", "both"):
            results += [case.positive(case.scaled(value)) for value in spread]
        if out in ("sum", "both"):
            total = spread[0]
            for value in spread[1:]:
                total = case.emit(add(total, value))
            results.append(total)
        return relax.Tuple(results)

    return build


CASES = {
    f"{count} maps, {out}{', 3x3' if kernel > 1 else ''}": masked(count, out=out, kernel=kernel)
    for count in (1, 2, 5)
    for out in ("bits", "sum", "both")
    for kernel in (1, 3)
}
for filters in (32, 33, 65, 100, 128):
    CASES[f"{filters} filters"] = masked(filters=filters, inputs=33)
for width in (1, 2, 7, 9, 17, 20, 128):
    CASES[f"width {width}"] = masked(size=(3, width), out="both")
CASES |= {
    "no shortcut": masked(shortcut=False),
    "no shortcut, one map": masked(1, shortcut=False, out="bits"),
    "batch 3": masked(batch=3),
    "batch 3, 3x3, strides": masked(batch=3, kernel=3, strides=(2, 2), size=(8, 32)),
    "padding +1": masked(kernel=3, pad_value=1),
    "padding -1, 5x5": masked(kernel=5, pad_value=-1, size=(6, 12)),
    "dilation 2": masked(kernel=3, dilation=(2, 2), padding=(2, 2, 2, 2)),
    "many maps": masked(8, filters=128, size=(2, 32)),
    "512 filters": masked(2, inputs=128, filters=512, size=(2, 16)),
    "many rows": masked(size=(40, 16), kernel=3),
}


def test_equals_the_reference(grid, case, target, target_of):
    grid.check(case, target_of(target))


@pytest.mark.parametrize("on", ["amx", "avx512", "avx2"])
def test_one_kernel_stores_neither_maps_nor_mask(build_cases, target_of, on):
    lowered = lower(build_cases(CASES, list(CASES), list(CASES))[0], target_of(on))
    families = [family for family in lowered.family_of.values() if family != "elementwise"]  # bits of the argument
    assert set(families) <= FAMILIES and len(families) == len(CASES)
    assert ("matrix_masked_conv" in families) == (on == "amx")


def test_few_filters_are_masked_apart(build_cases, target_of):
    cases = {"few": masked(filters=16)}
    lowered = lower(build_cases(cases, ["few"], ["few"])[0], target_of("avx512"))
    assert not FAMILIES & set(lowered.family_of.values())
