"""Group-Net: K binary branches stand for each residual block of a ResNet.

Float stem -> blocks of K branches, mixed by soft gates -> merged -> classifier or segmentation head.
"""

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor, nn

from tvm_bnn.examples.ding2024.inputs import photograph
from tvm_bnn.examples.ding2024.model import IMAGENET
from tvm_bnn.examples.ding2024.seeding import seed_weights
from tvm_bnn.examples.ding2024.twin import make_float
from tvm_bnn.examples.groupnet.backbone import Backbone
from tvm_bnn.examples.groupnet.config import DEPTHS, GroupNetConfig
from tvm_bnn.examples.groupnet.heads import BinaryDeepLab, Classifier, ZeroOne


def _head(config: GroupNetConfig) -> nn.Module:
    channels = 8 * config.width
    if config.head == "classifier":
        return Classifier(channels, config.classes)
    if config.head == "fcn":
        return nn.Conv2d(channels, config.classes, 1)
    return BinaryDeepLab(channels, config.classes, config.branches)


class GroupNet(nn.Module):
    """Image [N, 3, H, W] float32, normalised -> logits float32 [N, classes]; for segmentation, a class map.

    H and W are multiples of 32. See GroupNetConfig for the options.
    preprocessing : plain data. A pixel value p in 0..255 of channel c becomes (p * scale - mean[c]) / std[c].
    """

    def __init__(self, config: GroupNetConfig):
        super().__init__()
        self.config = config
        self.backbone, self.head = Backbone(config), _head(config)
        self.preprocessing = dict(IMAGENET)

    def forward(self, image: Tensor) -> Tensor:
        logits = self.head(self.backbone(image))
        if self.config.head == "classifier":
            return logits
        logits = F.interpolate(logits, size=image.shape[2:], mode="bilinear", align_corners=True)
        return logits.argmax(dim=1) if self.config.argmax else logits


def build(config: GroupNetConfig, seed: int = 0) -> GroupNet:
    """The network of that configuration in eval mode, with seeded random weights."""
    return seed_weights(GroupNet(config), seed).eval()


def groupnet(depth: int = 18, branches: int = 5, seed: int = 0) -> GroupNet:
    """The classifier on a ResNet-18 or ResNet-34, 1,000 classes, 224x224."""
    return build(GroupNetConfig(DEPTHS[depth], branches), seed)


def groupnet_segmentation(depth: int = 18, branches: int = 5, head: str = "deeplab", seed: int = 0) -> GroupNet:
    """Segmentation into 19 classes at 256x512, with BPAC."""
    config = GroupNetConfig(DEPTHS[depth], branches, bpac=True, head=head, classes=19, input_size=(256, 512))
    return build(config, seed)


def float_twin(config: GroupNetConfig, seed: int = 0) -> GroupNet:
    """The network of that configuration with K=1 and nothing binary, in eval mode, with seeded weights."""
    twin = GroupNet(replace(config, branches=1))
    make_float(twin, {ZeroOne: nn.Identity})
    return seed_weights(twin, seed).eval()


def example_inputs(model: GroupNet, size: tuple[int, int] | None = None, seed: int = 0) -> tuple[Tensor]:
    """The arguments of one call: a float32 image [1, 3, H, W], preprocessed as the model asks; size : (H, W)."""
    return (photograph(model.preprocessing, size or model.config.input_size, seed),)
