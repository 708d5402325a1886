"""PyTorch compiled by TorchInductor, in float32. It needs a C++ compiler on the machine."""

from __future__ import annotations

import warnings

import torch

from tvm_bnn.report.peers.peer import FloatNetwork, Peer, Run
from tvm_bnn.report.peers.pytorch_eager import module_run


def prepare(network: FloatNetwork, threads: int) -> Run:
    """The module compiled for its inputs, in this process; RuntimeError where PyTorch cannot do that."""
    from torch._inductor import config

    run = module_run(torch.compile(network.module, dynamic=False), network.inputs, threads)
    # weights become constants, which are laid out for the processor and take batch normalisation in
    with config.patch(freezing=True, compile_threads=1), warnings.catch_warnings():
        # of PyTorch's own making
        warnings.simplefilter("ignore")
        try:
            run()
        except RuntimeError as error:
            # what follows the first line is advice on finding faults in PyTorch
            raise RuntimeError(str(error).strip().splitlines()[0]) from error
    return run


PEER = Peer("torch-compile", ("torch",), prepare, compiles=True)
