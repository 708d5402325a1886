"""A ResNet whose residual blocks are decomposed into K binary branches."""

import torch.nn.functional as F
from torch import Tensor, nn

from tvm_bnn.examples.groupnet.config import GroupNetConfig
from tvm_bnn.nn import BinaryConv2d, SoftGate, WeightedMerge

#: Dilation of the first branch in the third and in the fourth stage; each further branch has one more.
FIRST_RATES = (2, 6)


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, dilation: int = 1) -> BinaryConv2d:
    """Sign, frame of +1, convolution with sign(w) * mean|w|, one scale a layer."""
    padding = kernel // 2 * dilation
    return BinaryConv2d(
        inputs, outputs, kernel, stride, padding, dilation, padding_value=1, binarize_input=True, scale="layer"
    )


class Branch(nn.Module):
    """sign - conv - ReLU - BN, plus a real-valued shortcut; twice."""

    def __init__(self, inputs: int, outputs: int, stride: int, dilation: int):
        super().__init__()
        self.conv1, self.norm1 = conv(inputs, outputs, 3, stride, dilation), nn.BatchNorm2d(outputs)
        self.conv2, self.norm2 = conv(outputs, outputs, 3, 1, dilation), nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        y = self.norm1(F.relu(self.conv1(x))) + shortcut
        return self.norm2(F.relu(self.conv2(y))) + y


class Block(nn.Module):
    """K maps -> K branches, one for each -> K maps. The 1x1 convolution of the shortcuts is shared by the branches.

    rates : the dilation of each branch.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, rates: list[int], gate: bool):
        super().__init__()
        self.gate = SoftGate() if gate else nn.Identity()
        self.branches = nn.ModuleList(Branch(inputs, outputs, stride, rate) for rate in rates)
        self.down = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.down.extend([conv(inputs, outputs, 1, stride), nn.ReLU(), nn.BatchNorm2d(outputs)])

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [branch(x, self.down(x)) for branch, x in zip(self.branches, self.gate(maps), strict=True)]


class Mean(nn.Module):
    """The mean of K maps of one shape."""

    def forward(self, maps: list[Tensor]) -> Tensor:
        total = maps[0]
        for each in maps[1:]:
            total = total + each
        return total / len(maps) if len(maps) > 1 else total


class Backbone(nn.Module):
    """Image [N, 3, H, W] -> [N, 8 * width, H/32, W/32], with BPAC [N, 8 * width, H/8, W/8]."""

    def __init__(self, config: GroupNetConfig):
        super().__init__()
        self.branches = config.branches
        self.stem = nn.Sequential(
            nn.Conv2d(3, config.width, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(config.width),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )
        self.blocks = nn.Sequential(*self._blocks(config))
        self.merge = WeightedMerge(config.branches) if config.merge == "scalars" else Mean()

    @staticmethod
    def _blocks(config: GroupNetConfig) -> list[nn.Module]:
        blocks: list[nn.Module] = []
        before = config.width
        for stage, count in enumerate(config.blocks):
            atrous = config.bpac and stage >= 2
            rates = [FIRST_RATES[stage - 2] + branch if atrous else 1 for branch in range(config.branches)]
            for index in range(count):
                stride = 2 if stage and not index and not atrous else 1
                blocks.append(Block(before, config.width << stage, stride, rates, config.gate and bool(blocks)))
                before = config.width << stage
        return blocks

    def forward(self, image: Tensor) -> Tensor:
        return self.merge(self.blocks([self.stem(image)] * self.branches))
