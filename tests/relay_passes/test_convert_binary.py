"""ConvertBinary: proven pairs become bnn.bconv2d and compute what they computed; the others say why they stay."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import tvm
from tvm import relax

from tvm_bnn import ops
from tvm_bnn.reference import evaluate
from tvm_bnn.relay_passes.convert_binary import ConvertBinary, Decisions, border_classes, border_sums, sign_weight
from tvm_bnn.relay_passes.fold_constants import FoldConstants

SHAPE = (2, 6, 7, 9)


def signs(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.where(torch.randn(shape, generator=torch.Generator().manual_seed(seed)) >= 0, 1.0, -1.0)


# made before any model is traced: a generator of random numbers cannot be exported
W, SQUARE, DEPTHWISE, TRANSPOSED = signs(5, 6, 3, 3), signs(4, 9), signs(6, 1, 3, 3), signs(6, 5, 3, 2)
BATCHED = signs(5, 6, 9, 4)


def binary(x):
    return torch.where(x >= 0, 1.0, -1.0)


@pytest.fixture
def convert(imported, run):
    """Call with (function, *example inputs): the module before, after, and the record of decisions."""

    def converted(function, *inputs: torch.Tensor, sign_zero: str = "plus"):
        decisions = Decisions()
        before = run(imported(function, *inputs), FoldConstants())
        return before, run(before, ConvertBinary(decisions, sign_zero)), decisions

    return converted


def only(decisions: Decisions):
    (layer,) = decisions.layers
    return layer


# --- alphabets ------------------------------------------------------------------------------------------------------

# All levels are short binary fractions, so float32 sums are exact and the two modules agree bit for bit.
ALPHABETS = {
    "where": binary,
    "where, > and swapped levels": lambda x: torch.where(x > 0, -1.0, 1.0),
    "two levels": lambda x: torch.where(x >= 0.25, 2.5, -0.5),
    "{0, 1} by cast": lambda x: (x > 0).float(),
    "{0, a}": lambda x: (x > 0).float() * 0.75,
    "cast, * 2, - 1": lambda x: (x >= 0).float() * 2 - 1,
    "c - x": lambda x: 1.5 - (x >= 0).float(),
    "relu of a sign": lambda x: F.relu(binary(x)),
    "sign of two levels": lambda x: torch.sign(torch.where(x >= 0, 3.0, -2.0)),
    "clip": lambda x: torch.clamp(torch.where(x >= 0, 3.0, -2.0), -0.5, 2),
    "negation": lambda x: -binary(x),
    "threshold a channel": lambda x: torch.where(x >= torch.linspace(-1, 1, 6).reshape(1, 6, 1, 1), 1.0, -1.0),
    "max-pool": lambda x: F.max_pool2d(binary(x), 2),
    "padded max-pool of {0, 1}": lambda x: F.max_pool2d((x > 0).float(), 3, 1, 1),
    "reshape": lambda x: binary(x).reshape(2, 6, 9, 7),
    "reshape before the sign": lambda x: binary(x.reshape(2, 6, 9, 7)),
    "permute": lambda x: binary(x).permute(0, 1, 3, 2),
    "slice": lambda x: binary(x)[:, :, 1:, ::2],
    "pixel shuffle": lambda x: F.pixel_shuffle(binary(x[:, :, :6, :8]).reshape(2, 24, 3, 4), 2),
    "expand": lambda x: binary(x[:1]).expand(3, -1, -1, -1),
    "nearest x2": lambda x: F.interpolate(binary(x), scale_factor=2, mode="nearest"),
    "concat": lambda x: torch.cat([binary(x[:, :2]), torch.where(x[:, 2:] > 1, 1.0, -1.0)], 1),
    "concat of one tensor with itself": lambda x: torch.cat([binary(x[:, :3])] * 2, 1),
    "split": lambda x: torch.cat(torch.split(binary(x), [2, 4], 1)[::-1], 1),
    "chunks": lambda x: torch.cat(torch.chunk(binary(x), 3, 1)[::-1], 1),
    "padding by reflection": lambda x: F.pad(binary(x), (1, 1, 1, 1), mode="reflect"),
    "picked channels": lambda x: binary(x)[:, torch.tensor([5, 4, 3, 2, 1, 0])],
}


@pytest.mark.parametrize("alphabet", ALPHABETS.values(), ids=list(ALPHABETS))
def test_two_levels_are_proven(convert, agree, operators, alphabet):
    def function(x):
        levels = alphabet(x)
        return F.conv2d(levels, W * 0.5), F.conv2d(levels, W * 0.5, padding=1)

    before, after, decisions = convert(function, torch.zeros(SHAPE))
    assert [(layer.decision, layer.reason) for layer in decisions.layers] == [("binary", "")] * 2
    assert "bnn.bconv2d" in operators(after) and "relax.nn.conv2d" not in operators(after)
    agree(before, after)


def test_different_picks_of_one_tensor_stay_different(convert, agree):
    def function(x):
        bits = binary(x)
        picks = torch.tensor([0, 1, 2, 3, 4, 5]), torch.tensor([5, 0, 4, 1, 3, 2])
        return F.conv2d(bits[:, picks[0]], W) + 2 * F.conv2d(bits[:, picks[1]], W)

    before, after, decisions = convert(function, torch.zeros(SHAPE))
    assert [layer.decision for layer in decisions.layers] == ["binary"] * 2
    agree(before, after)


def test_different_splits_of_one_tensor_stay_different(convert, agree):
    def function(x):
        bits = binary(x)
        first, last = torch.split(bits, [4, 2], 1)[0], torch.split(bits, [2, 4], 1)[1]
        return F.conv2d(first, W[:, :4]) + 2 * F.conv2d(last, W[:, :4])

    before, after, decisions = convert(function, torch.zeros(SHAPE))
    assert [layer.decision for layer in decisions.layers] == ["binary"] * 2
    agree(before, after)


def test_shared_bits_are_compared_once(convert, agree, operators):
    def function(x):
        return F.conv2d(torch.sign(x), W) + F.conv2d(torch.sign(x), -W)

    before, after, _ = convert(function, torch.zeros(SHAPE))
    assert operators(after).count("relax.greater_equal") == 1
    agree(before, after)


# --- geometry -------------------------------------------------------------------------------------------------------

GEOMETRIES = {
    "1x1": ((1, 1), {}),
    "2x2": ((2, 2), {"padding": 1}),
    "1x3": ((1, 3), {"padding": (0, 1)}),
    "5x5": ((5, 5), {"padding": 2}),
    "stride 2": ((3, 3), {"padding": 1, "stride": 2}),
    "stride 3x1": ((3, 3), {"padding": 1, "stride": (3, 1)}),
    "dilation 2": ((3, 3), {"padding": 2, "dilation": 2}),
    "padding beyond the kernel": ((3, 3), {"padding": 4}),
    "groups": ((3, 3), {"padding": 1, "groups": 2}),
    "depthwise": ((3, 3), {"padding": 1, "groups": 6}),
}


@pytest.mark.parametrize(("kernel", "options"), GEOMETRIES.values(), ids=list(GEOMETRIES))
def test_zero_padding_is_exact_for_every_alphabet(convert, agree, kernel, options):
    weight = signs(6, 6 // options.get("groups", 1), *kernel)
    scaled = weight * torch.tensor([1, 0.5, 2, 0.25, 4, 8]).reshape(-1, 1, 1, 1)

    def function(x):
        alphabets = ("where", "two levels", "{0, a}", "c - x")
        return tuple(F.conv2d(ALPHABETS[alphabet](x), scaled, **options) for alphabet in alphabets)

    before, after, decisions = convert(function, torch.zeros(SHAPE))
    assert [layer.decision for layer in decisions.layers] == ["binary"] * 4
    agree(before, after)


@pytest.mark.parametrize("value", [1.0, -1.0, 0.0])
@pytest.mark.parametrize("widths", [(1, 1, 1, 1), (2, 0, 1, 3)], ids=str)
def test_a_pad_node_is_absorbed(convert, agree, operators, value, widths):
    def function(x):
        return F.conv2d(F.pad(binary(x), widths, value=value), W)

    before, after, decisions = convert(function, torch.zeros(SHAPE))
    assert only(decisions).decision == "binary"
    assert "relax.nn.pad" not in operators(after)
    agree(before, after)


def test_padding_with_a_level_that_float32_rounds(convert, agree, operators):
    def function(x):
        return F.conv2d(F.pad(torch.where(x > 0, 0.1, -0.1), (1, 1, 1, 1), value=0.1), W)

    before, after, decisions = convert(function, torch.zeros(SHAPE))
    assert only(decisions).decision == "binary"
    agree(before, after, relative=1e-6)


def test_padding_with_the_lower_level_zero_needs_no_table(convert, agree, operators):
    before, after, _ = convert(lambda x: F.conv2d((x > 0).float(), W, padding=1), torch.zeros(SHAPE))
    assert "bnn.border_bias" not in operators(after)
    agree(before, after)


def test_zero_padding_of_two_levels_needs_a_table(convert, agree, operators):
    before, after, _ = convert(lambda x: F.conv2d(ALPHABETS["two levels"](x), W, padding=1), torch.zeros(SHAPE))
    assert "bnn.border_bias" in operators(after)
    agree(before, after)


def test_the_module_that_is_expected(build, run):
    weight, x_shape = W.numpy() * np.float32(0.5), (1, 6, 5, 5)

    def before(x):
        bits = relax.op.greater_equal(x, relax.const(np.float32(0)))
        levels = relax.op.where(bits, relax.const(np.float32(3)), relax.const(np.float32(1)))
        return relax.op.nn.conv2d(levels, relax.const(weight), strides=2)

    def expected(x):
        bits = relax.op.greater_equal(x, relax.const(np.float32(0)))
        integer = ops.bconv2d(bits, relax.const(weight > 0), ops.BConv2DAttrs(strides=(2, 2)))
        scale = np.full((1, 5, 1, 1), 0.5, np.float32)
        offset = 2 * weight.sum((1, 2, 3)).reshape(1, 5, 1, 1)
        return ops.affine(integer, relax.const(scale), relax.const(offset))

    after = run(build(before, x_shape), ConvertBinary(Decisions()))
    tvm.ir.assert_structural_equal(after, build(expected, x_shape))


# --- linear layers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 33), (2, 3, 33), (33,)], ids=str)
@pytest.mark.parametrize("alphabet", ["where", "{0, 1} by cast", "two levels"])
def test_linear_layers(convert, agree, operators, shape, alphabet):
    weight = signs(7, 33) * 0.25
    before, after, decisions = convert(lambda x: F.linear(ALPHABETS[alphabet](x), weight), torch.zeros(shape))
    assert (only(decisions).op, only(decisions).decision) == ("linear", "binary")
    assert "relax.matmul" not in operators(after)
    agree(before, after)


# --- weights --------------------------------------------------------------------------------------------------------


def test_a_scale_per_filter_and_a_dead_filter(convert, agree):
    weight = W * torch.tensor([0.5, 2.0, 0.0, 0.125, 1.0]).reshape(-1, 1, 1, 1)
    before, after, decisions = convert(lambda x: F.conv2d(binary(x), weight, padding=1), torch.zeros(SHAPE))
    assert only(decisions).decision == "binary"
    agree(before, after)


def test_scales_that_are_no_binary_fractions(convert, agree):
    weight = W * torch.tensor([0.3, 0.7, 1.1, 0.01, 123.4]).reshape(-1, 1, 1, 1)
    before, after, _ = convert(lambda x: F.conv2d(binary(x), weight, padding=1), torch.zeros(SHAPE))
    # the float sum of 54 equal magnitudes rounds at each step, the integer sum not at all
    agree(before, after, relative=54 * 2.0**-24)


def test_sign_weight_splits_signs_and_magnitudes():
    split = sign_weight(np.array([[2, -2], [-0.5, 0.5], [0, 0]], np.float32))
    assert not isinstance(split, str)
    np.testing.assert_array_equal(split.magnitude, [2, 0.5, 0])
    np.testing.assert_array_equal(split.bits, [[True, False], [False, True], [True, True]])


# --- refusals -------------------------------------------------------------------------------------------------------


def with_zeros():
    weight = W.clone()
    weight[0, 0, 0, 0] = 0
    return weight


REFUSED = {
    "real input": (lambda x: F.conv2d(x, W), "its input is not binary: the input of the model is real-valued"),
    "real weights": (
        lambda x: F.conv2d(binary(x), torch.linspace(-1, 1, 270).reshape(5, 6, 3, 3)),
        "its weights are not +-one magnitude per filter: 270 distinct values",
    ),
    "zeros in the weights": (
        lambda x: F.conv2d(binary(x), with_zeros()),
        "its weights are not +-one magnitude per filter: 3 distinct values (exact zeros among them)",
    ),
    "several magnitudes in a filter": (
        lambda x: F.conv2d(binary(x), W * torch.tensor([1.0, 2, 1, 1, 1, 1]).reshape(1, 6, 1, 1)),
        "its weights are not +-one magnitude per filter: 4 distinct values",
    ),
    "weights from the input": (
        lambda x: F.conv2d(binary(x), torch.where(x[:, :, :3, :3] > 0, 1.0, -1.0)),
        "its weights depend on the input",
    ),
    "average pooling after the sign": (
        lambda x: F.conv2d(F.avg_pool2d(binary(x), 2), W),
        "its input is not binary: avg_pool2d is real-valued",
    ),
    "bilinear resize after the sign": (
        lambda x: F.conv2d(F.interpolate(binary(x), scale_factor=2, mode="bilinear"), W),
        "its input is not binary: resize2d is real-valued",
    ),
    "sum of two signs": (
        lambda x: F.conv2d(binary(x) + binary(x - 1), W),
        "its input is not binary: add combines two tensors, so more than two values are possible",
    ),
    "a mask of its own": (
        lambda x: F.conv2d(binary(x) * (x > 1).float(), W),
        "its input is not binary: multiply combines two tensors, so more than two values are possible",
    ),
    "levels a channel": (
        lambda x: F.conv2d(binary(x) * torch.arange(1, 7.0).reshape(1, 6, 1, 1), W),
        "its input is not binary: multiply gives each channel its own levels",
    ),
    "levels that vary": (
        lambda x: F.conv2d(torch.where(x > 0, x, -1.0), W),
        "its input is not binary: where chooses between values that are not two constants",
    ),
    "different levels in a concat": (
        lambda x: F.conv2d(torch.cat([binary(x[:, :3]), (x[:, 3:] > 0).float()], 1), W),
        "its input is not binary: concat joins tensors with different levels",
    ),
    "a real part in a concat": (
        lambda x: F.conv2d(torch.cat([binary(x[:, :3]), F.avg_pool2d(x[:, 3:], 1)], 1), W),
        "its input is not binary: avg_pool2d is real-valued",
    ),
    "max-pool of swapped levels": (
        lambda x: F.conv2d(F.max_pool2d(torch.where(x > 0, -1.0, 1.0), 2), W),
        "its input is not binary: max_pool2d pools a tensor whose larger level is the False one",
    ),
    "one level": (lambda x: F.conv2d(binary(x).abs(), W), "its input is constant"),
    "an infinite level": (
        lambda x: F.conv2d(1 / (x > 0).float(), W),
        "its input is not binary: divide turns a level into inf",
    ),
    "padding with a third level": (
        lambda x: F.conv2d(F.pad(binary(x), (1, 1, 1, 1), value=0.5), W),
        "its input is padded with 0.5, which is not one of its levels",
    ),
    "padding twice": (
        lambda x: F.conv2d(F.pad(binary(x), (1, 1, 1, 1), value=1.0), W, padding=1),
        "its input is not binary: pad is real-valued",
    ),
    "padding of channels": (
        lambda x: F.conv2d(F.pad(binary(x[:, :4]), (0, 0, 0, 0, 1, 1), value=1.0), W),
        "its input is not binary: pad is real-valued",
    ),
    "broadcast levels": (
        lambda x: F.conv2d(binary(x[:, :1]) * torch.ones(1, 6, 1, 1), W),
        "its input is not binary: multiply broadcasts its operand",
    ),
    "transposed": (
        lambda x: F.conv_transpose2d(binary(x), TRANSPOSED),
        "conv2d_transpose has no binary form yet",
    ),
    "two activations": (
        lambda x: torch.matmul(binary(x), binary(x).transpose(2, 3)),
        "a product of two activations has no binary form yet",
    ),
    "a constant that is no matrix": (
        lambda x: torch.matmul(binary(x), BATCHED),
        "the weight is not a matrix",
    ),
    "real rows of a linear layer": (
        lambda x: F.linear(x, SQUARE),
        "its input is not binary: the input of the model is real-valued",
    ),
}


@pytest.mark.parametrize(("function", "reason"), REFUSED.values(), ids=list(REFUSED))
def test_refusals_say_why_and_change_nothing(convert, agree, operators, function, reason):
    before, after, decisions = convert(function, torch.zeros((5, *SHAPE[1:])))
    (layer,) = decisions.layers
    assert layer.decision == "float"
    assert layer.reason == reason
    assert "bnn.bconv2d" not in operators(after)
    agree(before, after)


# --- the sign of zero -----------------------------------------------------------------------------------------------

DISCRETE = {
    "an accumulator": lambda x: F.conv2d(binary(x), W[:, :, :2, :2]),
    "a scaled accumulator": lambda x: 0.5 * F.conv2d(binary(x), W[:, :, :2, :2]),
    "a sum of accumulators": lambda x: F.conv2d(binary(x), W[:, :, :2, :2]) + F.conv2d(binary(x - 1), W[:, :, :2, :2]),
    "joined accumulators": lambda x: torch.cat([F.conv2d(binary(x), W[:2, :, :2, :2])] * 2, 1),
    "relu": lambda x: F.relu(x[:, :5]),
    "a sum of signs": lambda x: binary(x[:, :5]) + binary(x[:, :5] - 1),
    "a masked value": lambda x: x[:, :5] * (x[:, :5] > 1).float(),
    "a chosen value": lambda x: torch.where(x[:, :5] > 1, x[:, :5], 0.0),
    "a padded value": lambda x: F.pad(x[:, :5], (1, 1, 1, 1)),
    "a clipped value": lambda x: torch.clamp(x[:, :5], 0, 1),
    "pooled relu": lambda x: F.max_pool2d(F.relu(x[:, :5]), 2),
    "split relu": lambda x: torch.split(F.relu(x), [5, 1], 1)[0],
}


@pytest.mark.parametrize("source", DISCRETE.values(), ids=list(DISCRETE))
def test_the_sign_of_a_discrete_value_is_refused(convert, agree, source):
    before, after, decisions = convert(lambda x: F.conv2d(torch.sign(source(x))[:, :4], W[:, :4]), torch.zeros(SHAPE))
    layer = decisions.layers[-1]
    assert layer.decision == "float"
    assert layer.reason == (
        "its input is not binary: sign takes the sign of a discrete value, which can be exactly 0: write "
        "torch.where(x >= 0, 1., -1.) to choose a sign for it"
    )
    assert decisions.guessed_signs == []
    agree(before, after)


REAL = {
    "the input": lambda x: x[:, :5],
    "an accumulator with a shift": lambda x: F.conv2d(binary(x), W[:, :, :2, :2]) + 0.3,
    "a real residual": lambda x: F.conv2d(binary(x), W, padding=1) + x[:, :5],
    "scaled by +-1": lambda x: x[:, :5] * binary(x[:, 1:]),
    "padded with 2": lambda x: F.pad(x[:, :5], (1, 1, 1, 1), value=2.0),
    "clipped to +-1": lambda x: torch.clamp(x[:, :5], -1, 1),
}


@pytest.mark.parametrize("source", REAL.values(), ids=list(REAL))
def test_the_sign_of_a_real_value_takes_the_convention(convert, agree, source):
    before, after, decisions = convert(lambda x: F.conv2d(torch.sign(source(x)), W[:, :5]), torch.zeros(SHAPE))
    assert decisions.layers[-1].decision == "binary"
    assert decisions.guessed_signs == ["model"]
    agree(before, after)


@pytest.mark.parametrize(("sign_zero", "sign"), [("plus", 1.0), ("minus", -1.0)])
def test_the_convention_decides_what_a_zero_becomes(convert, sign_zero, sign):
    before, after, _ = convert(lambda x: F.conv2d(torch.sign(x), W), torch.zeros(SHAPE), sign_zero=sign_zero)
    zeros = [np.zeros(SHAPE, np.float32)]
    (wanted,) = evaluate(before, [np.full(SHAPE, sign, np.float32)])
    np.testing.assert_array_equal(evaluate(after, zeros)[0], wanted)


def test_each_layer_that_guesses_is_named_once(convert):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = Sign(), Sign()

        def forward(self, x):
            return F.conv2d(self.first(x), W) + F.conv2d(self.second(x + 1), W)

    class Sign(torch.nn.Module):
        def forward(self, x):
            return torch.sign(x)

    _, _, decisions = convert(Model(), torch.zeros(SHAPE))
    assert decisions.guessed_signs == ["first", "second"]


# --- records --------------------------------------------------------------------------------------------------------


def test_a_layer_leaves_a_complete_record(convert):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = torch.nn.Conv2d(6, 5, 3, stride=2, bias=False)

        def forward(self, x):
            return self.stem(x)

    _, after, decisions = convert(Model(), torch.zeros(SHAPE))
    layer = only(decisions)
    assert (layer.path, layer.op, layer.shape) == ("stem", "conv2d", "2x6x7x9 x 5x6x3x3")
    assert (layer.macs, layer.weights) == (2 * 5 * 3 * 4 * 6 * 9, 5 * 6 * 9)
    names = [binding.var.name for binding in after["main"].body.blocks[0].bindings]
    assert layer.value in names


@pytest.mark.parametrize(
    ("function", "macs"),
    [
        (lambda x: F.linear(x, SQUARE), 2 * 6 * 7 * 4 * 9),
        (lambda x: torch.matmul(x, x.transpose(2, 3)), 2 * 6 * 7 * 7 * 9),
        (lambda x: F.conv_transpose2d(x, TRANSPOSED, stride=2), 2 * 6 * 7 * 9 * 5 * 3 * 2),
        (lambda x: F.conv2d(x, DEPTHWISE, groups=6), 2 * 6 * 5 * 7 * 9),
    ],
    ids=["linear", "matmul", "transposed", "depthwise"],
)
def test_multiply_accumulates_are_counted(convert, function, macs):
    assert only(convert(function, torch.zeros(SHAPE))[2]).macs == macs


# --- border classes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "before", "outputs", "classes"),
    [
        (5, 3, 1, 1, 1, 5, [0, 1, 1, 1, 2]),
        (5, 1, 1, 1, 0, 5, [0, 0, 0, 0, 0]),
        (6, 3, 2, 1, 1, 3, [0, 1, 1]),
        (4, 3, 1, 2, 2, 4, [0, 0, 1, 1]),
        (1, 3, 1, 1, 1, 1, [0]),
        (2, 5, 1, 1, 2, 2, [0, 1]),
    ],
)
def test_border_classes(size, kernel, stride, dilation, before, outputs, classes):
    found, masks = border_classes(size, kernel, stride, dilation, before, outputs)
    assert found == classes
    for position, index in enumerate(found):
        taps = position * stride + np.arange(kernel) * dilation - before
        np.testing.assert_array_equal(masks[index], (taps >= 0) & (taps < size))


def test_border_sums_are_sums_over_the_taps_inside():
    weight = np.random.default_rng(0).integers(-4, 5, (3, 2, 3, 2)).astype(np.float64)
    geometry = ops.BConv2DAttrs(strides=(2, 1), padding=(1, 0, 2, 1), dilation=(1, 2))
    table, rows, columns = border_sums(weight, (4, 6), geometry)
    ones = torch.ones(1, 2, 4, 6, dtype=torch.float64)
    padded = F.pad(ones, (0, 1, 1, 2))
    wanted = F.conv2d(padded, torch.from_numpy(weight), stride=(2, 1), dilation=(1, 2))[0].numpy()
    np.testing.assert_array_equal(table[:, np.array(rows)[:, None], np.array(columns)[None]], wanted)
