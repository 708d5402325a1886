"""What the float twin makes of the training images, for a binary network to learn beside the truth.

The twin's probabilities say more than the truth does: which pixels are doubtful, and between which classes (Hinton et
al. 2015, with temperature 1). They are taken once an image, before the last upsampling, where they are small; the
random flip of a training image flips them too, its random light leaves them as they are.
"""

import numpy as np
import torch
from torch import Tensor

from tvm_bnn.examples.ding2024.accuracy import normalise
from tvm_bnn.examples.ding2024.model import Ding2024


class SoftLabels:
    """The class probabilities of a network, in eval mode, on a quarter of the size of each image."""

    def __init__(self, twin: Ding2024):
        self.twin = twin
        self.known: dict[int, Tensor] = {}

    def __call__(self, index: int, image: np.ndarray) -> Tensor:
        """Image uint8 [H, W, 3] number `index` -> float16 [classes, H/4, W/4]."""
        if index not in self.known:
            with torch.no_grad():
                pixels = normalise(image, self.twin.preprocessing).to(self.twin.head.weight.device)
                logits = self.twin.coarse(pixels)
            self.known[index] = logits[0].softmax(dim=0).half().cpu()
        return self.known[index]
