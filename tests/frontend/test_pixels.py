"""uint8 pixels in place of a float image: the normalisation becomes part of the network."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import tvm_bnn
from tvm_bnn import run
from tvm_bnn.checks import against_reference
from tvm_bnn.compiler import compile_source
from tvm_bnn.errors import InputError
from tvm_bnn.frontend.pixels import as_pixels
from tvm_bnn.frontend.source import load_source
from tvm_bnn.lower import lower
from tvm_bnn.nn import BinaryConv2d
from tvm_bnn.targets import resolve

SIZE = (24, 32)


class Network(nn.Module):
    """A stem, a binary layer and two classes."""

    preprocessing: ClassVar[dict] = {"scale": 1 / 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 32, 3, stride=2, padding=1)
        self.conv = BinaryConv2d(32, 32, 3, padding=1)
        self.head = nn.Conv2d(32, 2, 1)

    def forward(self, image):
        x = self.stem(image)
        return self.head(self.conv(torch.where(x >= 0, 1.0, -1.0)))


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (1, 3, *SIZE), np.uint8)


@pytest.fixture(scope="module")
def normalised(pixels):
    mean, std = (np.array(Network.preprocessing[key], np.float32).reshape(1, 3, 1, 1) for key in ("mean", "std"))
    return torch.from_numpy((pixels * np.float32(1 / 255) - mean) / std)


def test_pixels_are_those_of_the_example(pixels, normalised):
    np.testing.assert_array_equal(as_pixels((normalised,), Network(), "net")[0], pixels)
    (same,) = as_pixels((torch.from_numpy(pixels),), Network(), "net")
    np.testing.assert_array_equal(same, pixels)


def test_the_source_is_the_normalised_network(pixels, normalised):
    network = Network().eval()
    with torch.no_grad():
        expected = network(normalised)
    source = load_source(network, normalised, input_dtype="uint8")
    np.testing.assert_array_equal(source.inputs[0], pixels)
    torch.testing.assert_close(source.expected[0], expected, rtol=0, atol=1e-5)
    assert not network._forward_pre_hooks


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("text", ["llvm", "llvm -mcpu=x86-64-v3"])
def test_the_first_layer_normalises(normalised, text, precision):
    target = resolve(text, threads=1)
    if not target.native:
        pytest.skip(f"this CPU cannot run code for {text!r}")
    source = load_source(Network(), normalised, input_dtype="uint8")
    made = compile_source(source, target, float_precision=precision)
    assert [row.differing for row in against_reference(made.artifact, made.optimized, source.inputs)] == [0]
    assert [(row["path"], row["decision"]) for row in made.artifact.manifest["layers"]] == [
        ("stem", "float"), ("conv", "binary"), ("head", "float"),
    ]  # fmt: skip
    of_floats = compile_source(load_source(Network(), normalised), target, float_precision=precision)
    kernels = [list(lower(each.optimized, target).family_of.values()) for each in (made, of_floats)]
    assert kernels[0] == kernels[1], "the normalisation has a kernel of its own"


def test_an_image_is_read_as_it_is(pixels, normalised, tmp_path):
    network = Network().eval()
    whole, bytes_ = tvm_bnn.compile(network, normalised), tvm_bnn.compile(network, normalised, input_dtype="uint8")
    assert bytes_.manifest["inputs"][0]["dtype"] == "uint8"
    image = Image.fromarray(pixels[0].transpose(1, 2, 0))
    image.save(tmp_path / "image.png")
    read = run.read_image(tmp_path / "image.png")
    given = run.prepare(read, bytes_.manifest)
    np.testing.assert_array_equal(given, pixels)
    np.testing.assert_allclose(bytes_(given), whole(run.prepare(read, whole.manifest)), rtol=0, atol=1e-4)


def test_other_models_are_refused(normalised):
    network = Network().eval()
    program = torch.export.export(network, (normalised,))
    with pytest.raises(InputError, match="has its inputs already"):
        tvm_bnn.compile(program, input_dtype="uint8")
    with pytest.raises(InputError, match=r"takes float32 \[2, 5\]; pixels .* one float32 image"):
        tvm_bnn.compile(nn.Linear(5, 3), torch.zeros(2, 5), input_dtype="uint8")
    with pytest.raises(InputError, match="input_dtype='int4'; accepted are float32, uint8"):
        tvm_bnn.compile(network, normalised, input_dtype="int4")
