"""Networks as users write them, good and bad, for the tests to name as ``user_networks:Factory``."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tvm_bnn.nn import BinaryConv2d


class Net(nn.Module):
    """Float stem, binary convolution, normalisation; knows its inputs."""

    preprocessing = {"scale": 1 / 255, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}  # noqa: RUF012
    class_names = ("sky", "road")
    palette = ((0, 0, 255), (90, 90, 90))

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.binary = BinaryConv2d(8, 8, 3, padding=1, binarize_input=True)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, image: Tensor) -> Tensor:
        return self.norm(self.binary(self.stem(image)))

    def example_inputs(self) -> Tensor:
        return torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(5))


def net() -> Net:
    """A factory that remembers eval mode."""
    return Net().eval()


def float_net() -> nn.Module:
    """Nothing of it is binary, and it does not know its inputs."""
    return nn.Conv2d(3, 4, 3).eval()


class Pair(Net):
    """Returns logits and classes."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        logits = super().forward(image)
        return logits, logits.argmax(1)


class BareSign(Net):
    """torch.sign of a real tensor: where it is 0, PyTorch gives 0."""

    def forward(self, image: Tensor) -> Tensor:
        return F.conv2d(torch.sign(self.stem(image)), torch.sign(self.binary.weight))


class MixedSign(Net):
    """A sign that a layer reads, and a sum as well."""

    def forward(self, image: Tensor) -> Tensor:
        sign = torch.sign(self.stem(image))
        return F.conv2d(sign, torch.sign(self.binary.weight), padding=1) + sign.sum()


class FloatMiddle(Net):
    """A float convolution between binary ones."""

    def __init__(self) -> None:
        super().__init__()
        self.middle = nn.Conv2d(8, 8, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.binary(self.middle(self.binary(self.stem(image))))


class Transposed(Net):
    """A float transposed convolution behind the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)

    def forward(self, image: Tensor) -> Tensor:
        return self.up(super().forward(image))


class Masked(nn.Module):
    """The sign of what a threshold leaves: mostly exact zeros."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.sign(F.hardshrink(image))


class Ternary(nn.Conv2d):
    """Weights that are +1, -1 or 0."""

    def forward(self, image: Tensor) -> Tensor:
        return F.conv2d(image, torch.round(self.weight.clamp(-1, 1)))


class KeepsZeros(nn.Module):
    """Exact zeros in activations and in weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.first = Masked()
        self.second = Ternary(6, 4, 3, bias=False)
        nn.init.normal_(self.second.weight)

    def forward(self, image: Tensor) -> Tensor:
        return self.second(self.first(image))

    def example_inputs(self) -> Tensor:
        return torch.randn(1, 6, 8, 8, generator=torch.Generator().manual_seed(5))


class SharedLayer(Net):
    """One binary layer that is called at two sizes."""

    def forward(self, image: Tensor) -> Tensor:
        return self.binary(F.max_pool2d(self.binary(self.stem(image)), 2))


class ChangesData(Net):
    """Binarises its weight in place at every call: not exportable."""

    def forward(self, image: Tensor) -> Tensor:
        self.stem.weight.data = self.stem.weight.data.sign()
        return self.stem(image)


class Branches(Net):
    """Decides by a value."""

    def forward(self, image: Tensor) -> Tensor:
        if image.sum() > 0:
            return self.stem(image)
        return image


class Counts(Net):
    """Keeps a state."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, image: Tensor) -> Tensor:
        self.calls.add_(1.0)
        return self.stem(image) + self.calls


class Rare(nn.Module):
    """Has an operator that cannot be imported."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Bessel()

    def forward(self, image: Tensor) -> Tensor:
        return self.inner(image)

    def example_inputs(self) -> Tensor:
        return torch.ones(1, 3, 4, 4)


class Bessel(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return torch.special.i0(image)


class WrongInputs(Net):
    """Its example inputs do not fit."""

    def example_inputs(self) -> Tensor:
        return torch.randn(1, 4, 16, 16)


def number() -> int:
    return 3


def needs(dataset: str, size: int = 3) -> Net:
    return Net()


def fails() -> Net:
    raise ValueError("no such data set")


ready = net()
