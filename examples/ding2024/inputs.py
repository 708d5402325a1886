"""A seeded input that looks like a photograph to the network."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tvm_bnn.examples.ding2024.model import Ding2024


def _pixels(height: int, width: int, seed: int) -> Tensor:
    """[1, 3, H, W] of whole numbers 0..255: noise whose strength grows with its wavelength, as in photographs."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(1, 3, height, width)
    for cell in [1, 2, 4, 8, 16, 32, 64, 128]:
        size = (max(height // cell, 2), max(width // cell, 2))
        grey = torch.randn(1, 1, *size, generator=generator)
        colour = torch.randn(1, 3, *size, generator=generator)
        wave = (grey + 0.5 * colour) * cell**0.5
        total += F.interpolate(wave, size=(height, width), mode="bilinear", align_corners=False)
    return (128 + 60 * total / total.std()).round().clamp(0, 255)


def example_inputs(model: Ding2024, size: tuple[int, int] | None = None, seed: int = 0) -> tuple[Tensor]:
    """The arguments of one call: a float32 image [1, 3, H, W], preprocessed as the model asks.

    size : (H, W); the default is the size that the model's configuration is meant for.
    """
    return (photograph(model.preprocessing, size or model.config.input_size, seed),)


def photograph(preprocessing: Mapping[str, Any], size: tuple[int, int], seed: int = 0) -> Tensor:
    """A float32 image [1, 3, H, W] of size (H, W), preprocessed: (p * scale - mean[c]) / std[c] of pixels p."""
    mean, std = (torch.tensor(preprocessing[key]).reshape(1, 3, 1, 1) for key in ("mean", "std"))
    return (_pixels(*size, seed) * preprocessing["scale"] - mean) / std
