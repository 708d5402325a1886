"""Float convolution -> binary units without batch normalisation -> pixel shuffle -> float convolution + the image."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tvm_bnn.examples.ding2024.inputs import photograph
from tvm_bnn.examples.ding2024.seeding import Source, seed_weights
from tvm_bnn.examples.ding2024.twin import make_float
from tvm_bnn.nn import BinaryConv2d, RPReLU, sign

SIZE = (128, 256)
#: Pixels from 0 to 1.
PLAIN = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0], "scale": 1 / 255}


class RedistributedSign(nn.Module):
    """sign(k * x + b), k and b learned per channel; k may become negative (BiSRNet).

    channels : C; input and output are [N, C, H, W]. Starts as the plain sign.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.slope = nn.Parameter(torch.ones(channels, 1, 1))
        self.shift = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return sign(self.slope * x + self.shift, "tanh")


class Unit(nn.Module):
    """RPReLU(BinaryConv3x3(sign(k * x + b))) + x."""

    def __init__(self, channels: int):
        super().__init__()
        self.sign = RedistributedSign(channels)
        self.conv = BinaryConv2d(channels, channels, 3, padding=1)
        self.activation = RPReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.conv(self.sign(x))) + x


class ShuffleUp(nn.Module):
    """[N, C, H, W] -> [N, C, s*H, s*W]: s*s filters a channel, pixel shuffle, plus the map repeated."""

    def __init__(self, channels: int, scale: int):
        super().__init__()
        self.scale = scale
        self.sign = RedistributedSign(channels)
        self.conv = BinaryConv2d(channels, channels * scale * scale, 3, padding=1)
        self.activation = RPReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.pixel_shuffle(self.conv(self.sign(x)), self.scale)
        return self.activation(y) + F.interpolate(x, scale_factor=float(self.scale), mode="nearest")


class Restoration(nn.Module):
    """Image [N, 3, H, W] float32 from 0 to 1 -> restored image float32 [N, 3, scale * H, scale * W].

    channels : of the units. units : how many there are. scale : 1 (denoising), 2, 3 or 4 (super-resolution).
    preprocessing : plain data. A pixel value p in 0..255 becomes p * scale.
    """

    def __init__(self, channels: int, units: int, scale: int):
        super().__init__()
        self.scale = scale
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.units = nn.Sequential(*(Unit(channels) for _ in range(units)))
        self.up = ShuffleUp(channels, scale) if scale > 1 else nn.Identity()
        self.last = nn.Conv2d(channels, 3, 3, padding=1)
        self.preprocessing = dict(PLAIN)

    def forward(self, image: Tensor) -> Tensor:
        found = self.last(self.up(self.units(self.first(image))))
        if self.scale > 1:
            image = F.interpolate(image, scale_factor=float(self.scale), mode="bilinear", align_corners=False)
        return found + image


def _redistributed(module: RedistributedSign, source: Source) -> None:
    module.slope.copy_(source.normal(module.slope, 0.5, mean=1.0))
    module.shift.copy_(source.normal(module.shift, 0.2))


def _seeded(model: Restoration, seed: int) -> Restoration:
    return seed_weights(model, seed, more={RedistributedSign: _redistributed}).eval()


def restoration(seed: int = 0, channels: int = 64, units: int = 16, scale: int = 2) -> Restoration:
    """The network in eval mode, with seeded random weights."""
    return _seeded(Restoration(channels, units, scale), seed)


def float_twin(seed: int = 0, channels: int = 64, units: int = 16, scale: int = 2) -> Restoration:
    """The same network with nothing binary, in eval mode, with seeded weights; see `make_float`."""
    twin = Restoration(channels, units, scale)
    make_float(twin, {RedistributedSign: nn.Identity})
    return _seeded(twin, seed)


def example_inputs(model: Restoration, size: tuple[int, int] = SIZE, seed: int = 0) -> tuple[Tensor]:
    """The arguments of one call: a float32 image [1, 3, H, W], preprocessed as the model asks; size : (H, W)."""
    return (photograph(model.preprocessing, size, seed),)
