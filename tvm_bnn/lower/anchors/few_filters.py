"""Float convolutions with so few filters that vectors of filters stay empty: the last layer of an image network.

``acc[n, o, y, x] = sum over (ky, kx, c) of  pad[n, c, y + ky*dy, x + kx*dx] * weight[ky, kx, c, o]``

Vectors hold neighbouring pixels of a row, so the rows of input that a block needs are turned: each channel's pixels
side by side. Turning costs a step an element, which the taps of the kernel share.
"""

from collections.abc import Callable, Sequence

import numpy as np
from tvm import te

from tvm_bnn.lower.anchors import Anchor
from tvm_bnn.lower.layout import Layout, padded_channels
from tvm_bnn.lower.reader import Reader
from tvm_bnn.ops import BConv2DAttrs

#: Filters, and taps that share the turning.
MOST_FILTERS, LEAST_TAPS = 4, 4


def suits(reader: Reader, weight: np.ndarray, geometry: BConv2DAttrs, width: int, target) -> bool:
    """Whether the vectors are rows of pixels. weight : [O, KH, KW, C]; width : of the result."""
    filters, *kernel, _ = weight.shape
    region = reader.region
    if target.gpu is not None or region is None or any(reader.layout_of[var] is Layout.BITS for var in region.outputs):
        return False
    dense = geometry.strides[1] == geometry.groups == 1 and kernel[0] * kernel[1] >= LEAST_TAPS
    return filters <= MOST_FILTERS and dense and width > MOST_FILTERS and width % target.lanes32 == 0


def sums(
    reader: Reader,
    shape: tuple[int, int, int, int],
    window: Sequence[int],
    weight: np.ndarray,
    geometry: BConv2DAttrs,
    padded: Callable,
    planar: bool,
) -> Anchor:
    """Stages ``pad`` [N, C, rows, columns] and ``acc`` [N, O as stored, H, W].

    shape : of the result. window : rows and columns of padded input. weight : [O, KH, KW, C].
    padded : (n, y, x, c) -> element of it. planar : whether channels lie apart in memory already.
    """
    batch, filters, height, width = shape
    _, *kernel, channels = weight.shape
    (step, _), (dy, dx) = geometry.strides, geometry.dilation
    turned = reader.compute(
        (batch, channels, *window), lambda n, c, y, x: padded(n, y, x, c), "pad", {} if planar else {"turned": 1}
    )
    held = padded_channels(filters)
    padded_weight = np.pad(weight, [(0, held - filters), (0, 0), (0, 0), (0, 0)])
    values = reader.array(np.ascontiguousarray(padded_weight.transpose(1, 2, 3, 0)), "weight")
    ky, kx, kc = (
        reader.reduce_axis(extent, name) for extent, name in zip((*kernel, channels), ("ky", "kx", "kc"), strict=True)
    )

    def accumulate(n, o, y, x):
        taken = turned(n, kc.var, y * step + ky.var * dy, x + kx.var * dx)
        return te.sum(taken * values(ky.var, kx.var, kc.var, o), axis=[ky, kx, kc])

    acc = reader.compute((batch, held, height, width), accumulate, "acc")
    return Anchor(lambda index: acc(*index), "few_filters")
