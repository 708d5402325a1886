"""ConvertBinary: proven pairs become bnn.bconv2d and compute what they computed; the others say why they stay."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import tvm
from tvm import relax

from tvm_bnn import ops
from tvm_bnn.reference import evaluate
from tvm_bnn.relay_passes.borders import border_classes, border_sums
from tvm_bnn.relay_passes.convert_binary import ConvertBinary, Decisions, Layer, _Converter
from tvm_bnn.relay_passes.fold_constants import FoldConstants
from tvm_bnn.relay_passes.levels import weight_planes

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


def test_weights_split_into_planes():
    split = weight_planes(np.array([[2, -2], [-0.5, 0.5], [0, 0]], np.float32))
    assert not isinstance(split, str)
    np.testing.assert_array_equal(split.step, [2, 0.5, 0])
    np.testing.assert_array_equal(split.middle, [0, 0, 0])
    (plane,) = split.planes
    np.testing.assert_array_equal(plane, [[True, False], [False, True], [True, True]])
    assert split.zeros == 2


WEIGHTS = {
    "{-a, 0, a}": [[1, 0, -1, 0.0], [2, -2, 2, -2], [0, 0.5, 0, 0.5]],
    "{0, a}": [[0, 0.5, 0, 0.5], [0, -2, -2, 0]],
    "two arbitrary levels": [[3, 1, 1, 3], [-1, -0.5, -0.5, -1], [1, -1, 1, 1]],
    "a filter of zeros": [[0, 0, 0, 0], [1, -1, 1, 1], [0, 1, -1, 1]],
}


@pytest.mark.parametrize("rows", WEIGHTS.values(), ids=list(WEIGHTS))
@pytest.mark.parametrize("alphabet", ["where", "two levels", "{0, a}"])
def test_weights_of_other_levels(convert, agree, rows, alphabet):
    weight = torch.tensor(rows).float()
    weight = weight[:, torch.arange(54) * 7 % 4].reshape(-1, 6, 3, 3)

    def function(x):
        return F.conv2d(ALPHABETS[alphabet](x), weight, padding=1)

    before, after, decisions = convert(function, torch.zeros(SHAPE))
    assert only(decisions).decision == "binary"
    assert decisions.zero_weights == (["model"] if any(0 in row for row in rows) else [])
    agree(before, after)


# --- more than two levels, several parts ------------------------------------------------------------------------------


def dorefa(x, bits):
    """Uniform levels of so many bits."""
    steps = 2**bits - 1
    return torch.round(torch.clamp(x, 0, 1) * steps)


PLANES = {
    "a sum of two signs": lambda x: binary(x) + binary(x - 1),
    "a product of two signs": lambda x: binary(x) * binary(x - 1),
    "a mask of its own": lambda x: binary(x) * (x > 1).float(),
    "a mask a channel": lambda x: binary(x) * (x.mean((2, 3), keepdim=True) > 0).float(),
    "A2": lambda x: dorefa(x, 2),
    "A3": lambda x: dorefa(x, 3) * 0.25 - 0.5,
    "A4": lambda x: dorefa(x, 4),
    "rounded, then clipped": lambda x: torch.clamp(torch.round(x * 2), -3, 4),
    "floor": lambda x: torch.floor(torch.clamp(x, -1.5, 1.5)),
    "ceil": lambda x: torch.ceil(torch.clamp(x, -1.5, 1.5)),
    "{0, a}": lambda x: torch.clamp(torch.round(x / 0.5), 0, 1) * 0.5,
    "ternary by thresholds": lambda x: (x > 0.5).float() - (x < -0.5).float(),
    "two signs of a step a channel": lambda x: binary(x) * torch.tensor([1.0, -1, 1, 1, -1, -1]).reshape(1, 6, 1, 1),
    "an offset a channel": lambda x: binary(x) + torch.arange(6.0).reshape(1, 6, 1, 1),
    "a scale a sample": lambda x: binary(x) * torch.round(x[:, :1, :1, :1] * 4),
    "different levels in a concat": lambda x: torch.cat([binary(x[:, :3]), (x[:, 3:] > 0).float()], 1),
    "different distances in a concat": lambda x: torch.cat(
        [binary(x[:, :2]), (x[:, 2:4] > 0).float() * 4, 0.5 * binary(x[:, 4:])], 1
    ),
    "max-pool of swapped levels": lambda x: F.max_pool2d(torch.where(x > 0, -1.0, 1.0), 2),
    "max-pool of three levels": lambda x: F.max_pool2d((x > 0.5).float() - (x < -0.5).float(), 2),
    "padding with a third level": lambda x: F.pad(binary(x), (1, 1, 1, 1), value=3.0),
    "padding of channels": lambda x: F.pad(binary(x[:, :4]), (0, 0, 0, 0, 1, 1), value=1.0),
    "broadcast levels": lambda x: binary(x[:, :1]) * binary(x),
    "zero apart": lambda x: torch.where(torch.sign(x) == 0, 1.0, torch.sign(x)),
    "zero added": lambda x: torch.sign(x) + (x == 0),
    "not equal": lambda x: (torch.round(x) != 0).float(),
    "logic": lambda x: ((x > 0.5) | (x < -0.5)).float(),
    "exclusive or": lambda x: torch.logical_xor(x > 0.5, x > -0.5).float(),
}


@pytest.mark.parametrize("alphabet", PLANES.values(), ids=list(PLANES))
@pytest.mark.parametrize("padding", [0, 1])
def test_planes_add_up(convert, agree, operators, alphabet, padding):
    def function(x):
        return F.conv2d(alphabet(x), W * 0.5, padding=padding)

    before, after, decisions = convert(function, torch.zeros(SHAPE))
    assert [(layer.decision, layer.reason) for layer in decisions.layers] == [("binary", "")]
    assert "relax.nn.conv2d" not in operators(after)
    agree(before, after)
    agree(before, after, inputs=[np.random.default_rng(0).integers(-4, 5, SHAPE).astype(np.float32) / 4])


@pytest.mark.parametrize("turned", [torch.neg, torch.clone], ids=["negated", "as it is"])
def test_the_convention_for_zeros_is_that_of_the_sign_behind_a_pooling(convert, agree, turned):
    def network(sign):
        return lambda x: F.conv2d(F.max_pool2d(turned(sign(x)), 2), W)

    _, after, _ = convert(network(torch.sign), torch.zeros(SHAPE))
    spelled, _, _ = convert(network(lambda x: torch.where(x >= 0, 1.0, -1.0)), torch.zeros(SHAPE))
    agree(spelled, after, inputs=[np.random.default_rng(0).integers(-1, 2, SHAPE).astype(np.float32)])


def with_zeros(*rows: int) -> torch.Tensor:
    """W with some weights of these input channels exactly 0."""
    weight = W.clone()
    weight[0, list(rows), 0] = 0
    return weight


def test_a_sum_of_segments_is_one_record(convert, agree):
    weight = with_zeros(1, 5)

    def function(x):
        return F.conv2d(torch.cat([dorefa(x[:, :3], 2), 4 * binary(x[:, 3:])], 1), weight)

    before, after, decisions = convert(function, torch.zeros(SHAPE))
    assert (only(decisions).decision, only(decisions).planes) == ("binary", 4)  # two bits by ternary weights
    assert decisions.zero_weights == ["model"]
    agree(before, after)


def test_a_segment_that_is_refused_leaves_no_note_of_the_others(convert):
    weight = with_zeros(1)

    def function(x):
        uneven = torch.where(x[:, 3:] > 1, 4.0, binary(x[:, 3:]))
        return F.conv2d(torch.cat([torch.sign(x[:, :3]), uneven], 1), weight)

    _, _, decisions = convert(function, torch.zeros(SHAPE))
    assert only(decisions).decision == "float" and "not evenly spaced" in only(decisions).reason
    assert (decisions.zero_weights, decisions.guessed_signs, only(decisions).planes) == ([], [], 1)


def test_planes_of_groups(convert, agree):
    weight = signs(6, 2, 3, 3)
    weight[:, 0] = 0
    before, after, decisions = convert(
        lambda x: F.conv2d(PLANES["a sum of two signs"](x), weight, padding=1, groups=3), torch.zeros(SHAPE)
    )
    assert (only(decisions).decision, only(decisions).planes) == ("binary", 4)
    agree(before, after)


TRANSPOSES = {
    "k2 s2": ((2, 2), {"stride": 2}),
    "k3 s2": ((3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    "k4 s2": ((4, 4), {"stride": 2, "padding": 1}),
    "k3 s2, odd size": ((3, 3), {"stride": 2, "padding": 1}),
    "k3 s1": ((3, 3), {"stride": 1}),
    "k5 s3": ((5, 5), {"stride": 3, "padding": 2, "output_padding": (1, 2)}),
    "k2 s3": ((2, 2), {"stride": 3}),
    "k3 s2x1": ((3, 3), {"stride": (2, 1), "padding": (0, 1)}),
    "dilation": ((3, 3), {"stride": 2, "padding": 1, "dilation": 3}),
    "dilation 2, stride 2": ((3, 2), {"stride": 2, "padding": 1, "dilation": 2}),
    "groups": ((4, 4), {"stride": 2, "padding": 1, "groups": 3}),
    "much padding": ((5, 5), {"stride": 2, "padding": 4}),
}


@pytest.mark.parametrize(("kernel", "options"), TRANSPOSES.values(), ids=list(TRANSPOSES))
@pytest.mark.parametrize("alphabet", ["where", "two levels"])
def test_transposed_convolutions_become_phases(convert, agree, operators, kernel, options, alphabet):
    weight = signs(6, 4, *kernel) * 0.5

    def function(x):
        return F.conv_transpose2d(ALPHABETS[alphabet](x), weight, **options)

    before, after, decisions = convert(function, torch.zeros(SHAPE))
    assert (only(decisions).op, only(decisions).decision) == ("conv2d_transpose", "binary")
    assert "relax.nn.conv2d_transpose" not in operators(after)
    agree(before, after)


@pytest.mark.parametrize("left", ["where", "{0, a}", "two levels"])
@pytest.mark.parametrize("right", ["where", "two levels"])
def test_products_of_two_activations(convert, agree, operators, left, right):
    def function(x):
        a, b = ALPHABETS[left](x), ALPHABETS[right](x + 0.5)
        return torch.matmul(a, b.transpose(2, 3)), torch.einsum("bcij,bcik->bcjk", a, b)

    before, after, decisions = convert(function, torch.zeros(SHAPE))
    assert [(layer.op, layer.decision) for layer in decisions.layers] == [("matmul", "binary")] * 2
    assert "relax.matmul" not in operators(after)
    agree(before, after)


# --- refusals -------------------------------------------------------------------------------------------------------


REFUSED = {
    "real input": (lambda x: F.conv2d(x, W), "its input is not binary: the input of the model is real-valued"),
    "real weights": (
        lambda x: F.conv2d(binary(x), torch.linspace(-1, 1, 270).reshape(5, 6, 3, 3)),
        "5 of its 5 filters have more than two weight levels (up to 54), and they are not -a, 0, a",
    ),
    "several magnitudes in a filter": (
        lambda x: F.conv2d(binary(x), W * torch.tensor([1.0, 2, 1, 1, 1, 1]).reshape(1, 6, 1, 1)),
        "5 of its 5 filters have more than two weight levels (up to 4), and they are not -a, 0, a",
    ),
    "weights from the input": (
        lambda x: F.conv2d(binary(x), torch.where(x[:, :, :3, :3] > 0, 1.0, -1.0)),
        "its weights depend on the input",
    ),
    "average pooling after the sign": (
        lambda x: F.conv2d(F.avg_pool2d(binary(x), 2), W),
        "its input is not binary: it is an average (avg_pool2d)",
    ),
    "bilinear resize after the sign": (
        lambda x: F.conv2d(F.interpolate(binary(x), scale_factor=2, mode="bilinear"), W),
        "its input is not binary: it is interpolated (resize2d)",
    ),
    "distances a channel": (
        lambda x: F.conv2d(binary(x) * torch.arange(1, 7.0).reshape(1, 6, 1, 1), W),
        "its input is not binary: its input channels have different distances between their levels",
    ),
    "scales of the data a channel": (
        lambda x: F.conv2d(binary(x) * x.mean((2, 3), keepdim=True), W),
        "its input is not binary: multiply scales each input channel by a value that depends on the data",
    ),
    "levels that vary": (
        lambda x: F.conv2d(torch.where(x > 0, x, -1.0), W),
        "its input is not binary: where combines a binary tensor with a real-valued one",
    ),
    "a real part in a concat": (
        lambda x: F.conv2d(torch.cat([binary(x[:, :3]), F.avg_pool2d(x[:, 3:], 1)], 1), W),
        "its input is not binary: it is an average (avg_pool2d)",
    ),
    "one level": (lambda x: F.conv2d(binary(x).abs(), W), "its input is not binary: it is constant"),
    "an infinite level": (
        lambda x: F.conv2d(1 / (x > 0).float(), W),
        "its input is not binary: divide gives it levels that are not finite numbers",
    ),
    "three levels at uneven distances": (
        lambda x: F.conv2d(torch.where(x > 1, 1.0, torch.where(x > 0, 0.25, -1.0)), W),
        "its input is not binary: its 3 levels (-1, 0.25, 1) are not evenly spaced",
    ),
    "levels of 5 bits": (
        lambda x: F.conv2d(torch.round(torch.clamp(x, 0, 1) * 31), W),
        "its input is not binary: it has 32 levels; up to 16 can be bit planes",
    ),
    "a constant that is no matrix": (
        lambda x: torch.matmul(binary(x), BATCHED),
        "its weight is not a matrix",
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
    assert layer.advice
    assert "bnn.bconv2d" not in operators(after)
    agree(before, after)


@pytest.mark.parametrize(("size", "decision"), [(2**24 - 1, "binary"), (2**24, "float")])
def test_sums_stay_exact_in_float32(size, decision):
    """The integer is scaled as a float32, which holds every whole number up to 2**24."""
    decisions = Decisions()
    layer = Layer("path", "linear", "", 0, "value")
    decisions.layers.append(layer)
    converter = _Converter(decisions, "plus")
    assert converter._accept(layer, size, 1) is (decision == "binary")
    assert layer.decision == decision
    assert int(np.float32(2**24 - 1)) == 2**24 - 1 and int(np.float32(2**24 + 1)) != 2**24 + 1


# --- the sign of zero -----------------------------------------------------------------------------------------------

DISCRETE = {
    "an accumulator": lambda x: F.conv2d(binary(x), W[:, :, :2, :2]),
    "a scaled accumulator": lambda x: 0.5 * F.conv2d(binary(x), W[:, :, :2, :2]),
    "a sum of accumulators": lambda x: F.conv2d(binary(x), W[:, :, :2, :2]) + F.conv2d(binary(x - 1), W[:, :, :2, :2]),
    "an accumulator of {0, 1}": lambda x: F.conv2d((x > 0).float(), W[:, :, :2, :2]),
    "a padded accumulator of {0, 1}": lambda x: F.conv2d((x > 0).float() * 0.5, W, padding=1),
    "a padded accumulator of two levels": lambda x: F.conv2d(torch.where(x > 0, 1.5, -0.5), W, padding=1),
    "scores of {0, 1}": lambda x: torch.matmul((x[:, :5] > 0).float(), binary(x[:, 1:]).transpose(2, 3)),
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
def test_the_sign_of_a_discrete_value_keeps_its_zeros(convert, agree, source):
    before, after, decisions = convert(lambda x: F.conv2d(torch.sign(source(x))[:, :4], W[:, :4]), torch.zeros(SHAPE))
    assert (decisions.layers[-1].decision, decisions.layers[-1].reason) == ("binary", "")
    assert decisions.guessed_signs == []
    agree(before, after)
    agree(before, after, inputs=[np.random.default_rng(0).integers(-4, 5, SHAPE).astype(np.float32) / 2])


def test_kept_zeros_are_named(convert):
    _, _, decisions = convert(
        lambda x: F.conv2d(torch.sign(F.conv2d(binary(x), W)), W[:, :5, :1, :1]), torch.zeros(SHAPE)
    )
    assert decisions.kept_zeros == ["model"]
    assert [layer.planes for layer in decisions.layers] == [1, 2]


def test_exact_keeps_the_zeros_of_a_real_tensor(convert, agree):
    before, after, decisions = convert(lambda x: F.conv2d(torch.sign(x), W), torch.zeros(SHAPE), sign_zero="exact")
    assert (decisions.kept_zeros, decisions.guessed_signs) == (["model"], [])
    agree(before, after, inputs=[np.random.default_rng(0).integers(-1, 2, SHAPE).astype(np.float32)])
    agree(before, after, inputs=[np.full(SHAPE, np.nan, np.float32)])


REAL = {
    "the input": lambda x: x[:, :5],
    "an accumulator of levels on no grid": lambda x: F.conv2d(torch.where(x[:, :5] > 0, 1.0, -0.3125), W[:, :5]),
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
def test_a_convention_comes_before_a_concat(convert, agree, sign_zero, sign):
    """A bare sign has a third level beside a spelled out one only until a convention has decided."""

    def function(x):
        joined = torch.cat([torch.sign(x[:, :2]), binary(x[:, 2:] - 1)], 1)
        return F.conv2d(F.max_pool2d(joined, 2), W)

    before, after, decisions = convert(function, torch.zeros(SHAPE), sign_zero=sign_zero)
    assert (only(decisions).decision, only(decisions).planes) == ("binary", 1)
    assert decisions.guessed_signs == ["model"]
    agree(before, after)
    (wanted,) = evaluate(before, [np.full(SHAPE, sign / 2, np.float32)])
    np.testing.assert_array_equal(evaluate(after, [np.zeros(SHAPE, np.float32)])[0], wanted)


FALLING = {
    "twice": lambda x: torch.cat([-torch.sign(x)] * 2, 1),
    "beside a rising one": lambda x: torch.cat([-torch.sign(x), torch.sign(x)], 1),
}


@pytest.mark.parametrize(("sign_zero", "sign"), [("plus", 1.0), ("minus", -1.0)])
@pytest.mark.parametrize("joined", FALLING.values(), ids=list(FALLING))
def test_a_concat_of_negated_signs_keeps_the_convention_of_the_sign(convert, agree, joined, sign_zero, sign):
    weight = torch.cat([W, -W.flip(0)], 1)
    before, after, decisions = convert(
        lambda x: F.conv2d(joined(x), weight), torch.zeros(SHAPE), sign_zero=sign_zero
    )
    assert (only(decisions).decision, only(decisions).planes) == ("binary", 1)
    agree(before, after)
    (wanted,) = evaluate(before, [np.full(SHAPE, sign / 2, np.float32)])
    np.testing.assert_array_equal(evaluate(after, [np.zeros(SHAPE, np.float32)])[0], wanted)


MASKS = {
    "of one tensor": lambda x: torch.sign(x) * (x.abs() > 0.5).float(),
    "an element": lambda x: torch.sign(x) * (x.flip(1) > 0.5).float(),
    "a position": lambda x: (x[:, :1] > 0.5).float() * torch.sign(x),
    "an attention map": lambda x: F.relu(torch.sign(x[:, 1:2])) * torch.sign(x),
    "scaled": lambda x: 0.5 * torch.sign(x) * (x.flip(2) > 0.5).float(),
}


@pytest.mark.parametrize("masked", MASKS.values(), ids=list(MASKS))
def test_a_mask_has_the_level_of_zero_already(convert, agree, masked):
    """The product has three levels whatever sign(0) is, so that no convention is needed."""
    before, after, decisions = convert(lambda x: F.conv2d(masked(x), W, padding=1), torch.zeros(SHAPE))
    assert (only(decisions).decision, only(decisions).planes) == ("binary", 2)
    assert (decisions.guessed_signs, decisions.kept_zeros) == ([], ["model"])
    agree(before, after, inputs=[np.random.default_rng(0).integers(-2, 3, SHAPE).astype(np.float32) / 2])


@pytest.mark.parametrize(("sign_zero", "sign"), [("plus", 1.0), ("minus", -1.0)])
def test_the_convention_decides_what_a_zero_becomes(convert, sign_zero, sign):
    before, after, _ = convert(lambda x: F.conv2d(torch.sign(x), W), torch.zeros(SHAPE), sign_zero=sign_zero)
    zeros = [np.zeros(SHAPE, np.float32)]
    (wanted,) = evaluate(before, [np.full(SHAPE, sign, np.float32)])
    np.testing.assert_array_equal(evaluate(after, zeros)[0], wanted)


class TwoSigns(torch.nn.Module):
    """A function of x and of two modules that take a sign."""

    class Sign(torch.nn.Module):
        def forward(self, x):
            return torch.sign(x)

    def __init__(self, function):
        super().__init__()
        self.first, self.second, self.function = self.Sign(), self.Sign(), function

    def forward(self, x):
        return self.function(x, self.first, self.second)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, first, second: F.conv2d(first(x), W) + F.conv2d(second(x + 1), W),
        lambda x, first, second: F.conv2d(torch.cat([first(x[:, :2]), second(x[:, 2:])], 1), W),
        lambda x, first, second: F.conv2d(first(x) * second(x + 1), W),
        lambda x, first, second: F.conv2d(first(x) + second(x), W),
    ],
    ids=["apart", "joined", "multiplied", "of one tensor"],
)
def test_each_sign_that_is_guessed_is_named_once(convert, function):
    _, _, decisions = convert(TwoSigns(function), torch.zeros(SHAPE))
    assert decisions.guessed_signs == ["first", "second"]


def test_a_guess_that_no_layer_reads_is_not_named(convert):
    def function(x):
        return torch.matmul(torch.sign(x) * binary(x - 1), x.transpose(2, 3))

    _, _, decisions = convert(function, torch.zeros(SHAPE))
    assert (only(decisions).decision, decisions.guessed_signs) == ("float", [])


REAL_WEIGHTS = torch.arange(5 * 6 * 9).reshape(5, 6, 3, 3) / 256.0 - 0.5
READERS = {
    "a layer alone": (lambda x, first, second: F.conv2d(first(x), W), []),
    "a module that is called again": (lambda x, first, second: (F.conv2d(first(x), W), first(x + 1)), ["first"]),
    "another module": (lambda x, first, second: (F.conv2d(first(x), W), second(x)), []),
    "one sign, a layer and an operator": (lambda x, first, second: _both(first(x)), ["first"]),
    "one sign, two layers": (
        lambda x, first, second: (lambda s: F.conv2d(s, W) + F.conv2d(F.relu(s), W))(first(x)), []
    ),
    "one sign, a layer and a float layer": (
        lambda x, first, second: (lambda s: F.conv2d(s, W) + F.conv2d(s, REAL_WEIGHTS))(second(x)), ["second"]
    ),
}  # fmt: skip


def _both(s):
    return F.conv2d(s, W), s * 2


@pytest.mark.parametrize("sign_zero", ["plus", "exact"])
@pytest.mark.parametrize(("function", "mixed"), READERS.values(), ids=list(READERS))
def test_a_sign_that_is_also_read_as_it_is(convert, function, mixed, sign_zero):
    """Layers see the convention, everything else sign's own 0."""
    before, after, decisions = convert(TwoSigns(function), torch.zeros(SHAPE), sign_zero=sign_zero)
    assert decisions.mixed_signs == (mixed if sign_zero == "plus" else [])
    zeros = [np.zeros(SHAPE, np.float32)]
    old, new = evaluate(before, zeros), evaluate(after, zeros)
    for one, other in zip(old[1:], new[1:], strict=True):
        np.testing.assert_array_equal(one, other)


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
