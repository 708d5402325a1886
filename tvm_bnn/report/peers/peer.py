"""What a peer is: another system that runs a float network here."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from tvm_bnn.report.kernel_cases import Layer
from tvm_bnn.report.peers import qdq
from tvm_bnn.report.timing import Seconds

INSTALL = "pip install 'tvm_bnn[peers]'"

Run = Callable[[], np.ndarray]
Made = TypeVar("Made")


@dataclass(frozen=True)
class Telling:
    """A run of a peer that tells what computes its convolutions.

    ran_on : the peer's own names for these kernels, the most frequent first.
    """

    run: Run
    ran_on: str

    def __call__(self) -> np.ndarray:
        return self.run()


class Elsewhere(Protocol):
    """A run on another machine: its time there counts, without that of the way to it."""

    def __call__(self) -> Any:
        """One run: its result."""

    def seconds(self) -> Seconds:
        """One run, by the other machine's clock."""

    def refresh(self) -> None:
        """Send the inputs again: what lies here in their memory has changed."""


@dataclass(frozen=True)
class FloatNetwork:
    """A float network for peers to run.

    source : a module in eval mode, or the file in which `stored` has left one.
    inputs : arguments of one call. Every run reads them anew: who writes to their memory changes what it is run on.
    folder : for files that peers need, once made; its owner removes it.
    calibration : inputs from which quantisation takes the ranges of values; by default the very ones above, which is
        right for times alone.
    """

    source: nn.Module | Path
    inputs: tuple[Tensor, ...]
    folder: Path
    calibration: Sequence[tuple[Tensor, ...]] = ()

    @cached_property
    def module(self) -> nn.Module:
        """The module, read when it is first asked for."""
        # a file of our own
        return torch.load(self.source, weights_only=False) if isinstance(self.source, Path) else self.source

    def stored(self) -> Path:
        """A file with the module, in the folder."""
        path = self.folder / "network.pt"
        torch.save(self.module, path)
        return path

    @cached_property
    def onnx(self) -> Path:
        """The network as an ONNX file, exported once for all peers; its inputs have static shapes."""
        path = self.folder / "network.onnx"
        if path.exists():
            return path
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
        if not path.exists():
            calls = self.calibration or [self.inputs]
            qdq.quantize(self.onnx, path, [[value.numpy() for value in each] for each in calls])
        return path

    def arrays(self) -> list[np.ndarray]:
        """The inputs as numpy arrays on the same memory."""
        return [value.numpy() for value in self.inputs]


@dataclass(frozen=True)
class Peer:
    """One row of the table of peers.

    name : with the precision, such as "onnxruntime-fp32".
    modules : what must be importable.
    prepare : (network, threads) -> a function that runs the network once on its inputs, and gives the (first) result;
        raises RuntimeError where the peer cannot run it.
    load : loads what importing the modules leaves for later.
    compiles : whether `prepare` compiles, in this process, what a user would compile elsewhere or before; what memory
        an inference needs then cannot be told.
    asks_cpuid : whether the peer asks the processor itself, by CPUID, what it can do; see `tvm_bnn.report.older_cpu`.
    """

    name: str
    modules: tuple[str, ...]
    prepare: Callable[[FloatNetwork, int], Run]
    load: Callable[[], object] | None = None
    compiles: bool = False
    asks_cpuid: bool = True

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


def refresh(run: Callable[[], Any]) -> None:
    """Tell a run that what lies in the memory of its inputs has changed; only an `Elsewhere` does not see it."""
    getattr(run, "refresh", lambda: None)()


def first_of(result: Any) -> Any:
    """The result of a network, or the first of several."""
    return result[0] if isinstance(result, tuple) else result


def prepared(
    makers: Mapping[str, Callable[[], Made]], faults: type[Exception] | tuple[type[Exception], ...] = RuntimeError
) -> tuple[dict[str, Made], dict[str, str]]:
    """What each maker makes, by name, and why some could not: those that raise one of `faults`."""
    made: dict[str, Made] = {}
    left_out: dict[str, str] = {}
    for name, make in makers.items():
        try:
            made[name] = make()
        except faults as error:
            left_out[name] = (str(error).strip().splitlines() or [type(error).__name__])[-1]
    return made, left_out


def _missing(modules: Iterable[str]) -> str | None:
    absent = [module for module in modules if importlib.util.find_spec(module) is None]
    return f"{', '.join(absent)} not installed; try {INSTALL}" if absent else None
