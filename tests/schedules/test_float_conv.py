"""Float convolutions, transposed ones and products, against the reference: the same order of fused steps."""

from typing import Any

import numpy as np
import pytest
from tvm import relax
from tvm.relax.op import add, greater, matmul, multiply, subtract, where
from tvm.relax.op.nn import conv2d, conv2d_transpose, relu

from tvm_bnn import targets
from tvm_bnn.lower import lower

# Sums of products are fused steps, so the processor must have them.
TARGETS = ["avx512", "avx2", "generic with fma"]
CASES = {}
FILLINGS = [("normal", "normal"), ("ties", "ties")]  # the reference takes its time


def conv(inputs, filters, kernel=(3, 3), size=(7, 13), batch=1, stored=False, **attributes):
    """A case: a convolution of an argument (planes apart), or of a stored map (channels last)."""

    def build(case):
        data = case.argument(batch, inputs, *size)
        if stored:
            data = case.emit(relu(case.emit(conv2d(data, case.constant(inputs, inputs, 1, 1)))))
        weight = case.constant(filters, inputs // attributes.get("groups", 1), *kernel)
        return case.scaled(case.emit(conv2d(data, weight, **attributes)))

    return build


for stored in (False, True):
    kind = "stored" if stored else "argument"
    for inputs, filters in [(1, 32), (2, 5), (3, 16), (3, 31), (4, 33), (5, 64), (33, 1), (65, 3), (32, 100)]:
        CASES[f"{kind}, channels {inputs}-{filters}"] = conv(inputs, filters, stored=stored, padding=1)
    variants: dict[str, dict[str, Any]] = {
        "no padding": {},
        "asymmetric padding": {"padding": (0, 2, 1, 0)},
        "stride 2": {"strides": 2, "padding": 1},
        "stride 3x1": {"strides": (3, 1), "padding": 1},
        "dilation 2": {"dilation": 2, "padding": 2},
        "groups 3": {"groups": 3, "padding": 1},
        "depthwise": {"groups": 33, "padding": 1},
        "depthwise, stride 2": {"groups": 33, "padding": 1, "strides": 2},
    }
    for name, attributes in variants.items():
        CASES[f"{kind}, {name}"] = conv(33, 33, stored=stored, **attributes)
for kernel in [(1, 1), (5, 5), (2, 2), (1, 3), (7, 1)]:
    CASES[f"kernel {kernel[0]}x{kernel[1]}"] = conv(17, 32, kernel, stored=True)
CASES["stem 3x3/2"] = conv(3, 64, size=(16, 31), padding=1, strides=2)
CASES["stem 7x7/2"] = conv(3, 32, (7, 7), size=(16, 37), padding=3, strides=2)
CASES["head 1x1"] = conv(64, 19, (1, 1), stored=True)
CASES["map 1x1"] = conv(33, 32, (1, 1), size=(1, 1), stored=True)
CASES["width 31"] = conv(8, 32, size=(3, 31), stored=True, padding=1)
CASES["batch 3"] = conv(5, 32, batch=3, padding=1)
# few filters: vectors of pixels where rows are whole vectors
FEW: dict[str, Any] = {
    "1 filter": conv(33, 1, size=(5, 32), stored=True, padding=1),
    "2 filters": conv(3, 2, (2, 2), size=(7, 17), batch=2),
    "3 filters": conv(65, 3, size=(9, 48), batch=2, stored=True, padding=1),
    "4 filters, stride 2x1": conv(5, 4, size=(6, 16), stored=True, padding=1, strides=(2, 1)),
    "3 filters, dilation 2": conv(17, 3, (3, 5), size=(4, 80), padding=(2, 4), dilation=2),
}
CASES |= {f"few filters, {name}": case for name, case in FEW.items()}


def transposed(inputs, filters, kernel=(3, 3), **attributes):
    def build(case):
        weight = case.constant(inputs, filters // attributes.get("groups", 1), *kernel)
        return conv2d_transpose(case.argument(1, inputs, 5, 7), weight, **attributes)

    return build


transposed_variants: dict[str, dict[str, Any]] = {
    "stride 1": {},
    "stride 2": {"strides": 2},
    "padding": {"strides": 2, "padding": 1},
    "output padding": {"strides": 2, "padding": 1, "output_padding": 1},
    "dilation": {"strides": 2, "dilation": 2, "padding": 1},
    "groups": {"groups": 3, "strides": 2},
    "stride 3x1": {"strides": (3, 1)},
}
for name, attributes in transposed_variants.items():
    CASES[f"transposed, {name}"] = transposed(6, 9, **attributes)
CASES["transposed, kernel 4, stride 2"] = transposed(33, 32, (4, 4), strides=2, padding=1)
CASES["transposed, kernel 2, stride 2"] = transposed(32, 33, (2, 2), strides=2)
CASES["transposed, one channel"] = transposed(3, 1, (2, 2), strides=2)


def residual_block(case):
    data = case.emit(relu(case.argument(1, 33, 7, 13)))
    first = case.scaled(case.emit(conv2d(data, case.constant(33, 33, 3, 3), padding=1)))
    first = case.emit(where(case.positive(first), first, case.emit(multiply(first, case.constant(1, 33, 1, 1)))))
    second = case.scaled(case.emit(conv2d(first, case.constant(33, 33, 3, 3), padding=1)))
    value = case.emit(add(second, data))
    return relax.Tuple([value, case.positive(value), relu(value)])


def restored(case):
    """Three channels behind 32 of a map, added to the image and limited; and its difference."""
    data, image = case.emit(relu(case.argument(1, 33, 6, 32))), case.argument(1, 3, 6, 32)
    found = case.scaled(case.emit(conv2d(data, case.constant(3, 33, 3, 3), padding=1)))
    return relax.Tuple([case.emit(relu(case.emit(add(found, image)))), found])



def of_bits(case):
    levels = case.emit(where(case.bits(1, 33, 7, 13), relax.const(1.0), relax.const(-1.0)))
    return conv2d(levels, case.constant(32, 33, 3, 3), padding=1)


def product(left, right, constant=True):
    def build(case):
        return matmul(case.argument(*left), case.constant(*right) if constant else case.argument(*right))

    return build


def linear_and_signs(case):
    """A hidden layer, its signs, and a layer of what is computed of it."""
    value = case.emit(matmul(case.argument(20, 65), case.constant(65, 40)))
    value = case.emit(add(value, case.constant(1, 40)))
    return relax.Tuple([value, case.positive(value), case.emit(matmul(case.emit(relu(value)), case.constant(40, 7)))])


CASES.update(
    {
        "residual block": residual_block,
        "few filters, a restored image": restored,
        "of a choice between two levels": of_bits,
        "linear": product((3, 33), (33, 10)),
        "linear, many outputs": product((2, 64), (64, 100)),
        "linear, one output": product((2, 33), (33, 1)),
        "linear, a classifier": product((1, 512), (512, 1000)),
        "linear of many rows, its signs and more": linear_and_signs,
        "linear of a batch of rows": product((2, 5, 33), (33, 31)),
        "linear of one row": product((33,), (33, 10)),
        "product of activations": product((2, 5, 33), (2, 33, 7), constant=False),
        "product that broadcasts": product((2, 1, 5, 33), (2, 3, 33, 7), constant=False),
        "inner product": product((33,), (33,), constant=False),
    }
)


def gated_head(channels, filters, size=(7, 13), batch=1):
    """A case: a 1x1 convolution of values that it alone reads, which are computed row by row."""

    def build(case):
        data = case.argument(batch, channels, *size)
        gate = case.emit(relax.op.sigmoid(case.argument(batch, channels, 1, 1)))
        value = case.emit(relu(case.emit(multiply(data, gate))))
        return case.emit(conv2d(value, case.constant(filters, channels, 1, 1)))

    return build


for channels, filters in [(64, 19), (33, 3), (100, 32)]:
    CASES[f"gated head {channels}-{filters}"] = gated_head(channels, filters)
CASES["gated head, batch 2"] = gated_head(40, 19, batch=2)


def computed_head(channels, filters, size):
    """A case: a 1x1 convolution, with a bias, of an RPReLU that its kernel computes."""

    def build(case):
        shape = 1, channels, 1, 1
        moved = case.emit(subtract(case.argument(1, channels, *size), case.constant(*shape)))
        slope = case.emit(multiply(case.constant(*shape), moved))
        bent = case.emit(where(case.emit(greater(moved, relax.const(np.float32(0)))), moved, slope))
        value = case.emit(add(bent, case.constant(*shape)))
        return add(case.emit(conv2d(value, case.constant(filters, channels, 1, 1))), case.constant(1, filters, 1, 1))

    return build


# a sum of scalars, whose products LLVM would put into vectors on Arm
CASES["head of one filter, computed"] = computed_head(16, 1, (16, 24))


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("few filters")])
def test_few_filters_have_vectors_of_pixels(build_cases, name):
    module = build_cases(CASES, [name], list(CASES))[0]
    assert "few_filters" in lower(module, targets.resolve("llvm -mcpu=x86-64-v4", threads=1)).family_of.values()


def test_equals_the_reference(grid, case, target, target_of):
    grid.check(case, target_of(target))
