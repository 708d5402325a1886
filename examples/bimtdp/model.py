"""One binary encoder, a binary decoder a task, binarised cross-talk between the tasks, a float head a task.

No code of the paper is public. Encoder and decoders are those of the network of Ding et al. 2024; the cross-talk is
that of PAD-Net (arXiv 1805.04409), whose messages pass a gate of their own, with both convolutions binary and the gate
in {0, 1}. What the paper adds for training alone (information bottleneck, distillation) is not here.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tvm_bnn.examples.ding2024.config import Ding2024Config
from tvm_bnn.examples.ding2024.decoder import Decoder
from tvm_bnn.examples.ding2024.encoder import Encoder
from tvm_bnn.examples.ding2024.inputs import photograph
from tvm_bnn.examples.ding2024.model import IMAGENET
from tvm_bnn.examples.ding2024.seeding import seed_weights
from tvm_bnn.examples.ding2024.twin import make_float
from tvm_bnn.nn import BinaryConv2d, BinaryMask, RPReLU, ThresholdSign

SIZE = (256, 512)
TASKS = ("segmentation", "depth", "normals")


class Message(nn.Module):
    """What one task tells another: BN(BinaryConv3x3(bits)) where relu(sign(BN(BinaryConv1x1(bits)))) is 1, else 0."""

    def __init__(self, channels: int):
        super().__init__()
        self.sign = ThresholdSign(channels)
        self.conv, self.norm = BinaryConv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.gate = nn.Sequential(BinaryConv2d(channels, channels, 1), nn.BatchNorm2d(channels), BinaryMask())

    def forward(self, x: Tensor) -> Tensor:
        bits = self.sign(x)
        return self.norm(self.conv(bits)) * self.gate(bits)


class CrossTalk(nn.Module):
    """A task's own map plus a message from each other task."""

    def __init__(self, channels: int, others: int):
        super().__init__()
        self.messages = nn.ModuleList(Message(channels) for _ in range(others))
        self.activation = RPReLU(channels)

    def forward(self, own: Tensor, others: list[Tensor]) -> Tensor:
        for message, other in zip(self.messages, others, strict=True):
            own = own + message(other)
        return self.activation(own)


class BiMTDP(nn.Module):
    """Image [N, 3, H, W] float32, normalised -> (class map, depth, normals); H and W are multiples of 32.

    Class map int64 [N, H, W]; depth float32 [N, 1, H, W] in 0..1; normals float32 [N, 3, H, W] of length 1.
    preprocessing : plain data. A pixel value p in 0..255 of channel c becomes (p * scale - mean[c]) / std[c].
    """

    def __init__(self, config: Ding2024Config):
        super().__init__()
        self.config = config
        channels = config.decoder_channels
        self.encoder = Encoder(config.width, config.stem)
        self.decoders = nn.ModuleDict({task: Decoder(config) for task in TASKS})
        self.crosstalk = nn.ModuleDict({task: CrossTalk(channels, len(TASKS) - 1) for task in TASKS})
        outputs = dict(zip(TASKS, (config.classes, 1, 3), strict=True))
        self.heads = nn.ModuleDict({task: nn.Conv2d(channels, outputs[task], 1) for task in TASKS})
        self.preprocessing = dict(IMAGENET)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.encoder(image)
        own = {task: self.decoders[task](features) for task in TASKS}
        made = []
        for task in TASKS:
            mixed = self.crosstalk[task](own[task], [own[other] for other in TASKS if other != task])
            made.append(F.interpolate(self.heads[task](mixed), size=image.shape[2:], mode="bilinear"))
        classes, depth, normals = made
        length = torch.sqrt((normals * normals).sum(1, keepdim=True) + 1e-6)
        return classes.argmax(dim=1), torch.sigmoid(depth), normals / length


def _config(width: int, decoder_channels: int) -> Ding2024Config:
    return Ding2024Config(width, decoder_channels, attention="none", input_size=SIZE)


def bimtdp(seed: int = 0, width: int = 64, decoder_channels: int = 64) -> BiMTDP:
    """The network with 19 classes in eval mode, with seeded random weights."""
    return seed_weights(BiMTDP(_config(width, decoder_channels)), seed).eval()


def float_twin(seed: int = 0, width: int = 64, decoder_channels: int = 64) -> BiMTDP:
    """The same network with nothing binary, in eval mode, with seeded weights; see `make_float`."""
    twin = BiMTDP(_config(width, decoder_channels))
    make_float(twin)
    return seed_weights(twin, seed).eval()


def example_inputs(model: BiMTDP, size: tuple[int, int] = SIZE, seed: int = 0) -> tuple[Tensor]:
    """The arguments of one call: a float32 image [1, 3, H, W], preprocessed as the model asks; size : (H, W)."""
    return (photograph(model.preprocessing, size, seed),)
