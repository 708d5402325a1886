"""Group-Net as its authors spell it: the example network with their convolution in the place of ours."""

import torch.nn.functional as F
from torch import nn

from tests.networks.common import Binary
from tvm_bnn.examples.groupnet import GroupNet, GroupNetConfig
from tvm_bnn.nn import BinaryConv2d


class PlusPaddedConv(nn.Conv2d, Binary):
    """Activations x.sign(), padded with +1; weights w.sign() * mean|w|, one scale a layer."""

    def forward(self, x):
        across, down = self.padding[1], self.padding[0]
        x = F.pad(x.sign(), (across, across, down, down), value=1.0)
        w = self.weight.sign() * self.weight.abs().mean()
        return F.conv2d(x, w, None, self.stride, 0, self.dilation, self.groups)


def spell(module):
    """Replace our convolutions inside."""
    for name, child in module.named_children():
        if isinstance(child, BinaryConv2d):
            shape = (child.in_channels, child.out_channels, child.kernel_size, child.stride, child.padding)
            setattr(module, name, PlusPaddedConv(*shape, bias=False))
        else:
            spell(child)


def groupnet18(blocks=(2, 2, 2, 2), branches=5):
    """Small, with 10 classes."""
    model = GroupNet(GroupNetConfig(blocks, branches, width=8, classes=10))
    spell(model)
    return model
