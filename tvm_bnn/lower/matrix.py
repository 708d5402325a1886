"""Binary sums on a matrix unit: bits become bytes +1 and -1 again, and tiles of bytes are multiplied.

AMX multiplies 16 x 64 bytes by 64 x 16 in sixteen cycles: 1024 products a cycle, where counting bits of 512-bit vectors
gives 341 (one vector of popcounts a cycle, and with ``xor`` and ``add`` three instructions on two ports). Bits still
travel between kernels. A kernel expands the rows that a block of its output reads, once for all filters:

    bytes[n, y, x, c] = +1 or -1, 0 for zero padding
    acc[n, y, x, o]   = sum over (ky, kx, c) of bytes * weight                     int32

That is the integer sum itself, without a correction for borders. Channels are padded to whole tiles with weights of 0.
Weights are stored as [O/16, KH, KW, C/64, 16, 16, 4]: for each block of filters and tap the tile that the unit reads,
four neighbouring channels of one filter side by side.
"""

from collections.abc import Callable

import numpy as np
from tvm import te, tirx

from tvm_bnn.lower.layout import WORD, padded_channels, round_up
from tvm_bnn.lower.operator import register
from tvm_bnn.lower.reader import Reader

#: Channels and filters of a tile of weights, and the most pixels of a tile of input.
TILE_CHANNELS, TILE_FILTERS, TILE_PIXELS = 64, 16, 16
#: Fewer pixels leave too much of the unit idle: below 7 of 16 counting bits is as fast.
LEAST_PIXELS = 7
_SIGN_BYTE = "bnn.sign_byte"


def _lower_sign_byte(call):
    """A bit-cast of the word to a mask where neighbouring lanes ask for the bits of one word, else a shift."""
    word, lane = call.args
    lanes = int(str(call.ty.dtype).partition("x")[2] or 1)
    if (
        lanes == WORD
        and isinstance(word, tirx.Broadcast)
        and isinstance(lane, tirx.Ramp)
        and all(isinstance(i, tirx.IntImm) for i in (lane.base, lane.stride))
        and (lane.base.value, lane.stride.value) == (0, 1)
    ):
        bit = tirx.Cast(f"boolx{lanes}", tirx.reinterpret(f"uint1x{lanes}", word.value))
    else:
        unsigned = str(word.ty.dtype)
        bit = tirx.NE((word >> tirx.Cast(unsigned, lane)) & tirx.const(1, unsigned), tirx.const(0, unsigned))
    one, minus_one = (tirx.const(value, str(call.ty.dtype)) for value in (1, -1))
    return tirx.Select(bit, one, minus_one)


register(_SIGN_BYTE, 2, _lower_sign_byte)


def sign_byte(word, lane):
    """+1 where bit ``lane`` (int32, below 32) of a word (uint32) is 1, else -1; int8."""
    return tirx.call_intrin("int8", _SIGN_BYTE, word, lane)


def pixels_of_tile(width: int) -> int:
    """Pixels of a tile: the largest part of a row that a tile holds and that divides the row."""
    return max(pixels for pixels in range(1, min(width, TILE_PIXELS) + 1) if width % pixels == 0)


def multiplies(target, filters: int, width: int, groups: int) -> bool:
    """Whether a binary convolution goes to the matrix unit: there is one, and its tiles are filled well."""
    return (
        target.matrix != ""
        and groups == 1
        and padded_channels(filters) >= WORD
        and pixels_of_tile(width) >= LEAST_PIXELS
    )


def tile_weights(weight: np.ndarray) -> np.ndarray:
    """bool [O, KH, KW, C] -> int8 [Op/16, KH, KW, Cp/64, 16, 16, 4], +1 and -1, and 0 where there is no channel."""
    filters, height, width, channels = weight.shape
    values = np.zeros((padded_channels(filters), height, width, round_up(channels, TILE_CHANNELS)), np.int8)
    values[:filters, :, :, :channels] = np.where(weight, 1, -1)
    tiles = values.reshape(-1, TILE_FILTERS, height, width, values.shape[-1] // TILE_CHANNELS, TILE_CHANNELS // 4, 4)
    return np.ascontiguousarray(np.moveaxis(tiles, 1, 5))


def byte_sums(
    reader: Reader,
    shape: tuple[int, int, int, int],
    window: tuple[int, int],
    weight: np.ndarray,
    sign: Callable,
    inside: Callable,
    pad_value: int,
    place: Callable,
    step: int,
):
    """Stages ``bytes`` and ``acc`` [N, H, W, O padded] of a binary convolution; acc is its integer sum, int32.

    shape : (N, O, H, W) of the result. window : rows and columns of padded input that it reads.
    weight : bool [O, KH, KW, C]. sign : (n, y, x, c) -> +1 or -1, int8, of the input at a padded position.
    inside : (y, x) -> condition that it is no padding, None if none is. place : (y, x, ky, kx) -> padded position.
    step : columns of input from one result to the next, noted as "step" on ``acc``.
    """
    batch, filters, height, width = shape
    tiles = tile_weights(weight)
    _, rows, columns, blocks, quads, _, _ = tiles.shape

    def expand(n, y, x, c):
        value = sign(n, y, x, c)
        valid = inside(y, x)
        return value if valid is None else tirx.if_then_else(valid, value, tirx.const(pad_value, "int8"))

    source = reader.compute((batch, *window, blocks * TILE_CHANNELS), expand, "bytes")
    values = reader.array(tiles, "weight")
    ky, kx, kb, kq, kr = (
        reader.reduce_axis(extent, name)
        for extent, name in ((rows, "ky"), (columns, "kx"), (blocks, "kb"), (quads, "kq"), (4, "kr"))
    )

    def accumulate(n, y, x, o):
        taken = source(n, *place(y, x, ky.var, kx.var), kb.var * TILE_CHANNELS + kq.var * 4 + kr.var)
        tap = values(o // TILE_FILTERS, ky.var, kx.var, kb.var, kq.var, o % TILE_FILTERS, kr.var)
        return te.sum(taken.astype("int32") * tap.astype("int32"), axis=[ky, kx, kb, kq, kr])

    return reader.compute((batch, height, width, padded_channels(filters)), accumulate, "acc", {"step": step})
