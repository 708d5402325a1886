"""Pooling, reductions, argmax, softmax and resizing, against the reference: the same order of sums."""

import numpy as np
from tvm import relax
from tvm.relax.op import argmax, argmin
from tvm.relax.op.image import resize2d
from tvm.relax.op.nn import adaptive_avg_pool2d, avg_pool2d, conv2d, max_pool2d, relu, softmax

# Sums of products are fused steps, so the processor must have them.
TARGETS = ["avx512", "avx2", "generic with fma"]
CASES = {}
FILLINGS = [("normal", "normal")]  # the reference takes its time
SHAPE = (2, 33, 7, 13)


def of(operator, shape=SHAPE, stored=False, bits=False):
    """A case: one operator of an argument, of a stored map, or of bits."""

    def build(case):
        data = case.argument(*shape)
        if stored:
            data = case.emit(relu(case.emit(conv2d(data, case.constant(shape[1], shape[1], 1, 1)))))
        return case.emit(operator(case.positive(data) if bits else data))

    return build


for name, attributes in {
    "stride 1": {},
    "stride 2": {"strides": 2},
    "padding": {"strides": 2, "padding": 1},
    "asymmetric padding": {"padding": (0, 1, 2, 1)},
    "ceil": {"strides": 2, "ceil_mode": True},
}.items():
    CASES[f"max-pool, {name}"] = of(lambda x, a=attributes: max_pool2d(x, (3, 3), **a))
    CASES[f"max-pool of bits, {name}"] = of(lambda x, a=attributes: max_pool2d(x, (3, 3), **a), bits=True)
    CASES[f"average, {name}"] = of(lambda x, a=attributes: avg_pool2d(x, (3, 3), **a), stored=True)
    CASES[f"average with the padding, {name}"] = of(
        lambda x, a=attributes: avg_pool2d(x, (3, 2), count_include_pad=True, **a)
    )
CASES["max-pool, dilation 2"] = of(lambda x: max_pool2d(x, (3, 3), dilation=2))
for size, shape in [((1, 1), SHAPE), ((2, 3), (2, 33, 6, 9)), ((7, 13), SHAPE)]:
    CASES[f"adaptive to {size[0]}x{size[1]}"] = of(lambda x, s=size: adaptive_avg_pool2d(x, s), shape)
for kind in ("mean", "sum", "max", "min"):
    for index, axes in enumerate([[2, 3], [1], [0], [3], [1, 2, 3], [0, 2], None]):
        keep = (index + len(kind)) % 2 == 0
        reduce = getattr(relax.op, kind)
        CASES[f"{kind} over {axes}, keepdims={keep}"] = of(
            lambda x, r=reduce, a=axes, k=keep: r(x, a, k), stored=index % 3 == 0
        )
    CASES[f"{kind} of rank 2"] = of(lambda x, r=getattr(relax.op, kind): r(x, [1]), (3, 33))
    CASES[f"{kind} of rank 3"] = of(lambda x, r=getattr(relax.op, kind): r(x, [1], True), (3, 5, 33))
    CASES[f"{kind} of rank 5"] = of(lambda x, r=getattr(relax.op, kind): r(x, [1]), (2, 3, 5, 7, 2))


def ties(axis):
    """Values of few levels: the first of equal maxima counts."""

    def build(case):
        data = case.argument(data=case.rng.integers(-2, 2, (2, 5, 7, 13)).astype(np.float32))
        return argmax(data, axis)

    return build


for axis in (0, 1, 2, -1):
    CASES[f"argmax over {axis}"] = of(lambda x, a=axis: argmax(x, a))
    CASES[f"argmax over {axis}, keepdims"] = of(lambda x, a=axis: argmax(x, a, keepdims=True), stored=True)
    CASES[f"argmax over {axis}, ties"] = ties(axis)
    CASES[f"softmax over {axis}"] = of(lambda x, a=axis: softmax(x, a), stored=axis == 1)
CASES["softmax of rank 2"] = of(lambda x: softmax(x, -1), (3, 33))
CASES["softmax of rank 3"] = of(lambda x: softmax(x, -1), (2, 5, 33))


def linear(size, mode):
    return lambda x: resize2d(
        x, size, layout="NCHW", method="linear", coordinate_transformation_mode=mode
    )


def nearest(size):
    return lambda x: resize2d(
        x,
        size,
        layout="NCHW",
        method="nearest_neighbor",
        coordinate_transformation_mode="asymmetric",
        rounding_method="floor",
    )


def sign_of_resized(size, mode):
    def build(case):
        value = case.emit(linear(size, mode)(case.argument(1, 65, 7, 13)))
        return relax.Tuple([value, case.positive(value)])

    return build


def thresholds_of_resized(size, mode):
    """Branches with thresholds of their own behind one resize."""

    def build(case):
        value = case.emit(linear(size, mode)(case.argument(1, 65, 7, 13)))
        return relax.Tuple([case.positive(case.scaled(value)) for _ in range(3)])

    return build


def class_map(classes, size, mode, after=lambda case, x: x):
    def build(case):
        logits = conv2d(case.emit(relu(case.argument(2, 33, 7, 13))), case.constant(classes, 33, 1, 1))
        return after(case, case.emit(argmax(case.emit(linear(size, mode)(case.emit(logits))), 1)))

    return build


def stored_logits(size, result, data=lambda case: None):
    """The class map of an argument that lies in memory as it is."""

    def build(case):
        given = data(case)
        given = case.argument(2, 19, *size) if given is None else case.argument(data=given)
        return argmax(case.emit(linear(result, "half_pixel")(given)), 1)

    return build


for mode in ("half_pixel", "align_corners"):
    for size in [(14, 26), (13, 31), (7, 13), (1, 1), (3, 50), (28, 52)]:
        CASES[f"bilinear {mode} to {size[0]}x{size[1]}"] = of(linear(size, mode), stored=size[0] % 2 == 0)
        CASES[f"bilinear {mode} to {size[0]}x{size[1]}, then a sign"] = sign_of_resized(size, mode)
        CASES[f"bilinear {mode} to {size[0]}x{size[1]}, then signs"] = thresholds_of_resized(size, mode)
    for classes in (1, 2, 5, 19, 33, 64, 65):
        CASES[f"class map of {classes}, {mode}"] = class_map(classes, (14, 26), mode)
for size in [(7, 13), (7, 39), (9, 52), (28, 26), (3, 65), (10, 104), (7, 117)]:  # 1 to 9 times as wide
    CASES[f"class map of {size[0]}x{size[1]}"] = class_map(19, size, "half_pixel")
for width in (1, 3, 4, 9, 16, 40):
    CASES[f"class map, {width} columns twice as wide"] = stored_logits((1, width), (5, 2 * width))


def special(numbers):
    """Logits of few levels, some of them special numbers."""

    def build(case):
        data = case.rng.integers(-2, 3, (2, 19, 9, 21)).astype(np.float32)
        where = case.rng.random(data.shape) < 0.02
        return np.where(where, case.rng.choice(np.array(numbers, np.float32), data.shape), data)

    return build


for size in [(18, 42), (9, 84), (17, 40)]:
    for name, numbers in {
        "zeros of both signs": [0.0, -0.0],
        "NaN": [np.nan, np.uint32(0xFFC00000).view(np.float32)],
        "infinities": [np.inf, -np.inf],
        "infinities and NaN": [np.inf, -np.inf, np.nan],
    }.items():
        CASES[f"class map of {size[0]}x{size[1]} with {name}"] = stored_logits((9, 21), size, special(numbers))
CASES["class map, odd size"] = class_map(19, (13, 31), "half_pixel")
CASES["class map, then a comparison"] = class_map(
    19, (14, 26), "half_pixel", lambda case, x: relax.op.equal(x, relax.const(3, "int64"))
)
CASES["class map, then a cast"] = class_map(
    19, (14, 26), "half_pixel", lambda case, x: relax.op.astype(x, "float32")
)
CASES["class map of an argument"] = lambda case: argmax(
    case.emit(linear((14, 26), "half_pixel")(case.argument(1, 19, 7, 13))), 1
)
for size in [(14, 26), (9, 17), (3, 5), (21, 13)]:
    CASES[f"nearest to {size[0]}x{size[1]}"] = of(nearest(size), stored=True)


def with_nan(operator, channels=5):
    """NaN in the first channel, between, in the last, in several and in none, a row of each."""

    def build(case):
        data = case.rng.integers(-2, 3, (2, channels, 5, 16)).astype(np.float32)
        for row, places in enumerate([[0], [channels // 2], [-1], [1, -1]]):
            data[:, places, row, ::3] = np.nan
        return case.emit(operator(case.argument(data=data)))

    return build


def resized_argmax(x):
    return argmax(relax.BlockBuilder.current().emit(linear((10, 32), "half_pixel")(x)), 1)


CASES["argmax with NaN"] = with_nan(lambda x: argmax(x, 1))
CASES["argmin with NaN, keepdims"] = with_nan(lambda x: argmin(x, 1, keepdims=True))
CASES["argmax over all, with NaN"] = with_nan(argmax)
CASES["class map of 3 with NaN"] = with_nan(resized_argmax, 3)


def test_equals_the_reference(grid, case, target, target_of):
    grid.check(case, target_of(target))
