"""Float convolutions of bfloat16 and tf32: the reference's sums where these are exact, else within a bound."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tvm import relax
from tvm.relax.op.nn import conv2d

from tests.schedules.test_float_precision import conv, pooled
from tvm_bnn import ops, targets
from tvm_bnn.arithmetic import bfloat16, tfloat32

TARGETS = ["amx with bf16", "avx512", "generic with fma"]
CASES = {}
FILLINGS = [("ties", "ties"), ("high", "low")]  # whole numbers and halves: float32 holds every sum of theirs


def rounded_by(rounds, round_weight):
    """What the pass makes of a convolution: both operands rounded."""

    def build(case, data, filters, kernel, **attributes):
        weight = round_weight(case.coefficients((filters, int(data.ty.shape[1]), *kernel)))
        return case.scaled(case.emit(conv2d(case.emit(rounds(data)), relax.const(weight), **attributes)))

    return build


in_halves = rounded_by(ops.bfloat16, bfloat16)
in_tf32 = rounded_by(ops.tfloat32, tfloat32)


for stored in (False, True):
    kind = "stored" if stored else "argument"
    for inputs, filters in [(1, 32), (3, 64), (5, 40), (20, 33), (64, 19), (2, 5)]:
        CASES[f"{kind}, channels {inputs}-{filters}"] = conv(
            inputs, filters, stored=stored, padding=1, rounded=in_halves
        )
    CASES[f"{kind}, stride 2"] = conv(3, 64, size=(9, 33), strides=2, padding=1, stored=stored, rounded=in_halves)
    CASES[f"{kind}, dilation 2"] = conv(20, 32, dilation=2, padding=2, stored=stored, rounded=in_halves)
CASES["7x7 of an image"] = conv(3, 64, (7, 7), size=(9, 32), strides=2, padding=3, rounded=in_halves)
CASES["tf32, stored"] = conv(20, 33, stored=True, padding=1, rounded=in_tf32)
CASES["tf32, 7x7 of an image"] = conv(3, 64, (7, 7), size=(9, 32), strides=2, padding=3, rounded=in_tf32)
CASES["stem and pooling"] = pooled((128, 128), rounded=in_halves)
CASES["stem 7x7 and pooling"] = pooled((128, 160), kernel=7, rounded=in_halves)


def test_equals_the_reference(grid, case, target, target_of):
    grid.check(case, target_of(target))


@pytest.mark.parametrize("channels", [3, 70])
def test_sum_is_within_the_bound_of_any_order(compile_and_run, channels):
    """|found - true| <= n u / (1 - n u) sum |x w| for n products, and what a unit flushes to 0 that is not normal."""
    target = targets.resolve("llvm", threads=1)
    if not target.matrix or not target.has("amx-bf16"):
        pytest.skip("this machine has no matrix unit for bfloat16; others sum in the reference's order")
    rng = np.random.default_rng(channels)
    image, weight = (
        bfloat16(rng.standard_normal(shape) * 2.0 ** rng.integers(-8, 8, shape))
        for shape in ((1, channels, 9, 32), (64, channels, 3, 3))
    )
    x = relax.Var("x", relax.TensorType(image.shape, "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            made = builder.emit(conv2d(builder.emit(ops.bfloat16(x)), relax.const(weight), padding=1))
            output = builder.emit_output(made)
        builder.emit_func_output(output)
    (found,) = compile_and_run(builder.get(), [image], target)
    data, taps = torch.from_numpy(image).double(), torch.from_numpy(weight).double()
    true, size = F.conv2d(data, taps, padding=1).numpy(), F.conv2d(data.abs(), taps.abs(), padding=1).numpy()
    steps = weight[0].size * 2.0**-24
    allowed = steps / (1 - steps) * size + weight[0].size * 2.0**-126
    assert np.all(np.abs(found - true) <= allowed)
    assert np.abs(found - true).max() > 0  # sums are rounded: the bound is about something
