"""The float twin does the same work as the binary network, in float."""

from dataclasses import replace

import torch

from tvm_bnn.examples.ding2024 import Ding2024Config, build, count_macs, example_inputs, float_twin
from tvm_bnn.nn import BinaryConv2d, BinaryConvTranspose2d, BinaryMask, RPReLU, ThresholdSign


def test_twin_has_the_macs_of_one_branch(variant: Ding2024Config):
    binary, twin = build(replace(variant, branches=1)), float_twin(variant)
    assert count_macs(twin, example_inputs(twin)) == count_macs(binary, example_inputs(binary))


def test_twin_holds_nothing_binary(variant: Ding2024Config):
    twin = float_twin(variant)
    kinds = {type(module) for module in twin.modules()}
    assert not kinds & {BinaryConv2d, BinaryConvTranspose2d, BinaryMask, RPReLU, ThresholdSign}
    with torch.no_grad():
        logits = twin(*example_inputs(twin))
    assert logits.isfinite().all() and len(logits.unique()) > 1000


def test_twin_is_seeded(small: Ding2024Config):
    first, again, other = (float_twin(small, seed).head.weight for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
