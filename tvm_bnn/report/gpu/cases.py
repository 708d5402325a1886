"""What is measured on GPUs: rows of binary convolutions, and networks, each with one image and with several."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from tvm_bnn.examples import ding2024 as ding
from tvm_bnn.report.kernel_cases import WIDE, Kernel, Layer, to_bits, to_float
from tvm_bnn.report.networks import Network

KERNEL_BATCHES = (1, 16)
NETWORK_BATCHES = (1, 8)
SIZES = ((512, 1024), (1024, 2048))
#: Parallel branches of the decoder.
BRANCHES = (1, 3)

KERNELS: tuple[Kernel, ...] = tuple(
    kernel
    for batch in KERNEL_BATCHES
    for size in WIDE
    for layer in (Layer(size, size[2]),)
    for kernel in (to_bits(layer, "bconv3x3", batch), to_float(layer, "bconv3x3", batch=batch))
)


def bench(branches: int, size: tuple[int, int], batch: int) -> Network:
    """The example network, its float twin, and so many images of a size (H, W)."""

    def make() -> tuple[nn.Module, nn.Module, tuple[Tensor, ...]]:
        model = ding.build(dataclasses.replace(ding.BENCH, branches=branches))
        images = [ding.example_inputs(model, size, seed)[0] for seed in range(batch)]
        return model, ding.float_twin(model.config), (torch.cat(images),)

    parts = ["bench", *([f"k{branches}"] if branches > 1 else []), "x".join(map(str, size))]
    return Network("-".join([*parts, *([f"batch{batch}"] if batch > 1 else [])]), make)


NETWORKS: tuple[Network, ...] = tuple(
    bench(branches, size, batch) for branches in BRANCHES for size in SIZES for batch in NETWORK_BATCHES
)
