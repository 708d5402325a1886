"""Group-Net is built as its authors describe it."""

import pytest
import torch
from torch import nn

from tvm_bnn.examples.groupnet import GroupNetConfig, build, example_inputs, groupnet, groupnet_segmentation
from tvm_bnn.examples.groupnet.heads import ZeroOne
from tvm_bnn.nn import BinaryConv2d, SoftGate, WeightedMerge

SMALL = GroupNetConfig((1, 1, 1, 1), 3, 8, classes=5)


def convs(model: nn.Module) -> dict[str, BinaryConv2d]:
    return {path: module for path, module in model.named_modules() if isinstance(module, BinaryConv2d)}


@pytest.mark.parametrize(("depth", "layers"), [(18, 16), (34, 32)])
def test_depth_and_branches(depth: int, layers: int):
    # and one 1x1 convolution a stage but the first, shared by the branches
    assert len(convs(groupnet(depth, branches=2))) == 2 * layers + 3


def test_convolutions_pad_with_one_and_have_one_scale_a_layer():
    for conv in convs(build(SMALL)).values():
        assert (conv.padding_value, conv.scale, conv.binarize_input) == (1, "layer", True)


def test_atrous_branches_have_a_dilation_each_and_keep_the_resolution():
    model = groupnet_segmentation(branches=5, head="fcn")
    dilations = [[branch.conv2.dilation[0] for branch in block.branches] for block in model.backbone.blocks]
    assert dilations == [[1] * 5] * 4 + [[2, 3, 4, 5, 6]] * 2 + [[6, 7, 8, 9, 10]] * 2
    small = build(GroupNetConfig((1, 1, 1, 1), 2, 8, bpac=True, head="fcn", classes=5))
    with torch.no_grad():
        assert small.backbone(*example_inputs(small, (64, 96))).shape == (1, 64, 8, 12)


def test_gates_and_merges():
    gated, plain = build(SMALL), build(GroupNetConfig((1, 1, 1, 1), 3, 8, gate=False, merge="scalars", classes=5))
    assert [isinstance(block.gate, SoftGate) for block in gated.backbone.blocks] == [False, True, True, True]
    assert not any(isinstance(module, SoftGate) for module in plain.modules())
    assert isinstance(plain.backbone.merge, WeightedMerge)


def test_bits_of_the_pyramid_are_zero_or_one_and_pass_a_gradient_within():
    x = torch.tensor([-1.0, 0.25, 0.75, 2.0], requires_grad=True)
    bits = ZeroOne()(x)
    bits.sum().backward()
    assert bits.tolist() == [0, 0, 1, 1] and x.grad is not None and x.grad.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "unet"}, "head is 'unet'; accepted: classifier, fcn, deeplab"),
        ({"merge": "sum"}, "merge is 'sum'; accepted: mean, scalars"),
        ({"branches": 0}, "must be at least 1"),
    ],
)
def test_unknown_names_are_refused(options, message: str):
    with pytest.raises(ValueError, match=message):
        GroupNetConfig(**options)
