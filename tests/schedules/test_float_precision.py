"""Float convolutions in fewer bits: of bytes, whose sums are exact in any order, so the same on every target."""

from typing import Any

import numpy as np
from tvm import relax
from tvm.relax.op.nn import conv2d, max_pool2d, relu

from tvm_bnn import ops
from tvm_bnn.relay_passes.float_precision import quantized_filters

TARGETS = ["amx", "avx512", "avx2", "generic"]
CASES = {}
FILLINGS = [("normal", "normal"), ("ties", "ties"), ("high", "low")]


def in_bytes(case, data, filters, kernel, **attributes):
    """What the pass makes of a convolution: integers, an exact sum, one factor a filter."""
    channels = int(data.ty.shape[1])
    integers, _ = quantized_filters(case.coefficients((filters, channels, *kernel)))
    rounded = case.emit(ops.quantize(data, 50.0))
    total = case.emit(conv2d(rounded, relax.const(integers), **attributes, out_dtype="int32"))
    return case.scaled(total)


def conv(inputs, filters, kernel=(3, 3), size=(7, 16), batch=1, stored=False, rounded=in_bytes, **attributes):
    """A case: a convolution of an argument (planes apart), or of a stored map (channels last)."""

    def build(case):
        data = case.argument(batch, inputs, *size)
        if stored:
            data = case.emit(relu(case.scaled(case.emit(max_pool2d(data, (1, 1))))))
        return rounded(case, data, filters, kernel, **attributes)

    return build


for stored in (False, True):
    kind = "stored" if stored else "argument"
    for inputs, filters in [(1, 32), (2, 5), (3, 64), (4, 33), (5, 64), (8, 32), (9, 19), (16, 40), (33, 3), (64, 19)]:
        CASES[f"{kind}, channels {inputs}-{filters}"] = conv(inputs, filters, stored=stored, padding=1)
    variants: dict[str, dict[str, Any]] = {
        "no padding": {"size": (7, 18)},
        "asymmetric padding": {"padding": (0, 2, 1, 0)},
        "stride 2": {"strides": 2, "padding": 1, "size": (9, 31)},
        "stride 3x1": {"strides": (3, 1), "padding": 1},
        "dilation 2": {"dilation": 2, "padding": 2},
        "dilation in rows": {"dilation": (2, 1), "padding": (2, 1)},
        "batch 2": {"batch": 2, "padding": 1},
    }
    for name, attributes in variants.items():
        for inputs in (3, 20):
            CASES[f"{kind}, {name}, {inputs} channels"] = conv(inputs, 40, stored=stored, **attributes)
for kernel in [(1, 1), (5, 5), (2, 2), (1, 3), (7, 1), (7, 7)]:
    padding = (kernel[0] // 2, kernel[1] // 2)
    CASES[f"kernel {kernel[0]}x{kernel[1]}"] = conv(17, 32, kernel, stored=True, padding=padding)
    CASES[f"kernel {kernel[0]}x{kernel[1]} of an image"] = conv(3, 64, kernel, size=(9, 33), strides=2, padding=padding)
SPECIAL = [np.nan, np.inf, -np.inf, -0.0, 0.05, 0.03, 1e-40]
CASES["row of 13 pixels"] = conv(3, 64, size=(7, 13), padding=1)
CASES["row of 96 pixels"] = conv(3, 64, size=(5, 96), padding=1)
CASES["linear"] = conv(128, 100, (1, 1), size=(1, 1), stored=True)
CASES["linear of a row"] = conv(130, 100, (1, 1), size=(1, 24), stored=True)
CASES["sums beyond float32"] = conv(2753, 32, (1, 1), size=(1, 16), stored=True)  # as high as 2753 * 127 * 50
CASES["special numbers"] = lambda case: in_bytes(
    case,
    case.argument(data=case.rng.choice(np.array(SPECIAL, np.float32), (1, 3, 9, 16))),
    32,
    (3, 3),
    padding=1,
)


def pooled(size, filters=64, kernel=3, batch=1, of_image=True, rounded=in_bytes):
    """A case: a stem and its max-pooling in one kernel."""

    def build(case):
        data = case.argument(batch, 3, *size)
        data = data if of_image else case.scaled(data)
        value = rounded(case, data, filters, (kernel, kernel), strides=(2, 2), padding=(kernel // 2,) * 2)
        pool = case.emit(max_pool2d(case.emit(relu(value)), (3, 3), strides=(2, 2), padding=(1, 1)))
        shifted = case.scaled(pool)
        return relax.Tuple([shifted, case.positive(shifted)])

    return build


for size in [(128, 128), (130, 126), (128, 160), (100, 250)]:
    CASES[f"stem and pooling {size[0]}x{size[1]}"] = pooled(size)
CASES["stem 7x7 and pooling"] = pooled((128, 128), kernel=7)
CASES["stem 7x7 and pooling, batch 2, normalised"] = pooled((96, 96), kernel=7, batch=2, of_image=False)
CASES["stem of 40 filters and pooling"] = pooled((160, 160), filters=40)


def test_equals_the_reference(grid, case, target, target_of):
    grid.check(case, target_of(target))
