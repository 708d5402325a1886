"""What a peer is: another system that runs a float network here."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tvm_bnn.report.kernel_cases import Layer
from tvm_bnn.report.peers import qdq
from tvm_bnn.report.timing import Seconds

INSTALL = "pip install 'tvm_bnn[peers]'"

Run = Callable[[], np.ndarray]


@dataclass(frozen=True)
class FloatNetwork:
    """A float network for peers to run.

    module : in eval mode, with one output.
    inputs : arguments of one call.
    folder : for files that peers need; its owner removes it.
    """

    module: nn.Module
    inputs: tuple[Tensor, ...]
    folder: Path

    @cached_property
    def onnx(self) -> Path:
        """The network as an ONNX file, exported once for all peers; its inputs have static shapes."""
        path = self.folder / "network.onnx"
        log = logging.getLogger("torch.onnx")
        level = log.level
        # it warns of packages that none of these networks needs, and of PyTorch's own plans
        log.setLevel(logging.ERROR)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.onnx.export(self.module, self.inputs, str(path), dynamo=True, verbose=False)
        finally:
            log.setLevel(level)
        return path

    @cached_property
    def quantized(self) -> Path:
        """The ONNX file in int8, made once for all peers; see `qdq`."""
        path = self.folder / "network.int8.onnx"
        qdq.quantize(self.onnx, path, self.arrays())
        return path

    def arrays(self) -> list[np.ndarray]:
        """The inputs as numpy arrays on the same memory."""
        return [value.numpy() for value in self.inputs]


@dataclass(frozen=True)
class Peer:
    """One row of the table of peers.

    name : with the precision, such as "onnxruntime-fp32".
    modules : what must be importable.
    prepare : (network, threads) -> a function that runs the network once on its inputs, and gives the result.
    """

    name: str
    modules: tuple[str, ...]
    prepare: Callable[[FloatNetwork, int], Run]

    def missing(self) -> str | None:
        """Why the peer cannot take part here; None where it can."""
        return _missing(self.modules)


@dataclass(frozen=True)
class BinaryPeer:
    """A peer that has binary convolutions.

    prepare : (layer, whether its result is float with a residual, threads) -> a function that runs the layer once and
        returns the seconds it took; raises RuntimeError where the peer has no such layer.
    """

    name: str
    modules: tuple[str, ...]
    prepare: Callable[[Layer, bool, int], Callable[[], Seconds]]

    def missing(self) -> str | None:
        """Why the peer cannot take part here; None where it can."""
        return _missing(self.modules)


def _missing(modules: Iterable[str]) -> str | None:
    absent = [module for module in modules if importlib.util.find_spec(module) is None]
    return f"{', '.join(absent)} not installed; try {INSTALL}" if absent else None
