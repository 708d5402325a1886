"""Multiply-accumulates of one forward pass."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def count_macs(model: nn.Module, inputs: Sequence[Tensor]) -> int:
    """Multiply-accumulates in the convolutions, linear layers and matrix products of model(*inputs).

    Shapes alone are computed, so that large networks cost nothing.
    """
    shapes = [value.to("meta") for value in inputs]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        torch.func.functional_call(model, {name: v.to("meta") for name, v in model.state_dict().items()}, tuple(shapes))
    return counter.get_total_flops() // 2
