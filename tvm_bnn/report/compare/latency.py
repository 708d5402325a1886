"""Times of an inference as the report tells them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tvm_bnn.report.compare.content import Latency
from tvm_bnn.report.timing import Timing


def latency(samples: Sequence[float]) -> Latency:
    """Of seconds of single inferences, in the order of the rounds."""
    timing = Timing(tuple(samples))
    return Latency(
        samples_ms=[1e3 * each for each in samples],
        median_ms=1e3 * timing.median,
        p95_ms=1e3 * float(np.percentile(samples, 95)),
        least_ms=1e3 * min(samples),
        spread=timing.spread,
    )
