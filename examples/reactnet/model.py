"""Float stem -> sixteen binary 3x3 convolutions, each with a shortcut of its own -> mean -> float classifier."""

from itertools import pairwise

from torch import Tensor, nn

from tvm_bnn.examples.ding2024.encoder import Unit
from tvm_bnn.examples.ding2024.inputs import photograph
from tvm_bnn.examples.ding2024.model import IMAGENET
from tvm_bnn.examples.ding2024.seeding import seed_weights
from tvm_bnn.examples.ding2024.twin import make_float

SIZE = (224, 224)


class Downsample(nn.Sequential):
    """Shortcut that halves the resolution: 2x2 average, float 1x1 convolution, BN."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.pool = nn.AvgPool2d(2)
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)


class ReActNet18(nn.Module):
    """Image [N, 3, H, W] float32, normalised -> logits float32 [N, classes]; H and W are multiples of 32.

    width : channels of the first stage; each later one has twice as many.
    preprocessing : plain data. A pixel value p in 0..255 of channel c becomes (p * scale - mean[c]) / std[c].
    """

    def __init__(self, width: int = 64, classes: int = 1000):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(width), nn.MaxPool2d(3, 2, 1)
        )
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        self.stages = nn.Sequential(
            *(
                self._stage(inputs, outputs, 1 if index == 0 else 2)
                for index, (inputs, outputs) in enumerate(pairwise(widths))
            )
        )
        self.head = nn.Linear(widths[-1], classes)
        self.preprocessing = dict(IMAGENET)

    @staticmethod
    def _stage(inputs: int, outputs: int, stride: int) -> nn.Module:
        first = Unit(inputs, outputs, stride, Downsample)
        return nn.Sequential(first, *(Unit(outputs, outputs) for _ in range(3)))

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(image)).mean((2, 3)))


def reactnet18(seed: int = 0, width: int = 64) -> ReActNet18:
    """The network with 1,000 classes in eval mode, with seeded random weights."""
    return seed_weights(ReActNet18(width), seed).eval()


def float_twin(seed: int = 0, width: int = 64) -> ReActNet18:
    """The same network with nothing binary, in eval mode, with seeded weights; see `make_float`."""
    twin = ReActNet18(width)
    make_float(twin)
    return seed_weights(twin, seed).eval()


def example_inputs(model: ReActNet18, size: tuple[int, int] = SIZE, seed: int = 0) -> tuple[Tensor]:
    """The arguments of one call: a float32 image [1, 3, H, W], preprocessed as the model asks; size : (H, W)."""
    return (photograph(model.preprocessing, size, seed),)
