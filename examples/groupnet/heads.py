"""What Group-Net's map is read by: a classifier, or one of two heads for segmentation."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tvm_bnn.examples.groupnet.backbone import Mean
from tvm_bnn.nn import BinaryConv2d

#: Dilations of the pyramid; 1 stands for a 1x1 convolution.
RATES = (1, 6, 12, 18)
#: Channels of the pyramid are a quarter of those that it reads.
NARROWER = 4


class ZeroOne(nn.Module):
    """round(clamp(x, 0, 1)): 1 where x > 1/2, else 0. The gradient is that of the clamp."""

    def forward(self, x: Tensor) -> Tensor:
        real = torch.clamp(x, 0, 1)
        return real + (torch.round(real) - real).detach()


class Atrous(nn.Module):
    """K binary convolutions of one dilation on {0, 1}, each with ReLU and BN, averaged; padded with 0."""

    def __init__(self, inputs: int, outputs: int, rate: int, branches: int):
        super().__init__()
        kernel, padding = (1, 0) if rate == 1 else (3, rate)
        self.bits = ZeroOne()
        self.convs = nn.ModuleList(
            BinaryConv2d(inputs, outputs, kernel, 1, padding, rate, scale="layer") for _ in range(branches)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _ in range(branches))
        self.merge = Mean()

    def forward(self, x: Tensor) -> Tensor:
        bits = self.bits(x)
        return self.merge([norm(F.relu(conv(bits))) for conv, norm in zip(self.convs, self.norms, strict=True)])


class Classifier(nn.Module):
    """The mean over the pixels through a linear layer."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.mean((2, 3)))


class BinaryDeepLab(nn.Module):
    """A binary pyramid: dilated convolutions and the mean of the map, then a binary projection, float logits."""

    def __init__(self, channels: int, classes: int, branches: int):
        super().__init__()
        inner = channels // NARROWER
        self.pyramid = nn.ModuleList(Atrous(channels, inner, rate, branches) for rate in RATES)
        self.image = Atrous(channels, inner, 1, branches)
        self.project = Atrous((len(RATES) + 1) * inner, inner, 1, 1)
        self.logits = nn.Conv2d(inner, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        whole = self.image(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        return self.logits(self.project(torch.cat([*(part(x) for part in self.pyramid), whole], 1)))
