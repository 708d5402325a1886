"""The binary network for dense prediction of Ding et al. 2024 (arXiv 2405.17776), as a family.

Float stem -> binary encoder -> binary decoder -> float 1x1 head at 1/4 -> bilinear to the input's size -> argmax.
What is public of the paper is its summary; the parts that it leaves open are parameters (see Ding2024Config).
"""

from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from tvm_bnn.examples.ding2024.config import BENCH, Ding2024Config
from tvm_bnn.examples.ding2024.decoder import Decoder
from tvm_bnn.examples.ding2024.encoder import Encoder
from tvm_bnn.examples.ding2024.labels import labels
from tvm_bnn.examples.ding2024.seeding import seed_weights

IMAGENET: dict[str, Any] = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "scale": 1 / 255}


class Ding2024(nn.Module):
    """Image [N, 3, H, W] float32, normalised -> class map int64 [N, H, W], or logits float32 [N, classes, H, W].

    H and W must be multiples of 32; ValueError otherwise.
    preprocessing, class_names, palette : plain data. A pixel value p in 0..255 of channel c becomes
        (p * scale - mean[c]) / std[c]; palette[i] is the colour of class_names[i].
    """

    def __init__(self, config: Ding2024Config):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.width, config.stem)
        self.decoder = Decoder(config)
        self.head = nn.Conv2d(config.decoder_channels, config.classes, 1)
        self.preprocessing = dict(IMAGENET)
        self.class_names = list(labels(config.classes))
        self.palette = [list(colour) for colour in labels(config.classes).values()]

    def coarse(self, image: Tensor) -> Tensor:
        """The logits before they are brought to the size of the image: float32 [N, classes, H/4, W/4]."""
        height, width = image.shape[2:]
        if height % 32 or width % 32:
            raise ValueError(f"the image is {height}x{width}; both must be multiples of 32: pad or resize it")
        return self.head(self.decoder(self.encoder(image)))

    def forward(self, image: Tensor) -> Tensor:
        logits = F.interpolate(self.coarse(image), size=image.shape[2:], mode="bilinear", align_corners=False)
        return logits.argmax(dim=1) if self.config.argmax else logits


def build(config: Ding2024Config, seed: int = 0) -> Ding2024:
    """The network of that configuration in eval mode, with seeded random weights."""
    return seed_weights(Ding2024(config), seed, config.tokens).eval()


def bench(branches: int = 1, stem: str = "3x3", seed: int = 0) -> Ding2024:
    """The network that speed is measured on: width 64, 128 decoder channels, 19 classes, 512x1024."""
    return build(replace(BENCH, branches=branches, stem=stem), seed)


def bench_k3() -> Ding2024:
    """`bench` with three branches."""
    return bench(3)
