"""Borders: which taps of a window lie outside its input, by class of position.

Whether a tap lies outside depends on its row and its column alone, so positions fall into few classes of rows and of
columns, and what the padded taps contribute is a table [filter, row class, column class].
"""

import numpy as np

from tvm_bnn import ops


def border_classes(
    size: int, kernel: int, stride: int, dilation: int, before: int, outputs: int
) -> tuple[list[int], list[np.ndarray]]:
    """Which taps of a one-dimensional window lie inside, per output position.

    Returns the class of each output position and, per class, a mask over the taps.
    """
    taps = np.arange(kernel) * dilation - before
    masks: list[np.ndarray] = []
    classes = []
    for position in range(outputs):
        inside = (position * stride + taps >= 0) & (position * stride + taps < size)
        found = next((i for i, mask in enumerate(masks) if np.array_equal(mask, inside)), None)
        if found is None:
            found = len(masks)
            masks.append(inside)
        classes.append(found)
    return classes, masks


def border_sums(
    weight: np.ndarray, size: tuple[int, ...], geometry: ops.BConv2DAttrs
) -> tuple[np.ndarray, list[int], list[int]]:
    """Sum of [O, C, KH, KW] weights over the taps inside, as [O, row class, column class], and the class lists."""
    kernel = weight.shape[2:]
    rows, columns = geometry.output_size(size[0], size[1], (kernel[0], kernel[1]))
    per_tap = weight.sum(axis=1)
    (row_class, row_masks), (column_class, column_masks) = (
        border_classes(size[axis], kernel[axis], geometry.strides[axis], geometry.dilation[axis], before, count)
        for axis, before, count in ((0, geometry.padding[0], rows), (1, geometry.padding[1], columns))
    )
    table = np.einsum("oyx,ry,cx->orc", per_tap, np.stack(row_masks), np.stack(column_masks))
    return table.astype(np.float32), row_class, column_class
