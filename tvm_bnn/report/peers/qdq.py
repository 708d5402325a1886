"""Static quantisation of an ONNX file by ONNX Runtime: int8 weights a filter, uint8 activations.

Calibrated with the smallest and largest value of each tensor over some inputs. Where these are the very inputs that are
timed, the accuracy of the result says nothing; the time does not depend on the values.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def quantize(source: Path, target: Path, calls: Sequence[Sequence[np.ndarray]]) -> None:
    """Write the quantised network to `target`; `calls` : of each call to calibrate with, one array per input."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Once(CalibrationDataReader):
        """Each call's inputs, once."""

        def __init__(self, feeds: Sequence[dict[str, np.ndarray]]) -> None:
            self.feeds = iter(feeds)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.feeds, None)

    log = logging.getLogger()
    level = log.level
    # it proposes what has been done
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # weights beside the file, as PyTorch exports them, are not found by what follows
            whole = target.with_suffix(".whole.onnx")
            onnx.save(onnx.load(str(source)), str(whole))
            # folds batch normalisation into convolutions, so that these are quantised with it
            prepared = target.with_suffix(".prepared.onnx")
            quant_pre_process(str(whole), str(prepared), skip_symbolic_shape=True)
            names = [each.name for each in onnx.load(str(prepared)).graph.input]
            quantize_static(
                str(prepared),
                str(target),
                Once([dict(zip(names, arrays, strict=True)) for arrays in calls]),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
    finally:
        log.setLevel(level)
