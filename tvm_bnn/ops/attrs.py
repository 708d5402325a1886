"""Attributes of the binary convolution, as one frozen record that is rebuilt with ``replace``."""

from dataclasses import asdict, dataclass

Pair = tuple[int, int]


@dataclass(frozen=True)
class BConv2DAttrs:
    """Geometry of a binary convolution.

    strides, dilation : (y, x).
    padding : (top, left, bottom, right).
    groups : channels are split into this many independent convolutions.
    pad_value : what a padded tap contributes as activation: 0, +1 or -1.
    """

    strides: Pair = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    pad_value: int = 0

    def as_dict(self) -> dict[str, object]:
        """Plain values, as an operator's attributes hold them."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def from_call(cls, attrs) -> "BConv2DAttrs":
        """Read the record back from the attributes of a Relax call."""
        geometry = _geometry(attrs["strides"], attrs["padding"], attrs["dilation"])
        return cls(*geometry, int(attrs["groups"]), int(attrs["pad_value"]))

    @classmethod
    def from_conv2d(cls, attrs) -> "BConv2DAttrs":
        """The geometry of a float ``relax.nn.conv2d``, whose padded taps contribute 0."""
        return cls(*_geometry(attrs.strides, attrs.padding, attrs.dilation), int(attrs.groups))

    def output_size(self, height: int, width: int, kernel: Pair) -> Pair:
        """Rows and columns of the result for an input of height x width."""
        top, left, bottom, right = self.padding
        spans = [(height + top + bottom, 0), (width + left + right, 1)]
        rows, columns = (
            (span - self.dilation[axis] * (kernel[axis] - 1) - 1) // self.strides[axis] + 1 for span, axis in spans
        )
        return rows, columns


def _geometry(strides, padding, dilation) -> tuple[Pair, tuple[int, int, int, int], Pair]:
    """Plain numbers from the sequences of a Relax call."""
    (sy, sx), (dy, dx) = ([int(v) for v in values] for values in (strides, dilation))
    top, left, bottom, right = (int(v) for v in padding)
    return (sy, sx), (top, left, bottom, right), (dy, dx)
