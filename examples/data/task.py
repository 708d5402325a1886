"""What the three tasks are made of, as plain data: importing this loads neither PyTorch nor a picture."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from tvm_bnn.errors import InputError
from tvm_bnn.examples.data.layout import Layout

SPLITS = {"train": 0, "val": 1, "test": 2}  # of generated samples, with the number that goes into their seed
SMALLEST = 16  # pixels an axis, below which nothing can be told


@dataclass(frozen=True)
class Generated:
    """A stand-in that is drawn.

    name : begins with "synthetic", so that no figure of it can be taken for the data set's. draw : (generator, (H, W),
    index of the sample) -> image uint8 [H, W, 3], truth uint8 [H, W]. size : (H, W) by default.
    """

    name: str
    draw: Callable[[Generator, tuple[int, int], int], tuple[np.ndarray, np.ndarray]]
    size: tuple[int, int]

    def sample(
        self, split: str, index: int, seed: int = 0, size: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sample `index` of a split: it follows from these arguments alone, however many others are drawn.

        InputError for a negative seed or a size below SMALLEST.
        """
        if seed < 0 or min(size or self.size) < SMALLEST:
            accepted = f"a seed from 0 up, and {SMALLEST} pixels or more an axis"
            raise InputError(f"found seed {seed} and size {size or self.size}; accepted: {accepted}")
        rng = np.random.default_rng(np.random.SeedSequence((seed, SPLITS[split], index)))
        return self.draw(rng, size or self.size, index)


@dataclass(frozen=True)
class Task:
    """A task: its data set on disk and its generated stand-in.

    palette : class name -> (red, green, blue), in the order of the classes' numbers. ignored : truth that no metric
    counts, or None where every pixel counts.
    """

    name: str
    palette: dict[str, tuple[int, int, int]]
    ignored: int | None
    layout: Layout
    generated: Generated
