"""What the networks share: a mark for binary layers, trained-looking statistics, and the frame of a ResNet-18."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class Binary:
    """Mix-in: a layer that its author means to be binary."""


def binary_paths(model: nn.Module) -> list[str]:
    """Paths of the layers that are meant to be binary."""
    return [path for path, part in model.named_modules() if isinstance(part, Binary)]


def settle(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give a fresh model what training leaves behind: statistics, scales of both signs, slopes and shifts.

    Parameters that are still 0 (shifts, thresholds) become small numbers.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor: Tensor, mean: float, deviation: float) -> Tensor:
        return tensor.normal_(mean, deviation, generator=generator)

    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d | nn.BatchNorm1d):
                assert part.running_mean is not None and part.running_var is not None
                normal(part.weight, 0.6, 0.5)
                normal(part.running_mean, 0, 1)
                part.running_var.uniform_(0.5, 4, generator=generator)
            if isinstance(part, nn.PReLU):
                normal(part.weight, 0.15, 0.25)
            if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                normal(part.weight, 0, 0.1)
        for parameter in model.parameters():
            if not parameter.any():
                normal(parameter, 0, 0.2)
    return model.eval()


class ResNet18(nn.Module):
    """Stem, four stages of two blocks, classifier.

    block : called with (channels in, channels out, stride). count : of the blocks of a stage; 1 makes it a ResNet-10.
    """

    def __init__(
        self, block: Callable[[int, int, int], nn.Module], width: int = 16, classes: int = 10, count: int = 2
    ) -> None:
        super().__init__()
        self.count = count
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1, self.maxpool = nn.BatchNorm2d(width), nn.MaxPool2d(3, 2, 1)
        widths = [width, 2 * width, 4 * width, 8 * width]
        self.layers = nn.Sequential(*self._blocks(block, widths))
        self.fc = nn.Linear(widths[-1], classes)

    def _blocks(self, block: Callable[[int, int, int], nn.Module], widths: Sequence[int]) -> list[nn.Module]:
        blocks, before = [], widths[0]
        for stage, width in enumerate(widths):
            blocks.append(block(before, width, 1 if stage == 0 else 2))
            blocks += [block(width, width, 1) for _ in range(self.count - 1)]
            before = width
        return blocks

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(self.maxpool(self.bn1(self.conv1(x))))
        return self.fc(x.mean((2, 3)))


def pooled_shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Average pooling and a real 1x1 convolution where a block changes its shape."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.AvgPool2d(2, stride), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))


def image(*shape: int) -> tuple[Tensor, ...]:
    """A seeded example input."""
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(1)),)
