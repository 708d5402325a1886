"""Products of two activations' bits, integer tests, padding that crops: against the reference."""

import numpy as np
from tvm import relax
from tvm.relax.op import add, astype, concat, less_equal, multiply, permute_dims, reshape

from tvm_bnn import ops

CASES = {}


def product(length, rows, columns, batch=1, out="float"):
    """A case: [batch, rows, length] x [batch, length, columns]."""

    def build(case):
        left, right = case.bits(batch, length, 1, rows), case.bits(batch, length, 1, columns)
        integer = case.emit(ops.bmatmul(left, right))
        value = case.scaled(integer)
        return {"integer": integer, "float": value, "bits": case.positive(value)}[out]

    return build


for length, rows, columns in [
    (64, 7, 64),
    (1, 5, 3),
    (33, 13, 33),
    (31, 1, 31),
    (65, 6, 100),
    (32, 4, 1),
    (100, 3, 32),
]:
    for out in ("integer", "float", "bits"):
        CASES[f"{rows}x{length}x{columns}, {out}"] = product(length, rows, columns, out=out)
CASES["batch 3"] = product(33, 5, 40, batch=3)
CASES["batch 3, bits"] = product(33, 5, 40, batch=3, out="bits")


def long_sum(agree):
    """A case: sums that neither 8 nor 16 bits hold, all terms +1 or all -1."""

    def build(case):
        length = 2**16 + 33
        left = case.positive(case.argument(1, length, 1, 2, data=np.ones((1, length, 1, 2), np.float32)))
        data = np.full((1, length, 1, 3), 1 if agree else -1, np.float32)
        return case.emit(ops.bmatmul(left, case.positive(case.argument(1, length, 1, 3, data=data))))

    return build


CASES["sums beyond 16 bits"] = long_sum(True)
CASES["sums beyond -16 bits"] = long_sum(False)


def attention(width):
    """A case: scores, their threshold, and the sum of the chosen values, as an importer writes them."""
    tokens, heads = 12, 2

    def columns(case, bits, length, count):
        return case.emit(reshape(bits, (heads, length, 1, count)))

    def swapped(case, bits):
        return case.emit(permute_dims(bits, (0, 1, 3, 2)))

    def build(case):
        query, key, value = (case.bits(1, heads, tokens, width) for _ in range(3))
        left, right = (columns(case, swapped(case, bits), width, tokens) for bits in (query, key))
        scores = case.emit(ops.bmatmul(left, right))
        chosen = case.positive(case.emit(astype(scores, "float32")))  # [heads, keys, 1, queries]
        mixed = case.scaled(case.emit(ops.bmatmul(chosen, columns(case, value, tokens, width))))
        return relax.Tuple([mixed, case.positive(mixed)])

    return build


def planes(case):
    """Two planes that count 1 and 2."""
    data = case.bits(1, 33, 5, 7), case.bits(1, 33, 5, 7)
    weight = case.signs(40, 33, 3, 3)
    sums = [case.emit(ops.bconv2d(bits, weight, ops.BConv2DAttrs(padding=(1, 1, 1, 1)))) for bits in data]
    total = case.emit(add(sums[0], case.emit(multiply(sums[1], relax.const(2, "int32")))))
    return relax.Tuple([case.scaled(total), total])


def stacked(case):
    data = case.emit(concat([case.bits(1, 33, 5, 7), case.bits(1, 33, 5, 7)], 1))
    return case.scaled(case.emit(ops.bconv2d(data, case.signs(40, 66, 3, 3), ops.BConv2DAttrs())))


CASES.update({f"attention of {width}": attention(width) for width in (33, 40, 64)})  # one for each target in rotation
CASES.update({"planes": planes, "stacked planes": stacked})

#: lowest and span of an integer test: threshold either way, interval, all but an interval, always, never.
TESTS = {
    "at least": (5, 2**31 - 1),
    "at most": (-(2**31), 5 + 2**31),
    "between": (-3, 9),
    "outside": (7, 2**32 - 13),
    "always": (0, 2**32 - 1),
    "never": (10**6, 0),
}


def decided(tables, padding=1):
    """A case: bits of a convolution by integer tests, one of TESTS a filter in turn; tables: one a border class."""

    def build(case):
        geometry = ops.BConv2DAttrs(padding=(padding,) * 4)
        integer = case.emit(ops.bconv2d(case.bits(1, 33, 6, 6), case.signs(40, 33, 3, 3), geometry))
        pairs = np.array([list(TESTS.values())[i % len(TESTS)] for i in range(40)])
        lowest, span = pairs[:, 0].astype(np.int32), pairs[:, 1].astype(np.uint32)
        if tables:
            size = 6 + 2 * padding - 2
            classes = [0] + [1] * (size - 2) + [2]
            spread = np.arange(9, dtype=np.int32).reshape(1, 3, 3)
            shifted = (lowest[:, None, None] // 2 + spread).astype(np.int32)
            spans = np.broadcast_to(span[:, None, None], shifted.shape).copy()
            constants = [case.emit(ops.border_bias(relax.const(t), classes, classes)) for t in (shifted, spans)]
        else:
            constants = [relax.const(values.reshape(1, -1, 1, 1)) for values in (lowest, span)]
        bits = case.emit(ops.interval(integer, *constants))
        return relax.Tuple([bits, case.emit(ops.bconv2d(bits, case.signs(32, 40, 1, 1), ops.BConv2DAttrs()))])

    return build


CASES["integer tests"] = decided(False)
CASES["integer tests a border class"] = decided(True)
CASES["integer tests, no padding"] = decided(False, 0)


def cropped(padding, value):
    """A case: negative padding leaves rows and columns of the input unread."""

    def build(case):
        geometry = ops.BConv2DAttrs(padding=padding, pad_value=value)
        return case.scaled(case.emit(ops.bconv2d(case.bits(1, 33, 7, 9), case.signs(40, 33, 2, 2), geometry)))

    return build


for padding in [(-1, 0, 0, 0), (0, -1, 1, 1), (-2, -1, 0, -3), (1, -1, -1, 2)]:
    for value in (0, 1, -1):
        CASES[f"padding {padding}, {value:+d}"] = cropped(padding, value)


def of_other_comparisons(case):
    data = case.argument(1, 33, 5, 7)
    return ops.bconv2d(
        case.emit(less_equal(data, case.constant(1, 33, 1, 1))), case.signs(8, 33, 3, 3), ops.BConv2DAttrs()
    )


CASES["less or equal"] = of_other_comparisons


def logic(kind, channels=33):
    """A case: logic on bits, read by a convolution, as a result, and by max-pooling."""

    def build(case):
        a, b = case.bits(2, channels, 6, 7), case.bits(2, channels, 6, 7)
        bits = case.emit(relax.op.logical_not(a) if kind == "not" else getattr(relax.op, f"logical_{kind}")(a, b))
        pooled = case.emit(relax.op.nn.max_pool2d(bits, (3, 2), strides=(2, 1), padding=(1, 1)))
        convolved = case.emit(ops.bconv2d(bits, case.signs(32, channels, 3, 3), ops.BConv2DAttrs()))
        after = case.emit(ops.bconv2d(pooled, case.signs(8, channels, 1, 1), ops.BConv2DAttrs()))
        return relax.Tuple([convolved, after, bits, case.emit(relax.op.logical_not(pooled))])

    return build


for kind in ("and", "or", "xor", "not"):
    for channels in (3, 33, 64):
        CASES[f"logical {kind}, {channels} channels"] = logic(kind, channels)


def masked(case):
    """A mask a channel, as bits, on every pixel's bits."""
    mask = case.positive(case.argument(2, 40, 1, 1))
    bits = case.emit(relax.op.logical_and(case.bits(2, 40, 5, 6), mask))
    return case.emit(ops.bconv2d(bits, case.signs(32, 40, 3, 3), ops.BConv2DAttrs()))


CASES["a mask a channel"] = masked


def sum_of_convolutions(count, channels, filters, shared, geometry=None):
    """A case: branches that one epilogue adds up; their float results are never stored."""
    geometry = geometry or ops.BConv2DAttrs(padding=(1, 1, 1, 1))

    def build(case):
        data = case.argument(1, channels, 6, 10)
        bits = [case.positive(data)] * count
        if not shared:
            shifts = [relax.const(np.float32(k) / 8) for k in range(count)]
            bits = [case.emit(relax.op.greater_equal(data, shift)) for shift in shifts]
        total = None
        for part in bits:
            integer = case.emit(ops.bconv2d(part, case.signs(filters, channels, 3, 3), geometry))
            value = case.emit(relax.op.nn.relu(case.scaled(integer)))
            total = value if total is None else case.emit(add(total, value))
        residual = case.emit(add(total, case.emit(relax.op.sigmoid(total))))
        return relax.Tuple([residual, case.positive(total)])

    return build


for count, channels, filters, shared in [(2, 33, 64, True), (3, 64, 40, False), (5, 3, 96, True), (3, 64, 3, False)]:
    CASES[f"sum of {count}, {channels}-{filters}"] = sum_of_convolutions(count, channels, filters, shared)
CASES["sum of 2, stride 2"] = sum_of_convolutions(
    2, 33, 64, False, ops.BConv2DAttrs(padding=(1, 1, 1, 1), strides=(2, 2), pad_value=1)
)
CASES["sum of 2, dilation 2"] = sum_of_convolutions(
    2, 40, 64, True, ops.BConv2DAttrs(padding=(2, 2, 2, 2), dilation=(2, 2))
)


def test_equals_the_reference(grid, case, target, target_of):
    grid.check(case, target_of(target))
