"""Binary convolutions: every risk of packing, borders, groups and outputs, against the reference."""

from tvm import relax
from tvm.relax.op import add, concat, multiply, split, where
from tvm.relax.op.image import resize2d

from tvm_bnn import ops

CHANNELS = [1, 3, 31, 32, 33, 63, 64, 65, 100]
CASES = {}


def outputs(case, integer, kind):
    """float only, bits only, or both, behind a map per channel with negative and zero scales."""
    value = case.scaled(integer)
    return {"float": value, "bits": (bits := case.positive(value)), "both": relax.Tuple([value, bits])}[kind]


def conv(inputs, filters, kernel=(3, 3), out="both", size=(7, 13), batch=1, **attributes):
    """A case: a binary convolution, padded to keep its size unless told otherwise."""
    same = (kernel[0] // 2, kernel[1] // 2, kernel[0] // 2, kernel[1] // 2)
    geometry = ops.BConv2DAttrs(**{"padding": same, **attributes})

    def build(case):
        weight = case.signs(filters, inputs // geometry.groups, *kernel)
        return outputs(case, case.emit(ops.bconv2d(case.bits(batch, inputs, *size), weight, geometry)), out)

    return build


for index, filters in enumerate(CHANNELS):
    for offset, out in enumerate(("float", "bits", "both")):
        inputs = CHANNELS[(index + 3 * offset + 1) % len(CHANNELS)]
        CASES[f"channels {inputs}-{filters}, {out}"] = conv(inputs, filters, out=out)
for kernel in [(1, 1), (5, 5), (7, 7), (2, 2), (1, 3), (3, 1)]:
    CASES[f"kernel {kernel[0]}x{kernel[1]}"] = conv(33, 32, kernel)
for stride in [(2, 2), (3, 3), (1, 2)]:
    CASES[f"stride {stride[0]}x{stride[1]}"] = conv(33, 64, strides=stride)
    CASES[f"stride {stride[0]}x{stride[1]}, 1x1 kernel"] = conv(64, 32, (1, 1), strides=stride)
for dilation in (2, 4):
    CASES[f"dilation {dilation}"] = conv(64, 33, dilation=(dilation,) * 2, padding=(dilation,) * 4)
CASES["dilation 2x1, stride 2"] = conv(33, 32, dilation=(2, 1), strides=(2, 2), padding=(2, 1, 2, 1))
for groups, inputs, filters in [(2, 64, 64), (2, 128, 64), (2, 6, 4), (2, 34, 66), (4, 96, 8), (3, 99, 33), (33,) * 3]:
    CASES[f"groups {groups}, {inputs}-{filters}"] = conv(inputs, filters, groups=groups)
    CASES[f"groups {groups}, {inputs}-{filters}, no padding"] = conv(
        inputs, filters, groups=groups, padding=(0, 0, 0, 0), out="float"
    )
for value in (0, 1, -1):
    CASES[f"padding {value:+d}"] = conv(65, 33, pad_value=value)
    CASES[f"padding {value:+d}, whole words"] = conv(64, 64, pad_value=value)
    CASES[f"padding {value:+d}, asymmetric"] = conv(33, 33, pad_value=value, padding=(0, 2, 1, 0))
    CASES[f"padding {value:+d}, stride 2"] = conv(33, 32, pad_value=value, strides=(2, 2))
    CASES[f"padding {value:+d}, dilation 2"] = conv(3, 33, pad_value=value, dilation=(2, 2), padding=(2, 2, 2, 2))
    CASES[f"padding {value:+d}, wider than the map"] = conv(33, 3, pad_value=value, padding=(3,) * 4, size=(2, 2))
    CASES[f"padding {value:+d}, groups"] = conv(66, 64, pad_value=value, groups=2)
CASES["no padding"] = conv(33, 64, padding=(0, 0, 0, 0))
for size in [(1, 1), (1, 7), (5, 1), (4, 31), (3, 37), (2, 16)]:
    CASES[f"map {size[0]}x{size[1]}"] = conv(64, 64, size=size)
    CASES[f"map {size[0]}x{size[1]}, bits"] = conv(32, 96, size=size, out="bits")
    CASES[f"map {size[0]}x{size[1]}, 1x1 kernel"] = conv(65, 31, (1, 1), size=size)
CASES["batch 3"] = conv(33, 64, batch=3)
CASES["batch 3, stride 2, bits"] = conv(64, 33, batch=3, strides=(2, 2), out="bits")
CASES["many filters"] = conv(32, 256, (1, 1), out="both")
CASES["many channels"] = conv(512, 32, size=(3, 5))


def integer_result(case):
    return ops.bconv2d(case.bits(1, 33, 5, 7), case.signs(33, 33, 3, 3), ops.BConv2DAttrs())


def of_a_bool_argument(case):
    data = case.argument(1, 33, 5, 7, dtype="bool")
    return ops.bconv2d(data, case.signs(32, 33, 3, 3), ops.BConv2DAttrs(padding=(1, 1, 1, 1)))


def residual(case):
    integer = case.emit(ops.bconv2d(case.bits(2, 64, 7, 13), case.signs(64, 64, 3, 3), SAME))
    value = case.emit(add(case.scaled(integer), case.argument(2, 64, 7, 13)))
    return relax.Tuple([value, case.positive(value)])


def residual_of_bits(case):
    source = case.argument(1, 33, 7, 13)
    integer = case.emit(ops.bconv2d(case.positive(source), case.signs(33, 33, 3, 3), SAME))
    value = case.emit(add(case.scaled(integer), source))
    second = case.emit(ops.bconv2d(case.positive(value), case.signs(33, 33, 3, 3), SAME))
    return case.emit(add(case.scaled(second), value))


def prelu(case):
    integer = case.emit(ops.bconv2d(case.bits(1, 33, 7, 13), case.signs(65, 33, 3, 3), SAME))
    value = case.scaled(integer)
    negative = case.emit(multiply(value, case.constant(1, 65, 1, 1)))
    value = case.emit(where(case.positive(value), value, negative))
    return relax.Tuple([value, case.positive(case.emit(add(value, case.constant(1, 65, 1, 1))))])


def gated(case):
    integer = case.emit(ops.bconv2d(case.bits(1, 64, 7, 13), case.signs(64, 64, 3, 3), SAME))
    gate = case.emit(relax.op.sigmoid(case.argument(1, 64, 1, 1)))
    return case.positive(case.emit(multiply(case.scaled(integer), gate)))


def border_table(case):
    integer = case.emit(ops.bconv2d(case.bits(1, 33, 5, 7), case.signs(33, 33, 3, 3), SAME))
    table = case.emit(ops.border_bias(case.constant(33, 3, 2), [0, 1, 1, 1, 2], [0, 1, 1, 1, 1, 1, 0]))
    return case.emit(add(case.scaled(integer), table))


def chain(case):
    data = case.bits(1, 65, 9, 11)
    for inputs, filters in ((65, 96), (96, 33), (33, 64)):
        integer = case.emit(ops.bconv2d(data, case.signs(filters, inputs, 3, 3), SAME))
        data = case.positive(case.scaled(integer))
    return data


def two_readers(case):
    data = case.bits(1, 64, 7, 13)
    results = [ops.bconv2d(data, case.signs(32, 64, 3, 3), SAME), ops.bconv2d(data, case.signs(64, 64, 1, 1), NONE)]
    return relax.Tuple([case.emit(result) for result in results])


SAME, NONE = ops.BConv2DAttrs(padding=(1, 1, 1, 1)), ops.BConv2DAttrs()
CASES.update(
    {
        "integer result": integer_result,
        "bool argument": of_a_bool_argument,
        "residual": residual,
        "residual of the bits' source": residual_of_bits,
        "PReLU": prelu,
        "gate": gated,
        "border table": border_table,
        "chain of bits": chain,
        "two readers": two_readers,
    }
)


def through(view, channels):
    """A case: a convolution of a rearrangement of bits."""

    def build(case):
        bits = view(case)
        geometry = ops.BConv2DAttrs(padding=(1, 1, 1, 1))
        return case.emit(ops.bconv2d(bits, case.signs(33, channels, 3, 3), geometry))

    return build


def nearest(size, channels=33):
    def view(case):
        return case.emit(
            resize2d(
                case.bits(1, channels, 7, 13),
                size,
                layout="NCHW",
                method="nearest_neighbor",
                coordinate_transformation_mode="asymmetric",
                rounding_method="floor",
            )
        )

    return view


def joined(*widths):
    return lambda case: case.emit(concat([case.bits(1, width, 7, 13) for width in widths], 1))


def piece(widths, index):
    cuts = [sum(widths[: i + 1]) for i in range(len(widths) - 1)]
    return lambda case: case.part(split(case.bits(1, sum(widths), 7, 13), cuts, 1), index)


def pooled(case):
    return case.emit(relax.op.nn.max_pool2d(case.bits(1, 33, 7, 13), (3, 3), strides=(2, 2), padding=(1, 1)))


VIEWS = {
    "nearest x2": (nearest((14, 26)), 33),
    "nearest x2, whole words": (nearest((14, 26), 64), 64),
    "nearest x3": (nearest((21, 39)), 33),
    "nearest 7x13 to 9x17": (nearest((9, 17)), 33),
    "concat of whole words": (joined(32, 64), 96),
    "concat that straddles words": (joined(33, 3, 31), 67),
    "split at whole words": (piece([32, 64], 1), 64),
    "split that straddles words": (piece([33, 5, 31], 1), 5),
    "permute": (lambda case: case.emit(relax.op.permute_dims(case.bits(1, 33, 7, 13), (0, 1, 3, 2))), 33),
    "slice": (lambda c: c.emit(relax.op.strided_slice(c.bits(1, 40, 7, 13), [1, 2], [3, 1], [36, 7], [1, 2])), 33),
    "reshape": (lambda case: case.emit(relax.op.reshape(case.bits(1, 66, 7, 13), (1, 33, 14, 13))), 33),
    "max-pool": (pooled, 33),
    "nearest of a concat": (
        lambda c: c.emit(
            resize2d(
                joined(33, 31)(c),
                (14, 26),
                layout="NCHW",
                method="nearest_neighbor",
                coordinate_transformation_mode="asymmetric",
                rounding_method="floor",
            )
        ),
        64,
    ),
}
CASES.update({f"through {name}": through(view, channels) for name, (view, channels) in VIEWS.items()})


def test_equals_the_reference(grid, case, target, target_of):
    grid.check(case, target_of(target))
