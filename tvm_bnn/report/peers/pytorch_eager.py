"""PyTorch, operator by operator, in float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from tvm_bnn.report.peers.peer import FloatNetwork, Peer, Run, first_of


def prepare(network: FloatNetwork, threads: int) -> Run:
    """The module as it is."""
    return module_run(network.module, network.inputs, threads)


def module_run(module: Callable[..., Tensor], inputs: Sequence[Tensor], threads: int) -> Run:
    """A call of a module; the number of threads holds for the whole process, and is set for every run."""

    def run() -> np.ndarray:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.inference_mode():
                return first_of(module(*inputs)).numpy()
        finally:
            torch.set_num_threads(before)

    return run


PEER = Peer("pytorch-eager", ("torch",), prepare)
