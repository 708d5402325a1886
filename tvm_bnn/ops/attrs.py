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
        numbers = lambda name: tuple(int(v) for v in attrs[name])  # noqa: E731
        return cls(
            numbers("strides"), numbers("padding"), numbers("dilation"), int(attrs["groups"]), int(attrs["pad_value"])
        )

    def output_size(self, height: int, width: int, kernel: Pair) -> Pair:
        """Rows and columns of the result for an input of height x width."""
        top, left, bottom, right = self.padding
        spans = [(height + top + bottom, 0), (width + left + right, 1)]
        rows, columns = (
            (span - self.dilation[axis] * (kernel[axis] - 1) - 1) // self.strides[axis] + 1 for span, axis in spans
        )
        return rows, columns
