"""The template of convolutions on tensor cores: all that it may decide is exact, and fits a block."""

from functools import cache
from math import prod

import numpy as np
import pytest
import tvm
from tvm import DataType, tirx
from tvm.s_tir import Schedule

from tests.cuda import simt
from tests.cuda.grid import BINARY, EXACT, NUMBERS, target_of
from tests.schedules.conftest import build, definition
from tvm_bnn.gpus import gpu_of
from tvm_bnn.lower import lower
from tvm_bnn.lower.statements import rebuilt
from tvm_bnn.schedules import tensor_conv
from tvm_bnn.schedules.apply import schedule_function
from tvm_bnn.schedules.decide import Given
from tvm_bnn.schedules.stages import Stages
from tvm_bnn.schedules.tensor_conv import Sums, choose_tile, shared_bytes, sums_of, tiles

#: One convolution with a ragged last tile, several that are joined, and blocks of most pixels.
CASES = ("strides 2 and 1, odd channels", "gated branches", "large map")


@cache
def unscheduled(name: str, arch: str) -> tuple[tirx.PrimFunc, list[np.ndarray], list[np.ndarray]]:
    """The kernel of a case before it is scheduled, its arguments, and what they hold behind it."""
    cases, fillings = (BINARY, ()) if name in BINARY else (NUMBERS, EXACT)
    module, data, _ = build(cases, [name], list(cases), *fillings)
    lowered = lower(module, target_of(arch), in_place=False)
    (kernel,) = (var for var, family in lowered.family_of.items() if family == "tensor_conv")
    return lowered.module[kernel], *definition(lowered, data)[kernel]


def products(name: str, arch: str) -> Sums:
    """What the kernel of a case multiplies."""
    sch = Schedule(tvm.IRModule({"main": unscheduled(name, arch)[0]}))
    return sums_of(sch, Stages.of(sch), gpu_of(arch))


def scheduled(name: str, arch: str, tile: tensor_conv.TensorTile) -> tirx.PrimFunc:
    return schedule_function(unscheduled(name, arch)[0], "tensor_conv", target_of(arch), Given({"tile": list(tile)}))


def check(name: str, arch: str, func: tirx.PrimFunc) -> None:
    """Run a schedule of a case."""
    _, arguments, expected = unscheduled(name, arch)
    for found, result in zip(simt.run(func, target_of(arch), arguments), expected, strict=True):
        np.testing.assert_array_equal(found, result)


def launched(func: tirx.PrimFunc, arch: str) -> list[tirx.PrimFunc]:
    """What is launched for a kernel."""
    module = simt.lowered(func, target_of(arch))
    return [each for var, each in module.functions_items() if var.name_hint != "main"]


def shared(kernel: tirx.PrimFunc) -> int:
    """Bytes of shared memory that a launch has."""
    total = 0

    def add(stmt: tirx.Stmt) -> tirx.Stmt:
        nonlocal total
        if isinstance(stmt, tirx.AllocBuffer) and str(stmt.buffer.scope()) == "shared":
            total += prod(map(int, stmt.buffer.shape)) * DataType(str(stmt.buffer.dtype)).itemsize
        return rebuilt(stmt, add)

    add(kernel.body)
    return total


@pytest.mark.parametrize(
    ("arch", "name"),
    [
        ("sm_75", CASES[0]),
        ("sm_80", CASES[1]),
        ("sm_90", CASES[0]),
        ("sm_90", CASES[2]),
        ("sm_80", "bf16, odd channels"),
        ("sm_75", "s8, image"),
        ("sm_90", "products"),
    ],
)
def test_every_kind_of_tile_is_exact(arch, name):
    offered = tiles(products(name, arch), target_of(arch).gpu)
    extremes = {
        key: max(offered, key=lambda tile: (order(tile), tile))
        for key, order in {
            "warps of filters": lambda tile: tile.warps_of_filters,
            "tiles of a warp": lambda tile: tile.pixels * tile.filters,
            "one warp": lambda tile: -tile.warps,
            "many": lambda tile: tile.warps_of_pixels,
        }.items()
    }
    assert len(set(extremes.values())) > 2
    for tile in set(extremes.values()):
        func = scheduled(name, arch, tile)
        (kernel,) = launched(func, arch)
        assert shared(kernel) <= shared_bytes(tile, products(name, arch), target_of(arch).gpu) <= 1.4 * shared(kernel)
        check(name, arch, func)


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_what_does_not_fit_a_block_is_launched_apart(arch, monkeypatch):
    monkeypatch.setattr(tensor_conv, "fits", lambda tile, sums, gpu: False)
    name = CASES[1]
    func = scheduled(name, arch, choose_tile(products(name, arch), target_of(arch).gpu))
    assert len(launched(func, arch)) > 1
    check(name, arch, func)


@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_90"])
def test_the_default_tile_grows_with_the_map(arch):
    gpu = target_of(arch).gpu
    sizes = []
    for pixels, filters in ((64, 512), (2048, 256), (128 * 256, 128)):
        tile = choose_tile(Sums(gpu.product, pixels, filters, (72,)), gpu)
        sizes.append(tile.rows(gpu.product) * tile.columns(gpu.product))
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]
