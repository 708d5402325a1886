"""Layouts: how much is stored for a logical shape, and where bits go."""

import numpy as np
import pytest

from tvm_bnn.errors import UnsupportedError
from tvm_bnn.lower.anchors.convolution import block_filters, pack_words
from tvm_bnn.lower.layout import Layout, choose_layout, padded_channels, stored_dtype, stored_shape, words


@pytest.mark.parametrize(
    ("channels", "padded", "count"),
    [(1, 1, 1), (2, 2, 1), (3, 4, 1), (4, 4, 1), (5, 32, 1), (31, 32, 1), (32, 32, 1), (33, 64, 2), (100, 128, 4)],
)
def test_stored_channels(channels, padded, count):
    assert padded_channels(channels) == padded
    assert words(channels) == count


@pytest.mark.parametrize(
    ("shape", "layout", "stored"),
    [
        ((2, 33, 4, 5), Layout.MAP, (2, 4, 5, 64)),
        ((2, 33, 4, 5), Layout.BITS, (2, 4, 5, 2)),
        ((2, 33, 4, 5), Layout.PLAIN, (2, 33, 4, 5)),
        ((2, 33), Layout.MAP, (2, 64)),
        ((2, 33), Layout.BITS, (2, 2)),
        ((7,), Layout.PLAIN, (7,)),
    ],
)
def test_stored_shape(shape, layout, stored):
    assert stored_shape(shape, layout) == stored


def test_other_ranks_have_no_map():
    with pytest.raises(UnsupportedError, match="a tensor of rank 3 has no bits layout"):
        stored_shape((2, 3, 4), Layout.BITS)


@pytest.mark.parametrize(
    ("shape", "dtype", "layout"),
    [
        ((1, 2, 3, 4), "bool", Layout.BITS),
        ((1, 2, 3, 4), "float32", Layout.MAP),
        ((1, 2), "int64", Layout.MAP),
        ((1, 2, 3), "bool", Layout.PLAIN),
        ((), "float32", Layout.PLAIN),
    ],
)
def test_choose_layout(shape, dtype, layout):
    assert choose_layout(shape, dtype) is layout


def test_stored_dtype():
    assert stored_dtype("bool", Layout.BITS) == "uint32"
    assert stored_dtype("bool", Layout.PLAIN) == "bool"


@pytest.mark.parametrize("channels", [1, 31, 32, 33, 65])
def test_pack_words(channels):
    bits = np.random.default_rng(channels).random((2, 3, channels)) < 0.5
    packed = pack_words(bits)
    assert (packed.dtype, packed.shape) == (np.uint32, (2, 3, words(channels)))
    for channel in range(words(channels) * 32):
        expected = bits[..., channel] if channel < channels else np.zeros((2, 3), bool)
        np.testing.assert_array_equal(packed[..., channel // 32] >> np.uint32(channel % 32) & np.uint32(1), expected)


@pytest.mark.parametrize(("filters", "lanes"), [(64, 16), (33, 16), (33, 8), (3, 16), (1, 8)])
def test_block_filters(filters, lanes):
    weight = np.arange(filters * 2 * 1 * 5, dtype=np.float32).reshape(filters, 2, 1, 5) + 1
    blocked = block_filters(weight, lanes)
    stored = padded_channels(filters)
    assert blocked.shape == (stored // min(lanes, stored), 2, 1, 5, min(lanes, stored))
    back = np.moveaxis(blocked, -1, 1).reshape(stored, 2, 1, 5)
    np.testing.assert_array_equal(back[:filters], weight)
    assert not back[filters:].any()
