"""Every module goes through torch.export, and computes the same afterwards."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from tvm_bnn.nn import (
    ATTENTIONS,
    ESTIMATORS,
    UPSAMPLINGS,
    BinaryAttention,
    BinaryConv2d,
    BinaryConvTranspose2d,
    BinaryMask,
    ParallelUpsample,
    RPReLU,
    Sign,
    SoftGate,
    ThresholdSign,
    WeightedMerge,
)


class OnBranches(nn.Module):
    """Gives one map and its negative to a module that takes a list."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        return self.module([x, -x])


MODULES: dict[str, Callable[[], nn.Module]] = {
    **{f"sign-{name}": partial(Sign, name) for name in ESTIMATORS},
    **{f"conv-pad{value}": partial(BinaryConv2d, 8, 4, 3, 2, 1, padding_value=value) for value in (0, 1, -1)},
    "conv-binarize": partial(BinaryConv2d, 8, 4, 3, groups=2, bias=True, binarize_input=True, detach_scale=False),
    "conv-transpose": partial(BinaryConvTranspose2d, 8, 4, 4, 2, 1),
    "threshold": partial(ThresholdSign, 8),
    "rprelu": partial(RPReLU, 8),
    "mask": BinaryMask,
    "merge": lambda: OnBranches(WeightedMerge(2)),
    "gate": lambda: OnBranches(SoftGate()),
    **{f"upsample-{mode}": partial(ParallelUpsample, 8, 2, mode) for mode in UPSAMPLINGS},
    "attention-channel": lambda: OnBranches(BinaryAttention("channel", 8, 2)),
    "attention-spatial": lambda: OnBranches(BinaryAttention("spatial", 8, 2)),
    "attention-token": lambda: OnBranches(BinaryAttention("token", 8, 2)),
    "attention-token-reduced": lambda: OnBranches(BinaryAttention("token", 8, 2, reduction=2)),
}


def test_every_attention_is_listed():
    assert {f"attention-{kind}" for kind in ATTENTIONS} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_export(name: str):
    torch.manual_seed(0)
    module, x = MODULES[name]().eval(), torch.randn(1, 8, 6, 8)
    exported = torch.export.export(module, (x,)).run_decompositions()
    torch.testing.assert_close(exported.module()(x), module(x))
