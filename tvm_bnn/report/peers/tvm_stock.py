"""TVM as it comes, in float32: its own importer, its default pipeline for the processor, no tuning.

That pipeline fuses operators and leaves their loops as they are written, so that a convolution takes a hundred times
what it could and one thread; a network of some size takes half a minute.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
import tvm
from torch import Tensor, nn
from tvm import relax
from tvm.relax.frontend.torch import from_exported_program

from tvm_bnn.report.peers.peer import FloatNetwork, Peer, Run
from tvm_bnn.report.pool import own_pool
from tvm_bnn.targets import Target, host


def build(module: nn.Module, inputs: tuple[Tensor, ...], target: Target) -> Any:
    """The network, exported with these inputs, as an executable of TVM's."""
    with warnings.catch_warnings():
        # of PyTorch's and TVM's own making
        warnings.simplefilter("ignore")
        imported = from_exported_program(torch.export.export(module, inputs))
    return tvm.compile(imported, target=tvm.target.Target(target.config()))


def prepare(network: FloatNetwork, threads: int) -> Run:
    """The network built for this processor; it runs in a thread of its own, which has TVM's workers."""
    machine = relax.VirtualMachine(build(network.module, network.inputs, host(threads)), tvm.cpu())
    # in place: PyTorch's memory is aligned as TVM wants it
    arguments = [tvm.runtime.from_dlpack(array) for array in network.arrays()]
    pool = own_pool(threads)

    def run() -> np.ndarray:
        result = pool.submit(machine["main"], *arguments).result()
        return (result if isinstance(result, tvm.runtime.Tensor) else result[0]).numpy()

    return run


PEER = Peer("tvm-stock", ("tvm", "torch"), prepare, compiles=True, asks_cpuid=False)
