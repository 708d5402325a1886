"""Factories of networks small enough to be measured in a test."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tvm_bnn.nn import BinaryConv2d, Sign

CHANNELS = 32


class Small(nn.Module):
    """Float stem, one more layer, float head, at half the size; logits of two classes. Odd sizes are refused."""

    def __init__(self, *layer: nn.Module) -> None:
        super().__init__()
        stem = nn.Sequential()
        stem.add_module("conv", nn.Conv2d(3, CHANNELS, 3, 2, 1))
        self.encoder = nn.Sequential()
        self.encoder.add_module("stem", stem)
        self.encoder.add_module("layer", nn.Sequential(*layer))
        self.norm, self.head = nn.BatchNorm2d(CHANNELS, affine=False), nn.Conv2d(CHANNELS, 2, 1, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        if any(extent % 2 for extent in image.shape[2:]):
            raise ValueError("both sides of the image must be even")
        coarse = self.head(self.norm(self.encoder(image)))
        return F.interpolate(coarse, size=image.shape[2:], mode="bilinear", align_corners=False)


def twin() -> nn.Module:
    """The float one."""
    torch.manual_seed(0)
    return Small(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)).eval()


def binary() -> nn.Module:
    """The binary one."""
    torch.manual_seed(0)
    return Small(Sign(), BinaryConv2d(CHANNELS, CHANNELS, 3, padding=1)).eval()
