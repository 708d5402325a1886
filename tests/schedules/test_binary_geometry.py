"""Seeded random geometries of binary convolutions: channels, kernels, strides, dilation, groups, padding, outputs."""

import random

from tvm import relax

from tvm_bnn import ops

COUNT = 120
CHANNELS = [1, 3, 31, 32, 33, 64, 65]


def geometry(draw):
    """A convolution that fits its map, as (channels a group, filters, kernel, size, attributes)."""
    groups = draw.choice([1, 1, 1, 1, 2, 3])
    kernel = draw.choice([(1, 1), (3, 3), (3, 3), (2, 2), (5, 5), (1, 3), (3, 2), (7, 7)])
    dilation = draw.choice([(1, 1), (1, 1), (2, 2), (1, 2)])
    size = draw.choice([(4, 5), (7, 9), (1, 8), (3, 3), (6, 1)])
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    least = [max(0, span - extent) for span, extent in zip(reach, size, strict=True)]
    extra = [draw.randrange(3) for _ in range(4)]
    padding = tuple(extra[i] + (least[i % 2] if i < 2 else 0) for i in range(4))  # top, left, bottom, right
    attributes = ops.BConv2DAttrs(
        strides=draw.choice([(1, 1), (1, 1), (2, 2), (2, 1), (3, 3)]),
        padding=(padding[0], padding[1], padding[2], padding[3]),
        dilation=dilation,
        groups=groups,
        pad_value=draw.choice([0, 0, 1, -1]),
    )
    per_group = draw.choice(CHANNELS if groups == 1 else [1, 3, 32, 33])
    filters = groups * draw.choice([1, 3, 11, 32]) if groups > 1 else draw.choice(CHANNELS)
    return per_group, filters, kernel, size, attributes


def convolution(number):
    draw = random.Random(number)
    per_group, filters, kernel, size, attributes = geometry(draw)
    kind, batch = draw.choice(["float", "bits", "both", "integer"]), draw.choice([1, 1, 2])

    def build(case):
        weight = case.signs(filters, per_group, *kernel)
        bits = case.bits(batch, per_group * attributes.groups, *size)
        integer = case.emit(ops.bconv2d(bits, weight, attributes))
        if kind == "integer":
            return integer
        value = case.scaled(integer)
        tested = case.positive(value)
        return {"float": value, "bits": tested, "both": relax.Tuple([value, tested])}[kind]

    return build


CASES = {f"geometry {number}": convolution(number) for number in range(COUNT)}


def test_equals_the_reference(grid, case, target, target_of):
    grid.check(case, target_of(target))
