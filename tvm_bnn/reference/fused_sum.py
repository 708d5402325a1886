"""Sums of products in a fixed order, one rounding a step: acc = fma(x, w, acc), from acc = 0, in float32."""

import numpy as np

from tvm_bnn.arithmetic import round_once

BLOCK = 1 << 14  # accumulators a block holds: its float64 temporaries stay in the second-level cache


class FusedSum:
    """A block of float32 accumulators; ``add`` is one fused step for all of them.

    The accumulators live in float64, always holding float32 values, because each step needs them there.
    ``tiny`` says whether a sum below the normal range can be inexact (see ``never_inexact_tiny``).
    """

    def __init__(self, shape: tuple[int, ...], tiny: bool):
        self._accumulator = np.zeros(shape)
        self._product = np.empty(shape)
        self._total = np.empty(shape)
        self._rounded = np.zeros(shape, np.float32)
        self._tiny = tiny

    def add(self, x: np.ndarray, w: np.ndarray) -> None:
        """acc = fma(x, w, acc); x and w are float64 arrays of float32 values that broadcast to the block."""
        np.multiply(x, w, out=self._product)  # 24 + 24 bits: exact
        np.add(self._product, self._accumulator, out=self._total)
        round_once(self._total, self._product, self._accumulator, self._tiny)
        np.copyto(self._rounded, self._total, casting="same_kind")
        np.copyto(self._accumulator, self._rounded)

    def result(self) -> np.ndarray:
        """The float32 accumulators."""
        return self._rounded
