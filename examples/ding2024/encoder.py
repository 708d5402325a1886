"""Binary encoder in the shape of ResNet-18, with a real-valued shortcut around every convolution."""

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn

from tvm_bnn.examples.ding2024.config import STEMS
from tvm_bnn.nn import BinaryConv2d, RPReLU, ThresholdSign


class Stem(nn.Sequential):
    """Float convolution of stride 2, BN, RPReLU, max-pooling of stride 2: image -> [N, width, H/4, W/4]."""

    def __init__(self, width: int, kind: str):
        kernel = STEMS[kind]
        super().__init__()
        self.conv = nn.Conv2d(3, width, kernel, stride=2, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.activation = RPReLU(width)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)


class Downsample(nn.Sequential):
    """Shortcut that halves the resolution: 2x2 average, sign, binary 1x1 convolution, BN."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.pool = nn.AvgPool2d(2)
        self.sign = ThresholdSign(inputs)
        self.conv = BinaryConv2d(inputs, outputs, 1)
        self.norm = nn.BatchNorm2d(outputs)


class Unit(nn.Module):
    """RPReLU(BN(BinaryConv3x3(sign(x))) + shortcut(x)): one convolution, one shortcut (Bi-Real Net, section 3.1).

    downsample : (inputs, outputs) -> the shortcut where the stride is 2.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int = 1, downsample: Callable[[int, int], nn.Module] = Downsample
    ):
        super().__init__()
        self.sign = ThresholdSign(inputs)
        self.conv = BinaryConv2d(inputs, outputs, 3, stride, 1)
        self.norm = nn.BatchNorm2d(outputs)
        self.shortcut = downsample(inputs, outputs) if stride == 2 else nn.Identity()
        self.activation = RPReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(self.sign(x))) + self.shortcut(x))


class Encoder(nn.Module):
    """Image [N, 3, H, W] -> four feature maps of width * (1, 2, 4, 8) channels at 1/4, 1/8, 1/16 and 1/32."""

    def __init__(self, width: int, stem: str):
        super().__init__()
        self.stem = Stem(width, stem)
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        self.stages = nn.ModuleList(
            nn.Sequential(Unit(inputs, outputs, 1 if index == 0 else 2), *(Unit(outputs, outputs) for _ in range(3)))
            for index, (inputs, outputs) in enumerate(pairwise(widths))
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        features = [self.stem(image)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features[1:]
