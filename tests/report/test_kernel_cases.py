"""The rows of `kernels`: what they compute, what is captured of them, and the arithmetic that is counted."""

from contextlib import nullcontext
from unittest.mock import patch

import numpy as np
import pytest
import torch

from tvm_bnn.reference import evaluate
from tvm_bnn.report import tables
from tvm_bnn.report.kernel_call import KernelCall
from tvm_bnn.report.kernel_cases import (
    KERNELS,
    SQUARE,
    WIDE,
    Layer,
    attention,
    branches,
    nearest,
    nearest_branches,
    packing,
    resize,
    resize_to_bits,
    stem,
    to_bits,
    to_float,
    transposed,
)
from tvm_bnn.report.timing import Seconds
from tvm_bnn.targets import host

# name -> (case, family of the kernel's name, shape and dtype of its result)
SMALL = {
    "bits": (to_bits(Layer((7, 6, 64), 64), "b"), "bconv2d", (1, 7, 6, 2), "uint32"),
    "odd channels, dilated": (to_bits(Layer((7, 6, 33), 65, dilation=4), "b"), "bconv2d", (1, 7, 6, 3), "uint32"),
    "residual, stride 2": (to_float(Layer((8, 6, 64), 32, stride=2), "b"), "bconv2d", (1, 4, 3, 32), "float32"),
    "1x1": (to_float(Layer((5, 6, 64), 64, kernel=1), "b"), "bconv2d", (1, 5, 6, 64), "float32"),
    "packing, channels last": (packing((7, 6, 64), True), "elementwise", (1, 7, 6, 2), "uint32"),
    "packing, channels first": (packing((7, 6, 64), False), "elementwise", (1, 7, 6, 2), "uint32"),
    "stem": (stem(Layer((16, 15, 3), 32, 7, 2)), "conv2d", (1, 8, 8, 32), "float32"),
    "resize to bits": (resize_to_bits((5, 6, 32), 2), "resize2d", (1, 10, 12, 1), "uint32"),
    "nearest": (nearest((4, 6, 32), 2), "bconv2d", (1, 8, 12, 1), "uint32"),
    "nearest branches": (nearest_branches((4, 6, 32), 3, 2), "bconv2d", (1, 8, 12, 1), "uint32"),
    "transposed": (transposed((4, 6, 32), 2), "bconv2d", (1, 4, 6, 1), "uint32"),
    "branches": (branches((5, 16, 64), 3, "same-bits"), "bconv2d", (1, 5, 16, 2), "uint32"),
    "atrous branches": (branches((5, 16, 64), 3, "atrous"), "bconv2d", (1, 5, 16, 2), "uint32"),
    "branches with thresholds": (
        branches((5, 16, 64), 3, "thresholds"),
        "elementwise, bconv2d",
        (1, 5, 16, 2),
        "uint32",
    ),
    "attention": (attention(64, 32, 2), "main", (1, 2, 64, 32), "float32"),
    "softmax attention": (attention(64, 32, 2, softmax=True), "main", (1, 2, 64, 32), "float32"),
    "resize": (resize((5, 6, 32), 2), "resize2d", (1, 10, 12, 32), "float32"),
}


@pytest.mark.parametrize("name", SMALL)
def test_the_kernel_is_the_only_one_measured_and_its_module_is_exact(name):
    case, family, shape, dtype = SMALL[name]
    built = case.build()
    call = KernelCall(built.module, built.value, built.data, host(1))
    try:
        seconds = call()
    finally:
        call.close()
    assert isinstance(seconds, Seconds) and seconds > 0
    assert call.kernel == family and call.rule
    result = call.arguments[-1] if built.value is not None else call.results[0]
    assert (tuple(result.shape), str(result.dtype)) == (shape, dtype)
    for found, expected in zip(call.results, evaluate(built.module, built.data), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["nearest", "nearest branches"])
def test_sums_behind_nearest_upsampling_are_shared_unless_it_is_switched_off(name):
    case, rules = SMALL[name][0], []
    built = case.build()
    for switch in (nullcontext(), patch.object(*case.unfused)):
        with switch:
            call = KernelCall(built.module, built.value, built.data, host(1))
        call.close()
        rules.append(call.rule)
        for found, expected in zip(call.results, evaluate(built.module, built.data), strict=True):
            np.testing.assert_array_equal(found, expected)
    shared, apart = rules
    assert "upsampled" in shared and "upsampled" not in apart


def test_the_residual_of_a_layer_reaches_its_kernel_as_a_map():
    built = SMALL["residual, stride 2"][0].build()
    call = KernelCall(built.module, built.value, built.data, host(1))
    call.close()
    assert [tuple(each.shape) for each in call.arguments[-2:]] == [(1, 4, 3, 32)] * 2
    np.testing.assert_array_equal(call.arguments[-2].numpy(), built.data[1])


def test_a_module_is_the_same_every_time():
    case = SMALL["bits"][0]
    first, second = case.build(), case.build()
    np.testing.assert_array_equal(first.data[0], second.data[0])
    np.testing.assert_array_equal(*(evaluate(each.module, each.data)[0] for each in (first, second)))


@pytest.mark.parametrize(
    "layer",
    [
        Layer((7, 9, 4), 6),
        Layer((7, 9, 4), 6, kernel=1),
        Layer((8, 9, 4), 6, stride=2),
        Layer((9, 10, 4), 6, dilation=4),
        Layer((15, 16, 3), 6, kernel=7, stride=2),
    ],
    ids=str,
)
def test_geometry_is_pytorchs_and_valid_taps_are_counted(layer):
    height, width, channels = layer.size
    ones = torch.nn.Conv2d(
        channels, layer.filters, layer.kernel, layer.stride, layer.padding, dilation=layer.dilation, bias=False
    )
    torch.nn.init.ones_(ones.weight)
    with torch.no_grad():
        taps = ones(torch.ones(1, channels, height, width))
    assert tuple(taps.shape[1:]) == (layer.out[2], *layer.out[:2])
    assert layer.macs == taps.numel() * channels * layer.kernel**2
    assert layer.valid_taps == pytest.approx(float(taps.sum()) / layer.macs)


def test_twins_have_the_geometry_of_their_layers():
    for case, _, _, _ in SMALL.values():
        if case.twin is not None and case.layer is not None:
            module, inputs = case.twin()
            with torch.no_grad():
                result = module.eval()(*inputs)
            height, width, filters = case.layer.out
            assert tuple(result.shape) == (1, filters, height, width)


def test_the_suite_has_every_size_twice_and_no_name_twice():
    names = [kernel.name for kernel in KERNELS]
    assert len(set(names)) == len(names)
    for size in SQUARE + WIDE:
        text = "x".join(map(str, size))
        assert {f"bconv3x3-{text}-bits", f"bconv3x3-{text}-float"} <= set(names)
    by_name = dict(zip(names, KERNELS, strict=True))
    assert {by_name[f"bconv3x3-{'x'.join(map(str, size))}-bits"].binary_macs for size in SQUARE} == {115_605_504}
    # of a row without an epilogue in float, no map is charged
    assert by_name["bconv3x3-7x7x512-bits"].maps == ()
    assert by_name["bconv3x3-7x7x512-float"].maps == (7 * 7 * 512 * 4,) * 2


def test_operations_of_both_sides_are_printed_once():
    row = {"name": "attention", "binary_macs": 64e9, "float_macs": 0.0, "twin_macs": 64e9, "bound": "arithmetic"}
    row |= {"threads": 1, "scaling": None, "ratios": {}, "spreads": {}}
    (note,) = tables.notes([row, row], {})
    assert note.startswith("attention: 64.00 G binary and 0.00 G float MACs; ") and "64 times as many" in note
