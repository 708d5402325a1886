"""A transposed convolution as ordinary convolutions, one a phase.

``out[y] = sum over ky of in[(y + p - ky*d) / s] * w[ky]`` where the division is exact and inside. Write
``y = s*i + r``: the taps with ``(r + p - ky*d) % s == 0`` read ``in[i + o]`` with ``o = (r + p - ky*d) / s``, for every
i the same. So the rows of one *phase* r are a stride-1 convolution of the input with some of the kernel's rows; their
offsets fall evenly, by ``d / gcd(s, d)``, so the convolution is dilated by that. Columns likewise: s_y * s_x
convolutions, whose results interleave. No product with a stuffed zero is ever made.
"""

from dataclasses import dataclass
from math import gcd

import numpy as np

from tvm_bnn import ops


@dataclass(frozen=True)
class Phase:
    """Rows (or columns) of one remainder.

    taps : positions in the stored kernel, in the order in which the convolution reads the input.
    before, after : rows of padding; negative where rows of input are not read.
    """

    taps: tuple[int, ...]
    dilation: int
    before: int
    after: int


def phases(size: int, outputs: int, kernel: int, stride: int, padding: int, dilation: int) -> list[Phase]:
    """The phases of one axis, each of ``ceil(outputs / stride)`` rows."""
    count = -(-outputs // stride)
    found = []
    for remainder in range(stride):
        taps = [k for k in reversed(range(kernel)) if (remainder + padding - k * dilation) % stride == 0]
        offsets = [(remainder + padding - k * dilation) // stride for k in taps]
        if not taps:
            found.append(Phase((), 1, 0, 0))
            continue
        found.append(
            Phase(tuple(taps), dilation // gcd(stride, dilation), -offsets[0], count - 1 + offsets[-1] - (size - 1))
        )
    return found


def forward_weight(weight: np.ndarray, groups: int) -> np.ndarray:
    """[C, O/groups, KH, KW] of a transposed convolution as [O, C/groups, KH, KW], taps in stored order."""
    channels, per_group_out, *kernel = weight.shape
    grouped = weight.reshape(groups, channels // groups, per_group_out, *kernel)
    return grouped.transpose(0, 2, 1, 3, 4).reshape(groups * per_group_out, channels // groups, *kernel)


def phase_geometry(rows: Phase, columns: Phase, groups: int) -> ops.BConv2DAttrs:
    """The convolution of one phase."""
    return ops.BConv2DAttrs(
        padding=(rows.before, columns.before, rows.after, columns.after),
        dilation=(rows.dilation, columns.dilation),
        groups=groups,
    )


@dataclass(frozen=True)
class SharedTaps:
    """Rows (or columns) of a kernel that step to the next row of an upsampled map at the same rows of output.

    taps : positions in the kernel. Sum j of them reads row ``first + j`` of the map before its upsampling (negative:
    padding) with the first of these, and rows ``dilation`` apart with the others. Row y of the output reads sum
    ``(y + shift) // scale``.
    """

    taps: tuple[int, ...]
    first: int
    dilation: int
    shift: int


def shared_taps(kernel: int, scale: int, padding: int, dilation: int) -> list[SharedTaps]:
    """One axis of a stride-1 convolution behind nearest upsampling, as sums that rows of output share.

    ``out[y] = sum over k of in[(y - p + k*d) // s] * w[k]``. Write ``k*d - p = s*r + m`` with 0 <= m < s: tap k reads
    ``in[r + (y + m) // s]``. So taps of the same m may be added up at each row of the input, before the upsampling:
    with 3 taps, s = 2 and p = 1 those are {0, 2} and {1}. No product is computed twice, whatever the scale.
    """
    found: dict[int, list[tuple[int, int]]] = {}
    for tap in range(kernel):
        row, shift = divmod(tap * dilation - padding, scale)
        found.setdefault(shift, []).append((tap, row))
    step = dilation // gcd(scale, dilation)
    return [SharedTaps(tuple(tap for tap, _ in taps), taps[0][1], step, m) for m, taps in found.items()]
