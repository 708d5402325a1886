"""How a logical tensor lies in memory.

Passes see PyTorch's logical shapes. In memory, maps are channels-last, so that one vector holds neighbouring channels
of one pixel, and their channel count is rounded up to a whole number of 32-bit words of bits, so that no kernel has a
vector tail and one tile serves a map and its bits alike:

==========  ==================  ============================  ==========================
layout      logical             stored                        used for
==========  ==================  ============================  ==========================
``PLAIN``   any                 as it is                      arguments, results, ranks other than 2 and 4
``MAP``     [N, C, H, W]        [N, H, W, Cp]                 values between kernels
            [N, C]              [N, Cp]
``BITS``    bool [N, C, H, W]   uint32 [N, H, W, ceil(C/32)]  predicates between kernels
            bool [N, C]         uint32 [N, ceil(C/32)]
==========  ==================  ============================  ==========================

Channel c is bit ``c % 32`` of word ``c // 32``; bits behind the last channel are 0. Elements of a MAP behind the last
channel are unspecified but finite reads. 32-bit words (and not 64-bit ones) give 16 filters a 512-bit vector, so the
accumulators of 64 filters need half the registers and half the epilogue: measured bits -> bits at 64 channels,
1.13e12 against 0.81e12 binary MAC/s on one Zen 4 core.
"""

from enum import Enum

from tvm_bnn.errors import UnsupportedError

WORD = 32


class Layout(Enum):
    """Where the elements of a logical tensor lie."""

    PLAIN = "plain"
    MAP = "map"
    BITS = "bits"


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple that is at least value."""
    return -(-value // multiple) * multiple


def padded_channels(channels: int) -> int:
    """Channels of a stored MAP: whole words, or the next power of two for very thin maps."""
    if channels <= 4:
        return 1 << (channels - 1).bit_length()
    return round_up(channels, WORD)


def words(channels: int) -> int:
    """32-bit words that hold the bits of so many channels."""
    return -(-channels // WORD)


def choose_layout(shape: tuple[int, ...], dtype: str) -> Layout:
    """The layout of a value between kernels."""
    if len(shape) not in (2, 4):
        return Layout.PLAIN
    return Layout.BITS if dtype == "bool" else Layout.MAP


def stored_shape(shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    """Shape in memory of a logical shape."""
    if layout is Layout.PLAIN:
        return shape
    if len(shape) not in (2, 4):
        raise UnsupportedError(f"a tensor of rank {len(shape)} has no {layout.value} layout")
    channels = padded_channels(shape[1]) if layout is Layout.MAP else words(shape[1])
    return (shape[0], channels) if len(shape) == 2 else (shape[0], shape[2], shape[3], channels)


def stored_dtype(dtype: str, layout: Layout) -> str:
    """Element type in memory."""
    return "uint32" if layout is Layout.BITS else dtype
