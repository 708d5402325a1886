"""ReActNet-18 is of its size, its twin does the same work, and its seeds decide all."""

import torch

from tvm_bnn.examples.ding2024 import count_macs
from tvm_bnn.examples.reactnet import example_inputs, float_twin, reactnet18
from tvm_bnn.nn import BinaryConv2d, RPReLU, ThresholdSign

SMALL = (64, 96)


def test_the_network_is_of_the_stated_size_and_its_twin_does_the_same_work():
    model, twin = reactnet18(), float_twin()
    macs = count_macs(model, example_inputs(model))
    # a ResNet-18, whose 1x1 shortcuts read a quarter of the pixels here as there
    assert 1.81e9 < macs < 1.82e9
    assert count_macs(twin, example_inputs(twin)) == macs
    assert not {type(module) for module in twin.modules()} & {BinaryConv2d, RPReLU, ThresholdSign}


def test_logits_differ_between_classes_and_between_images():
    model = reactnet18(width=16)
    with torch.no_grad():
        first, other = (model(*example_inputs(model, SMALL, seed)) for seed in (0, 1))
    assert first.shape == (1, 1000) and first.dtype == torch.float32
    assert first.isfinite().all() and len(first.unique()) > 900
    assert not torch.equal(first, other)


def test_seeds_decide_everything():
    first, again, other = (reactnet18(seed, width=16).state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(first[name], again[name]) for name in first)
    changed = {name for name in first if not torch.equal(first[name], other[name])}
    assert {name for name in first if not name.endswith("num_batches_tracked")} == changed
