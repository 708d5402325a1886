"""Elementwise chains, rearrangements, layouts and results of every kind, against the reference."""

import itertools

import numpy as np
from tvm import relax
from tvm.relax import op
from tvm.relax.op import add, concat, multiply

CASES = {}
FILLINGS = [("normal", "normal")]  # the reference takes its time
SHAPE = (2, 33, 7, 13)


def chain(*operators, shape=SHAPE):
    """A case: unary operators one after the other."""

    def build(case):
        value = case.argument(*shape)
        for operator in operators:
            value = case.emit(operator(value))
        return value

    return build


def number(value):
    return relax.const(np.float32(value))


FUNCTIONS = {
    "exp": [op.exp],
    "sigmoid": [op.sigmoid],
    "tanh": [op.tanh],
    "erf": [op.erf],
    "log": [op.abs, op.log],
    "silu": [op.nn.silu],
    "sqrt": [op.abs, op.sqrt],
    "rsqrt": [op.abs, op.rsqrt],
    "square": [op.square],
    "power 2": [lambda x: op.power(x, number(2))],
    "round": [lambda x: multiply(x, number(3)), op.round],
    "floor, ceil": [lambda x: multiply(x, number(3)), op.floor, op.ceil],
    "sign": [op.sign],
    "relu": [op.nn.relu],
    "leaky relu": [lambda x: op.nn.leakyrelu(x, 0.1)],
    "clip": [lambda x: op.clip(x, -0.5, 0.75)],
    "negative": [op.negative],
    "multiply, add": [lambda x: multiply(x, number(1.3)), lambda x: add(x, number(0.7))],
    "a long chain": [
        lambda x: multiply(x, number(1.3)), lambda x: add(x, number(0.7)), op.exp, op.negative, op.sigmoid,
        lambda x: op.subtract(x, number(0.3)), lambda x: op.divide(x, number(0.7)), op.abs,
        lambda x: op.maximum(x, number(0.1)), lambda x: op.minimum(number(0.2), x),
    ],
    "to int32 and back": [lambda x: op.astype(x, "int32"), lambda x: op.astype(x, "float32")],
    "to int64": [lambda x: op.astype(x, "int64")],
    "to bool": [op.nn.relu, lambda x: op.astype(x, "bool")],
    "a comparison": [lambda x: op.greater(x, number(0.5))],
    "a comparison to float": [lambda x: op.less_equal(x, number(0.5)), lambda x: op.astype(x, "float32")],
    "not": [lambda x: op.less(x, number(0.5)), op.logical_not],
    "integer division": [
        lambda x: op.astype(multiply(x, number(50)), "int32"),
        lambda x: op.floor_divide(x, relax.const(7, "int32")),
    ],
    "integer remainder": [
        lambda x: op.astype(multiply(x, number(50)), "int32"),
        lambda x: op.floor_mod(x, relax.const(7, "int32")),
    ],
}  # fmt: skip
CASES.update({name: chain(*operators) for name, operators in FUNCTIONS.items()})
for rank, shape in enumerate([(), (33,), (5, 33), (3, 5, 33), SHAPE, (2, 3, 4, 5, 6)]):
    CASES[f"rank {rank}"] = chain(op.sigmoid, shape=shape)
    CASES[f"rank {rank}, bits"] = chain(lambda x: op.greater(x, number(0.5)), shape=shape)
for channels in (1, 2, 3, 4, 5, 31, 32, 65):
    CASES[f"{channels} channels"] = chain(op.exp, shape=(1, channels, 3, 7))
    CASES[f"{channels} channels, bits"] = chain(lambda x: op.greater(x, number(0.5)), shape=(1, channels, 3, 7))


def bits_of_planes(*shape):
    """Bits of arguments in PyTorch's layout: of two, with a threshold a channel, and of one."""

    def build(case):
        x, y = case.argument(*shape), case.argument(*shape)
        threshold = case.argument(1, shape[1], 1, 1)
        return relax.Tuple([case.emit(op.greater(add(x, y), threshold)), case.positive(x)])

    return build


for channels, width in itertools.product((1, 3, 31, 64, 65), (16, 20, 48)):
    CASES[f"bits of {channels} planes, {width} wide"] = bits_of_planes(2, channels, 3, width)
for shape in [(1, 33, 1, 16), (1, 32, 1, 1000), (3, 40, 5, 8), (1, 64, 16, 3)]:
    CASES[f"bits of planes {shape}"] = bits_of_planes(*shape)

VIEWS = {
    "reshape": lambda x: op.reshape(x, (2, 33 * 7, 13)),
    "flatten": lambda x: op.reshape(x, (2, -1)),
    "reshape, another width": lambda x: op.reshape(x, (2, 11, 21, 13)),
    "expand and squeeze": lambda x: op.squeeze(op.expand_dims(op.strided_slice(x, [2], [0], [1]), 1), [3]),
    "channels last": lambda x: op.permute_dims(x, (0, 2, 3, 1)),
    "transpose": lambda x: op.permute_dims(x, (0, 1, 3, 2)),
    "reversed axes": lambda x: op.permute_dims(x),
    "axes from the end": lambda x: op.permute_dims(x, (-2, -1, 0, 1)),
    "slice with steps": lambda x: op.strided_slice(x, [2, 3], [1, 2], [6, 13], [2, 3]),
    "slice of channels": lambda x: op.strided_slice(x, [1], [5], [30]),
    "slice from the end": lambda x: op.strided_slice(x, [1], [-3], [33]),
    "slice backwards": lambda x: op.strided_slice(x, [2], [-1], [-8], [-1]),
    "picks": lambda x: op.take(x, relax.const(np.array([3, 1, 1])), axis=1),
    "picks from the end": lambda x: op.take(x, relax.const(np.array([3, 1, 1])), axis=-1),
    "one pick": lambda x: op.take(x, relax.const(np.int64(3)), axis=2),
    "a table of picks": lambda x: op.take(x, relax.const(np.array([[3, 1, 1]])), axis=1),
    "picks of a flat tensor": lambda x: op.take(op.reshape(x, (-1,)), relax.const(np.array([3, 1, 1]))),
    "picks behind an offset": lambda x: op.take(
        op.strided_slice(x, [1], [4], [33]), relax.const(np.array([19, 0, 7, 28])), axis=1
    ),
    "tile": lambda x: op.tile(x, (1, 2, 1, 3)),
    "flip": lambda x: op.flip(x, 2),
    "pad": lambda x: op.nn.pad(x, (0, 0, 1, 2, 1, 0, 0, 3), pad_value=1.5),
    "broadcast": lambda x: op.broadcast_to(op.strided_slice(x, [1], [0], [1]), (2, 40, 7, 13)),
    "repeat": lambda x: op.repeat(x, 2, 1),
    "concat of channels": lambda x: concat([x, x, op.strided_slice(x, [1], [0], [31])], 1),
    "concat of images": lambda x: concat([x, x], 0),
    "concat of columns": lambda x: concat([x, x], -1),
    "split": lambda x: op.add(*(relax.TupleGetItem(op.split(x, [11, 22], 1), i) for i in (1, 2))),
}
for name, view in VIEWS.items():
    CASES[f"{name}"] = chain(view)
    CASES[f"{name}, between operators"] = chain(op.sigmoid, view, op.negative)


def two(function, first=SHAPE, second=SHAPE):
    return lambda case: case.emit(function(case.argument(*first), case.argument(*second)))


CASES.update(
    {
        "two maps": two(op.subtract),
        "a choice": two(lambda x, y: op.where(op.greater(x, y), x, y)),
        "maximum": two(op.maximum),
        "a gate per channel": two(lambda x, y: multiply(x, op.sigmoid(y)), second=(2, 33, 1, 1)),
        "a mask per pixel": two(multiply, second=(2, 1, 7, 13)),
        "a row": two(op.add, second=(13,)),
        "an outer product": two(multiply, (33, 1), (1, 13)),
        "a lower rank": two(op.add, second=(33, 1, 1)),
        "logic": two(
            lambda x, y: op.logical_xor(
                op.logical_and(op.greater(x, y), op.greater(x, number(0))),
                op.logical_or(op.greater(x, y), op.greater(y, number(0))),
            )
        ),
    }
)


def not_contracted(case):
    """A product that is added rounds twice, although the target has a fused multiply-add."""
    x, y = case.argument(*SHAPE), case.argument(*SHAPE)
    return add(case.emit(multiply(x, y)), case.argument(*SHAPE))


def affine_of_an_integer(case):
    return case.scaled(case.emit(op.astype(multiply(case.argument(*SHAPE), number(100)), "int32")))


def special_values(case):
    values = np.array([0.0, -0.0, np.inf, -np.inf, 1e-40, -1e-40, 3e38, 1.0], np.float32)
    x = case.argument(data=np.resize(values, (1, 40, 2, 4)).astype(np.float32))
    y = case.argument(data=np.resize(values[::-1], (1, 40, 2, 4)).astype(np.float32))
    comparisons = op.greater_equal(x, number(0)), op.equal(x, y)
    values = op.sigmoid(x), op.tanh(x), op.exp(x), add(x, x)
    return relax.Tuple([case.emit(value) for value in (*comparisons, *values)])


def results(case):
    x = case.argument(*SHAPE)
    value = case.emit(op.exp(x))
    view = case.emit(op.reshape(value, (2, -1)))
    return relax.Tuple([x, value, view, case.positive(value), value, case.constant(3, 4), x])


def view_of_an_argument(case):
    return op.permute_dims(case.argument(*SHAPE), (0, 2, 3, 1))


CASES.update(
    {
        "not contracted": not_contracted,
        "affine of an integer": affine_of_an_integer,
        "special values": special_values,
        "arguments, constants, views and copies as results": results,
        "a view of an argument": view_of_an_argument,
        "a bool argument": lambda case: op.logical_not(case.argument(*SHAPE, dtype="bool")),
        "a bool argument as number": lambda case: op.astype(case.argument(*SHAPE, dtype="bool"), "float32"),
        "an argument as it is": lambda case: case.argument(*SHAPE),
    }
)


def thresholds(channels, last=True, width=7):
    """A case: bits of one map behind three thresholds; its channels are last, or as PyTorch has them."""

    def build(case):
        shape = (2, 5, width, channels) if last else (2, channels, 5, width)
        data = case.argument(*shape)
        data = case.emit(op.permute_dims(data, (0, 3, 1, 2))) if last else data
        shifted = [case.emit(op.subtract(data, case.constant(1, channels, 1, 1))) for _ in range(3)]
        return relax.Tuple([case.positive(each) for each in shifted])

    return build


for channels in (64, 40, 3):
    CASES[f"thresholds of {channels} channels"] = thresholds(channels)
CASES["thresholds, channels apart"] = thresholds(64, last=False, width=16)
CASES["thresholds, channels apart, short rows"] = thresholds(64, last=False)


def test_equals_the_reference(grid, case, target, target_of):
    grid.check(case, target_of(target))
