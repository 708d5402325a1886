"""Operators that TVM's importer refuses or gets wrong: as PyTorch computes them, and binary where they are signs."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tvm_bnn.compiler import compile_source
from tvm_bnn.errors import ModelError, UnsupportedError
from tvm_bnn.frontend.naming import name_by_node
from tvm_bnn.frontend.source import load_source
from tvm_bnn.reference import evaluate
from tvm_bnn.relay_passes.decisions import Decisions
from tvm_bnn.relay_passes.pipeline import optimize
from tvm_bnn.targets import resolve

IMAGE = torch.randn(2, 12, 5, 7, generator=torch.Generator().manual_seed(0))
IMAGE[0, :, 0, 0] = 0.0
IMAGE[0, :, 0, 1] = -0.0


class Function(nn.Module):
    """A function as a model."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, image):
        return self.function(image)


def assigned(image, mask, value):
    result = torch.sign(image)
    result[mask(result)] = value
    return result


def filled(image):
    result = torch.sign(image)
    result.masked_fill_(result == 0, 1)
    return result


def rows_assigned(image):
    result = image.clone()
    result[image.amax((1, 2, 3)) > 3] = 0.25
    return result


EXACT = {
    "amax": lambda x: x.amax(1, keepdim=True),
    "amax over two axes": lambda x: x.amax((2, 3)),
    "amax of all": lambda x: x.amax(),
    "amin": lambda x: x.amin((0, -1), keepdim=True),
    "max": lambda x: x.max(1, keepdim=True)[0],
    "max with positions": lambda x: x.max(2),
    "min": lambda x: x.min(3)[0],
    "largest of each map": lambda x: F.adaptive_max_pool2d(x, 1),
    "adaptive max pooling": lambda x: F.adaptive_max_pool2d(x, (3, 4)),
    "adaptive max pooling, enlarging": lambda x: F.adaptive_max_pool2d(x, (8, 7)),
    "unfold": lambda x: F.unfold(x, 3, padding=1),
    "unfold in steps": lambda x: F.unfold(x, (2, 3), dilation=(2, 1), stride=(1, 2)),
    "positions": lambda x: x[:, :, torch.tensor([[0, 2], [-1, 1]]), torch.tensor([1, 6])],
    "assignment under a mask": lambda x: assigned(x, lambda y: y == 0, 1),
    "assignment of a fraction": lambda x: assigned(x, lambda y: y < 0, -0.5),
    "assignment to whole images": rows_assigned,
    "masked_fill in place": filled,
    "heaviside": lambda x: torch.heaviside(x, torch.tensor(1.0)),
    "copysign of ones": lambda x: torch.copysign(torch.ones_like(x), x),
    "copysign of magnitudes": lambda x: torch.copysign(2 * x + 1, x),
    "copysign of a number": lambda x: torch.copysign(x, -0.0),
    "signbit": lambda x: torch.signbit(x),
}
CLOSE = {
    "prod": lambda x: x.prod(1),
    "group_norm without weights": lambda x: F.group_norm(x, 3),
    "group_norm with a weight": lambda x: F.group_norm(x, 3, torch.arange(12.0)),
    "elu": lambda x: F.elu(x, 0.7),
    "celu": lambda x: F.celu(x, 1.5),
    "selu": lambda x: F.selu(x),
    "logsumexp": lambda x: x.logsumexp(1),
}


def imported(function):
    source = load_source(Function(function).eval(), IMAGE)
    return source, [torch.from_numpy(value) for value in evaluate(source.imported().module, [IMAGE.numpy()])]


@pytest.mark.parametrize("case", EXACT)
def test_equal_to_pytorch(case):
    source, found = imported(EXACT[case])
    for ours, expected in zip(found, source.expected, strict=True):
        assert ours.dtype == expected.dtype and torch.equal(ours, expected)
        if "sign" in case:
            # -0.0 equals 0.0, but not here
            assert torch.equal(torch.signbit(ours), torch.signbit(expected))


@pytest.mark.parametrize("case", CLOSE)
def test_close_to_pytorch(case):
    source, (found,) = imported(CLOSE[case])
    torch.testing.assert_close(found, source.expected[0], rtol=1e-5, atol=1e-5)


def test_all_of_them_compiled():
    functions = {**EXACT, **CLOSE}
    model = Function(lambda x: tuple(torch.as_tensor(part) for f in functions.values() for part in _flat(f(x)))).eval()
    artifact = compile_source(load_source(model, IMAGE), resolve("llvm", 1)).artifact
    for found, expected in zip(artifact(IMAGE), model(IMAGE), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def _flat(value):
    return value if isinstance(value, tuple) else (value,)


SIGNS = ["assignment under a mask", "masked_fill in place", "heaviside", "copysign of ones", "signbit", "unfold"]


@pytest.mark.parametrize("case", SIGNS)
def test_signs_are_binary(case):
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 12, 1, 1))

        def forward(self, image):
            bits = EXACT[case](torch.where(image >= 0, 1.0, -1.0) if case == "unfold" else image).float()
            return F.conv2d(bits.reshape(2, 12, -1, 7), torch.sign(self.weight))

    torch.manual_seed(1)
    source = load_source(Layer().eval(), IMAGE)
    decisions = Decisions()
    optimize(name_by_node(source.imported(), source.single).module, decisions)
    assert [(layer.decision, layer.reason) for layer in decisions.layers] == [("binary", "")]
    assert decisions.guessed_signs == []


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda x: F.adaptive_max_pool2d(x, 2, return_indices=True), UnsupportedError, "positions of the maxima are"),
        (lambda x: x.index_put((x > 0,), torch.tensor(1.0), accumulate=True), UnsupportedError, "torch.where"),
        (lambda x: F.dropout(x, 0.5), UnsupportedError, r"at random, in eval mode too; write F\.dropout\(x, p, self"),
        (lambda x: x[x > 0], ModelError, r"how many elements .* depends on the data, .*torch\.where\(mask, a, b\)"),
    ],
)
def test_refused(function, error, message):
    with pytest.raises(error, match=message) as caught:
        load_source(Function(function).eval(), IMAGE).imported()
    assert "\n" not in str(caught.value)
