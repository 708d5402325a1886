"""Which register tile a convolution has by default."""

import pytest

from tvm_bnn.lower import lower
from tvm_bnn.report.kernel_cases import Layer, to_bits, to_float
from tvm_bnn.schedules import schedule_module
from tvm_bnn.schedules.apply import RULE_ATTR
from tvm_bnn.targets import resolve

TARGET = resolve("llvm -mcpu=icelake-server", threads=1)


@pytest.mark.parametrize(
    ("kernel", "tile"),
    [
        # few words a sum, and results that no cache keeps: all eight vectors of a pixel are written in one go
        (to_float(Layer((64, 128, 128), 128, 1), "bconv1x1"), "2x8"),
        (to_float(Layer((28, 28, 128), 128, 1), "bconv1x1"), "4x4"),
        (to_bits(Layer((64, 128, 128), 128, 1), "bconv1x1"), "4x4"),
        (to_float(Layer((64, 128, 128), 128, 3), "bconv3x3"), "4x4"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_tile(kernel, tile):
    lowered = lower(kernel.build().module, TARGET)
    scheduled = schedule_module(lowered.module, lowered.family_of, TARGET)
    rules = [str(func.attrs[RULE_ATTR]) for func in scheduled.functions.values() if RULE_ATTR in (func.attrs or {})]
    assert [rule for rule in rules if rule.startswith("bconv2d")] == [f"bconv2d-avx512-{tile}"]
