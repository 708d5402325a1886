"""Every kind of kernel for GPUs, executed thread by thread: equal to its definition bit for bit, and without races."""

import numpy as np
import pytest

from tests.cuda import simt
from tests.cuda.grid import BINARY, Kernel, kernels, target_of
from tests.schedules import test_binary_product, test_elementwise, test_float_conv, test_pooling
from tvm_bnn.gpus import GPUS

OTHERS = {
    test_elementwise: ["exp", "integer division", "31 channels, bits", "bits of planes (3, 40, 5, 8)", "rank 0",
                       "a lower rank", "concat of columns, between operators", "tile"],
    test_float_conv: ["argument, channels 5-64", "stored, channels 32-100", "stem 7x7/2", "transposed, groups",
                      "residual block", "linear, one output"],
    test_pooling: ["max-pool, stride 1", "adaptive to 2x3", "mean over [1], keepdims=False", "softmax over 2",
                   "min over [2, 3], keepdims=False", "argmax over -1, keepdims", "bilinear half_pixel to 7x13",
                   "class map of 7x13", "max-pool of bits, padding"],
    test_binary_product: ["6x65x100, integer", "attention of 33", "logical xor, 64 channels"],
}  # fmt: skip


def check(kernel: Kernel, arch: str) -> None:
    """Run a kernel."""
    found = simt.run(kernel.func, target_of(arch), kernel.arguments)
    for result, expected in zip(found, kernel.expected, strict=True):
        np.testing.assert_array_equal(result, expected, err_msg=kernel.name)


@pytest.mark.parametrize(
    ("arch", "shape", "step"),
    [("sm_75", "m8n8k128", 4), ("sm_80", "m16n8k256", 1), ("sm_90", "m16n8k256", 3), ("sm_100", "", 2)],
)
def test_binary_convolutions(arch, shape, step):
    names = list(BINARY)[::step]
    made = [kernel for kernel in kernels(BINARY, names, arch) if kernel.rule.startswith("bconv2d")]
    on_tensor_cores = [kernel for kernel in made if shape and shape in kernel.rule]
    assert len(made) == len(names)
    assert len(on_tensor_cores) == (len(set(names) - {"groups", "small map", "three filters"}) if shape else 0)
    for kernel in made:
        check(kernel, arch)


@pytest.mark.parametrize("file", OTHERS, ids=lambda file: file.__name__.split("_", 1)[-1])
def test_other_kernels(file):
    for kernel in kernels(file.CASES, OTHERS[file], "sm_120"):
        check(kernel, "sm_120")


def test_the_table_has_a_product_of_each_kind():
    assert [gpu.product and (gpu.product.shape, gpu.product.operation) for gpu in GPUS] == [
        ("m8n8k128", "xor"),
        *[("m16n8k256", "xor")] * 3,
        ("m16n8k256", "and"),
        None,
        None,
    ]
