"""Sizes of samples for training and evaluation. Normalisation is not here: it is the network's `preprocessing`."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image

from tvm_bnn.examples.data.dataset import Sample


def resize(image: np.ndarray, truth: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 [H, W, 3], bilinear, and truth uint8 [H, W], nearest, in the size (H, W)."""
    if image.shape[:2] == size:
        return image, truth
    height, width = size
    return (
        np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)),
        np.array(Image.fromarray(truth).resize((width, height), Image.Resampling.NEAREST)),
    )


@dataclass(frozen=True)
class Resize:
    """A transform for evaluation: every sample in one size (H, W)."""

    size: tuple[int, int]

    def __call__(self, sample: Sample) -> Sample:
        return Sample(sample.name, *resize(sample.image, sample.truth, self.size))


def random_crop(
    sample: Sample,
    rng: Generator,
    size: tuple[int, int],
    scales: tuple[float, float] = (0.5, 2.0),
    flip: bool = True,
    outside: int = 255,
) -> Sample:
    """A part of size (H, W) of the sample, grown or shrunk by a factor from `scales` and perhaps mirrored.

    Everything random comes from rng. Where the sample is smaller, the image is grey and the truth is `outside`, which
    has to be a value that the loss ignores.
    """
    factor = rng.uniform(*scales)
    grown = max(1, round(sample.truth.shape[0] * factor)), max(1, round(sample.truth.shape[1] * factor))
    image, truth = resize(sample.image, sample.truth, grown)
    if flip and rng.random() < 0.5:
        image, truth = image[:, ::-1], truth[:, ::-1]
    top, left = (int(rng.integers(max(have - want, 0) + 1)) for have, want in zip(grown, size, strict=True))
    part = slice(top, top + size[0]), slice(left, left + size[1])
    image, truth = image[part], truth[part]
    height, width = truth.shape
    whole, classes = np.full((*size, 3), 128, np.uint8), np.full(size, outside, np.uint8)
    whole[:height, :width], classes[:height, :width] = image, truth
    return Sample(sample.name, whole, classes)
