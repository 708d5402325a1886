"""What convolutions read of an input with its border; those of one kernel that read the same one share it."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_bnn import ops


@dataclass(frozen=True)
class Frame:
    """Rows and columns of a padded input, of which so many lie before the input's first row and column.

    top, left : may be negative, where the first of an input are not read.
    """

    top: int
    left: int
    rows: int
    columns: int

    @classmethod
    def of(cls, geometry: ops.BConv2DAttrs, kernel: tuple[int, ...], out: tuple[int, ...]) -> Frame:
        """What the windows of one convolution reach; kernel, out : rows and columns of taps, and of the result."""
        rows, columns = (
            (out[axis] - 1) * geometry.strides[axis] + (kernel[axis] - 1) * geometry.dilation[axis] + 1
            for axis in (0, 1)
        )
        return cls(geometry.padding[0], geometry.padding[1], rows, columns)

    def joined(self, other: Frame) -> Frame:
        """The least frame that holds both."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        rows = top + max(frame.rows - frame.top for frame in (self, other))
        columns = left + max(frame.columns - frame.left for frame in (self, other))
        return Frame(top, left, rows, columns)

    def first(self, geometry: ops.BConv2DAttrs) -> tuple[int, int]:
        """Row and column at which the windows of a convolution begin."""
        return self.top - geometry.padding[0], self.left - geometry.padding[1]
