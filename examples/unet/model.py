"""Max-pooling on the way down, binary transposed convolutions on the way up, skips joined before the sign."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tvm_bnn.examples.ding2024.inputs import photograph
from tvm_bnn.examples.ding2024.model import IMAGENET
from tvm_bnn.examples.ding2024.seeding import seed_weights
from tvm_bnn.examples.ding2024.twin import make_float
from tvm_bnn.nn import BinaryConv2d, BinaryConvTranspose2d, Sign

SIZE = (256, 512)


class Unit(nn.Sequential):
    """BN - sign - conv - PReLU."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.norm, self.sign = nn.BatchNorm2d(inputs), Sign()
        self.conv = BinaryConv2d(inputs, outputs, 3, padding=1)
        self.activation = nn.PReLU(outputs)


class Up(nn.Module):
    """Twice the size by a transposed convolution, then the skip beside it and two units."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.norm, self.sign = nn.BatchNorm2d(inputs), Sign()
        self.conv = BinaryConvTranspose2d(inputs, outputs, 2, 2)
        self.units = nn.Sequential(Unit(2 * outputs, outputs), Unit(outputs, outputs))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.units(torch.cat([self.conv(self.sign(self.norm(x))), skip], 1))


class UNet(nn.Module):
    """Image [N, 3, H, W] float32, normalised -> class map int64 [N, H, W]; H and W are multiples of 2**(levels - 1).

    width : channels of the first level; each further one has twice as many.
    preprocessing : plain data. A pixel value p in 0..255 of channel c becomes (p * scale - mean[c]) / std[c].
    """

    def __init__(self, width: int, levels: int, classes: int):
        super().__init__()
        widths = [width << level for level in range(levels)]
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.downs = nn.ModuleList(
            nn.Sequential(Unit(inputs, outputs), Unit(outputs, outputs))
            for inputs, outputs in zip([width, *widths], widths, strict=False)
        )
        self.ups = nn.ModuleList(Up(2 * outputs, outputs) for outputs in reversed(widths[:-1]))
        self.head = nn.Conv2d(width, classes, 1)
        self.preprocessing = dict(IMAGENET)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        skips: list[Tensor] = []
        for down in self.downs:
            x = down(F.max_pool2d(x, 2) if skips else x)
            skips.append(x)
        for up, skip in zip(self.ups, reversed(skips[:-1]), strict=True):
            x = up(x, skip)
        return self.head(x).argmax(dim=1)


def unet(seed: int = 0, width: int = 64, levels: int = 4, classes: int = 4) -> UNet:
    """The network in eval mode, with seeded random weights."""
    return seed_weights(UNet(width, levels, classes), seed).eval()


def float_twin(seed: int = 0, width: int = 64, levels: int = 4, classes: int = 4) -> UNet:
    """The same network with nothing binary, in eval mode, with seeded weights; see `make_float`."""
    twin = UNet(width, levels, classes)
    make_float(twin)
    return seed_weights(twin, seed).eval()


def example_inputs(model: UNet, size: tuple[int, int] = SIZE, seed: int = 0) -> tuple[Tensor]:
    """The arguments of one call: a float32 image [1, 3, H, W], preprocessed as the model asks; size : (H, W)."""
    return (photograph(model.preprocessing, size, seed),)
