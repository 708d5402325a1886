"""Models as they are trained, which PyTorch cannot export: the error says how to freeze them, which then works."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tvm_bnn.errors import BnnError, ModelError
from tvm_bnn.frontend.source import load_source

IMAGE = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A convolution, with what binarising code keeps beside it."""

    ready: torch.Tensor
    steps: torch.Tensor

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.alpha = nn.Parameter(torch.ones(4, 1, 1, 1))
        self.register_buffer("ready", torch.zeros(1))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))


class AssignsData(Net):
    def forward(self, image):
        self.conv.weight.data = self.conv.weight.data.sign()
        return self.conv(image)


class ChangesDataInPlace(Net):
    def forward(self, image):
        self.conv.weight.data.sign_()
        return self.conv(image)


class KeepsTheOriginal(Net):
    """Binarises from a copy that it hangs on the parameter."""

    def forward(self, image):
        if not hasattr(self.conv.weight, "org"):
            self.conv.weight.org = self.conv.weight.data.clone()
        self.conv.weight.data = torch.sign(self.conv.weight.org)
        return F.conv2d(image, self.conv.weight)


class InitialisesItsScale(Net):
    def forward(self, image):
        if self.steps == 0:
            self.alpha.data.copy_(self.conv.weight.abs().mean((1, 2, 3), keepdim=True))
            self.steps.fill_(1)
        return F.conv2d(image, torch.sign(self.conv.weight) * self.alpha)


class ChangesTheParameter(Net):
    def forward(self, image):
        with torch.no_grad():
            self.conv.weight.copy_(torch.sign(self.conv.weight))
        return self.conv(image)


class BranchesOnABuffer(Net):
    def forward(self, image):
        if self.ready == 0:
            image = image * 2
        return self.conv(image)


class BranchesOnAnItem(Net):
    def forward(self, image):
        if self.steps.item() < 1:
            image = image * 2
        return self.conv(image)


class BranchesOnTheInput(Net):
    def forward(self, image):
        if image.abs().max() > 1:
            image = image / 2
        return self.conv(image)


class ReadsANumber(Net):
    def forward(self, image):
        scale = float(self.conv.weight.abs().mean())
        return self.conv(image) * scale


class ReadsANumberOfTheInput(Net):
    def forward(self, image):
        return self.conv(image) * image.abs().mean().item()


class RunsNumpy(Net):
    def forward(self, image):
        weight = torch.from_numpy(np.sign(self.conv.weight.detach().numpy()))
        return F.conv2d(image, weight)


class ReadsData(Net):
    def forward(self, image):
        weight = self.conv.weight
        return F.conv2d(image, (weight.data.sign() - weight).detach() + weight)


class LegacySign(torch.autograd.Function):
    def forward(self, image):
        return image.sign()

    def backward(self, gradient):
        return gradient


class RunsALegacyFunction(Net):
    def forward(self, image):
        return self.conv(LegacySign()(image))


class HasAScriptedPart(Net):
    def __init__(self):
        super().__init__()
        self.act = torch.jit.script(nn.ReLU())

    def forward(self, image):
        return self.act(self.conv(image))


FREEZE = r"write the changed value into the parameter once, before export \(with torch\.no_grad\(\): layer\.weight"
HERE = r"\(test_exporting\.py, line \d+: "
REFUSED = {
    AssignsData: rf"cannot be exported by PyTorch {HERE}self\.conv\.weight\.data = .*{FREEZE}",
    ChangesDataInPlace: rf"cannot be exported by PyTorch {HERE}self\.conv\.weight\.data\.sign_\(\)\).*{FREEZE}",
    KeepsTheOriginal: rf"cannot be exported by PyTorch {HERE}self\.conv\.weight\.data = .*{FREEZE}",
    InitialisesItsScale: rf"cannot be exported by PyTorch {HERE}self\.alpha\.data\.copy_.*{FREEZE}",
    ChangesTheParameter: rf"changes conv\.weight when it runs; .*{FREEZE}",
    BranchesOnABuffer: rf"{HERE}if self\.ready == 0:\).*ready is a buffer: freeze it .*= bool\(layer\.ready\)",
    BranchesOnAnItem: rf"{HERE}if self\.steps\.item\(\) < 1:\).*steps is a buffer: freeze it as a Python value once",
    BranchesOnTheInput: rf"{HERE}if image\.abs\(\)\.max\(\) > 1:\).*write torch\.where\(condition, a, b\)",
    ReadsANumber: rf"{HERE}scale = float.*no number is read out of a tensor in an export: leave out \.item",
    ReadsANumberOfTheInput: r"item reads a number out of a tensor; go on with the tensor instead: leave out \.item\(\)",
    RunsNumpy: rf"{HERE}weight = torch\.from_numpy.*no numpy runs in an export: use the functions of torch, or compute",
    ReadsData: rf"cannot be exported by PyTorch {HERE}return F\.conv2d.*weight\.data\.sign.*write \.detach\(\)",
    RunsALegacyFunction: r"does not run .*write @staticmethod forward\(ctx, \.\.\.\) and .*Function\.apply",
    HasAScriptedPart: r"parts made by torch\.jit cannot be exported: use the Python module that act was made from",
}


@pytest.mark.filterwarnings("ignore:.*jit.*")
@pytest.mark.parametrize("model", REFUSED, ids=lambda kind: kind.__name__)
def test_the_error_says_how_to_freeze(model, capfd):
    with pytest.raises(ModelError, match=REFUSED[model]) as caught:
        load_source(model().eval(), IMAGE).imported()
    assert "\n" not in str(caught.value) and isinstance(caught.value, BnnError)
    assert capfd.readouterr() == ("", "")


class Plain(Net):
    def forward(self, image):
        return self.conv(image)


@pytest.mark.parametrize("model", [AssignsData, ChangesDataInPlace, KeepsTheOriginal, ChangesTheParameter])
def test_frozen_as_the_error_says_it_exports(model):
    frozen = Plain().eval()
    with torch.no_grad():
        frozen.conv.weight.copy_(frozen.conv.weight.sign())
    assert torch.equal(load_source(frozen, IMAGE).expected[0], model().eval()(IMAGE))


class AsksAPythonValue(Net):
    def forward(self, image):
        if not self.frozen:
            image = image * 2
        return self.conv(image)


def test_a_flag_that_is_frozen_exports():
    for ready in (0.0, 1.0):
        trained, frozen = BranchesOnABuffer().eval(), AsksAPythonValue().eval()
        trained.ready.fill_(ready)
        frozen.frozen = bool(trained.ready)
        assert torch.equal(load_source(frozen, IMAGE).expected[0], trained(IMAGE))


class StaticSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image):
        return image.sign()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class RunsAStaticFunction(Net):
    def forward(self, image):
        return self.conv(StaticSign.apply(image))


def test_a_function_with_static_methods_exports():
    assert "sign" in load_source(RunsAStaticFunction().eval(), IMAGE).imported().module.script()
