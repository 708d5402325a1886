"""Every kind of kernel for GPUs, executed thread by thread: equal to its definition bit for bit, and without races."""

import re

import numpy as np
import pytest
from tvm import relax
from tvm.relax.op.nn import conv2d

from tests.cuda import simt
from tests.cuda.grid import BINARY, EXACT, NUMBERS, Kernel, kernels, module_of, target_of
from tests.schedules import test_binary_product, test_elementwise, test_float_conv, test_pooling
from tests.schedules.conftest import build
from tvm_bnn import ops
from tvm_bnn.gpus import GPUS
from tvm_bnn.lower import lower
from tvm_bnn.lower.in_place import IN_PLACE
from tvm_bnn.schedules import schedule_module, threads

OTHERS = {
    test_elementwise: ["exp", "integer division", "31 channels, bits", "bits of planes (3, 40, 5, 8)", "rank 0",
                       "a lower rank", "concat of columns, between operators", "tile"],
    test_float_conv: ["argument, channels 5-64", "stored, channels 32-100", "stem 7x7/2", "transposed, groups",
                      "residual block", "linear, one output"],
    test_pooling: ["max-pool, stride 1", "adaptive to 2x3", "mean over [1], keepdims=False", "softmax over 2",
                   "min over [2, 3], keepdims=False", "argmax over -1, keepdims", "bilinear half_pixel to 7x13",
                   "class map of 7x13", "class map of 3 with NaN", "max-pool of bits, padding"],
    test_binary_product: ["6x65x100, integer", "attention of 33", "logical xor, 64 channels"],
}  # fmt: skip


@pytest.fixture(autouse=True)
def threads_of_several_pixels(monkeypatch):
    """Also of the small maps here; rows of 11 and 13 pixels have no divisor for it."""
    monkeypatch.setattr(threads, "LEAST_THREADS", 1)


def check(kernel: Kernel, arch: str) -> None:
    """Run a kernel."""
    found = simt.run(kernel.func, target_of(arch), kernel.arguments)
    for result, expected in zip(found, kernel.expected, strict=True):
        np.testing.assert_array_equal(result, expected, err_msg=kernel.name)


@pytest.mark.parametrize(
    ("arch", "shape", "step"),
    [("sm_75", "m8n8k128", 4), ("sm_80", "m16n8k256", 2), ("sm_90", "m16n8k256", 1), ("sm_100", "m16n8k32", 2)],
)
def test_binary_convolutions(arch, shape, step):
    names = list(BINARY)[::step]
    made = [kernel for kernel in kernels(BINARY, names, arch) if kernel.rule.startswith(("bconv2d", "bmatmul"))]
    on_tensor_cores = [kernel for kernel in made if shape in kernel.rule]
    assert len(made) == len(names)
    assert len(on_tensor_cores) == len(set(names) - {"groups", "small map", "three filters"})
    for kernel in made:
        check(kernel, arch)


@pytest.mark.parametrize(
    ("arch", "names", "shapes"),
    [
        ("sm_75", ["s8", "s8, image", "bf16"], {"s8": "m8n8k16"}),
        ("sm_80", list(NUMBERS), {"s8": "m16n8k32", "bf16": "m16n8k16", "tf32": "m16n8k8"}),
    ],
    ids=["sm_75", "sm_80"],
)
def test_convolutions_of_numbers(arch, names, shapes):
    made = kernels(NUMBERS, names, arch, *EXACT)
    for kernel in made:
        check(kernel, arch)
    rules = [kernel.rule for kernel in made if kernel.rule.startswith("conv2d")]
    kinds = ["" if "few pixels" in name else name.split(",")[0] for name in names]
    wanted = [f"conv2d-{kind}-cuda-{shapes[kind]}" if kind in shapes else "conv2d-cuda-threads" for kind in kinds]
    assert len(rules) == len(wanted)
    for rule, start in zip(sorted(rules), sorted(wanted), strict=True):
        assert rule.startswith(start)


@pytest.mark.parametrize("file", OTHERS, ids=lambda file: file.__name__.split("_", 1)[-1])
def test_other_kernels(file):
    for kernel in kernels(file.CASES, OTHERS[file], "sm_120"):
        check(kernel, "sm_120")


def test_logits_are_interpolated_where_their_argmax_is_taken():
    (kernel,) = kernels(test_pooling.CASES, ["class map of 3 with NaN"], "sm_90")
    assert set(re.findall(r"alloc_buffer\(.*", kernel.func.script())) == {
        'alloc_buffer((2, 10, 32), "int32", scope="local")', 'alloc_buffer((2, 10, 32), scope="local")'
    }  # fmt: skip


@pytest.mark.parametrize(("size", "pixels"), [(16, 1), (64, 4), (96, 8), (94, 2)])
def test_a_thread_of_a_large_convolution_has_neighbouring_pixels(monkeypatch, size, pixels):
    monkeypatch.undo()
    cases = {"stem": lambda case: conv2d(case.argument(1, 3, size, size), case.constant(64, 3, 3, 3), padding=1)}
    module = module_of(cases, ["stem"], "sm_90")
    text = next(func.script() for var, func in module.functions.items() if var.name_hint.startswith("conv2d"))
    assert 'T.sblock("pad")' not in text
    assert set(re.findall(r"T.unroll\((\d+)\)", text)) == ({str(pixels)} if pixels > 1 else set())


def _residual_of_a_kernel(case):
    """A map that one kernel makes, and the next one adds to for the last time."""
    weight, geometry = case.signs(32, 32, 3, 3), ops.BConv2DAttrs(padding=(1, 1, 1, 1))
    first = case.scaled(case.emit(ops.bconv2d(case.bits(1, 32, 5, 6), weight, geometry)))
    second = case.emit(ops.bconv2d(case.positive(first), case.signs(32, 32, 3, 3), geometry))
    return case.emit(relax.op.nn.relu(case.emit(relax.op.add(case.scaled(second), first))))


def test_a_kernel_may_write_over_what_it_reads():
    cases = {"residual": _residual_of_a_kernel}
    target = target_of("sm_80")
    lowered = lower(build(cases, ["residual"], ["residual"])[0], target)
    (name,) = (name for name in lowered.family_of if IN_PLACE in (lowered.module[name].attrs or {}))
    ((result, argument),) = lowered.module[name].attrs[IN_PLACE]
    func = schedule_module(lowered.module, lowered.family_of, target)[name]
    (kernel,) = (kernel for kernel in kernels(cases, ["residual"], "sm_80") if kernel.name == name)
    found = simt.run(func, target, [each for i, each in enumerate(kernel.arguments) if i != result])
    np.testing.assert_array_equal(found[argument], kernel.expected[result])


def test_the_table_has_a_product_of_each_kind():
    assert [(gpu.product.shape, gpu.product.operands, gpu.product.operation) for gpu in GPUS] == [
        ("m8n8k128", "b1", "xor"),
        *[("m16n8k256", "b1", "xor")] * 3,
        ("m16n8k256", "b1", "and"),
        *[("m16n8k32", "u8", "and")] * 2,
    ]
    assert [each.shape for each in GPUS[0].others] == ["m8n8k16"]
    for gpu in GPUS[1:]:
        assert [each.shape for each in gpu.others] == ["m16n8k32", "m16n8k16", "m16n8k8"]
