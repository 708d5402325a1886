"""The restoration network adds what it finds to the image, at every scale."""

import pytest
import torch
from torch import nn

from tvm_bnn.examples.restoration import example_inputs, restoration


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_size_of_the_result(scale: int):
    model = restoration(channels=8, units=1, scale=scale)
    with torch.no_grad():
        assert model(*example_inputs(model, (8, 12))).shape == (1, 3, 8 * scale, 12 * scale)


def test_what_finds_nothing_gives_the_image():
    model = restoration(channels=8, units=1, scale=1)
    nn.init.zeros_(model.last.weight)
    assert model.last.bias is not None
    nn.init.zeros_(model.last.bias)
    (image,) = example_inputs(model, (8, 12))
    assert 0 <= image.min() and image.max() <= 1
    with torch.no_grad():
        assert torch.equal(model(image), image)
