"""What docs/semantics.md says of zeros, denormals, infinities and NaN."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.idioms.activations import EXACT
from tests.idioms.idiom import Conv, Idiom, Sequence, Whole, batch_norm, extremes, halves, up
from tests.idioms.test_idioms import same_bits, same_values
from tests.idioms.zeros import on_the_grid
from tests.idioms.zoo import Outcome, outcomes
from tvm_bnn.compiler import compile_source
from tvm_bnn.errors import UnsupportedError
from tvm_bnn.frontend.source import load_source
from tvm_bnn.reference import evaluate
from tvm_bnn.targets import resolve


def compiled(make, data="zeros", sign_zero="plus", shapes=((2, 6, 7, 9),)) -> Outcome:
    """One module, its decisions and its four results."""
    found = outcomes({"": Idiom(make, data=data, sign_zero=sign_zero, shapes=shapes)})[""]
    if isinstance(found, Exception):
        raise found
    assert {layer.decision for layer in found.layers} == {"binary"}
    assert same_bits(found.compiled, found.optimized)
    return found


def of_pytorch(module, data=halves, shape=(2, 6, 7, 9)) -> np.ndarray:
    with torch.no_grad():
        return module(data(shape, 0)).numpy()


# --- sign(0) of a real tensor ---------------------------------------------------------------------------------------


def below(x):
    """The other convention, spelled out."""
    return torch.where(x > 0, 1.0, -1.0)


CONVENTIONS = {"plus": up, "minus": below, "exact": torch.sign}


@pytest.mark.parametrize("sign_zero", CONVENTIONS)
def test_sign_of_zero_of_a_real_tensor(sign_zero):
    found = compiled(lambda: Conv(torch.sign, padding=1), sign_zero=sign_zero)
    assert same_values(found.compiled, of_pytorch(Conv(CONVENTIONS[sign_zero], padding=1)))
    assert bool(found.guessed) == (sign_zero != "exact")
    assert (found.kept != []) == (sign_zero == "exact")


@pytest.mark.parametrize("sign_zero", CONVENTIONS)
def test_a_threshold_that_an_integer_sum_meets(sign_zero):
    """Behind a normalisation the value counts as real: the convention decides, and is named."""

    def chain(activation):
        second = Conv(activation, kernel=(4, 5, 3, 3))
        return Sequence(first=Conv(padding=1), bn=on_the_grid(5), second=second).eval()

    found = compiled(lambda: chain(torch.sign), sign_zero=sign_zero)
    assert same_values(found.compiled, of_pytorch(chain(CONVENTIONS[sign_zero])))
    assert bool(found.guessed) == (sign_zero != "exact")
    # the zeros are there: the conventions differ on this input
    assert not same_values(of_pytorch(chain(up)), of_pytorch(chain(torch.sign)))


@pytest.mark.parametrize("sign_zero", CONVENTIONS)
def test_no_convention_touches_an_exact_predicate(sign_zero):
    shapes, spelled = ((1, 6, 4, 5),), ["where(x >= 0, 1, -1)", "where(x > 0, 1, -1)", "relu(sign(x))", "sign(relu(x))"]
    found = outcomes(
        {
            name: Idiom(partial(Conv, EXACT[name]), data="zeros", sign_zero=sign_zero, shapes=shapes)
            for name in spelled
        }
    )
    for name, outcome in found.items():
        assert isinstance(outcome, Outcome), name
        assert same_values(outcome.compiled, outcome.pytorch), name
        assert outcome.guessed == [], name


# --- zeros of a discrete source ---------------------------------------------------------------------------------------


def test_zeros_of_an_integer_sum_are_met_and_kept():
    def make():
        return Sequence(first=Conv(padding=1), second=Conv(torch.sign, kernel=(4, 5, 3, 3)))

    sums = of_pytorch(make().first)
    assert 0.02 < np.mean(sums == 0) < 0.5
    found = compiled(make)
    assert same_values(found.compiled, found.pytorch)
    assert found.guessed == [] and found.kept == [f"{found.path}.second"]


def test_half_of_a_masked_tensor_is_zero_and_kept():
    weight = torch.where(torch.arange(5 * 6 * 9).reshape(5, 6, 3, 3) % 7 < 3, 1.0, -1.0)

    def masked(x, y):
        return F.conv2d(torch.sign((y > 0).float() * x), weight, padding=1)

    found = compiled(lambda: Whole(masked), data="real", shapes=((1, 6, 5, 6),) * 2)
    assert same_values(found.compiled, found.pytorch)
    assert found.guessed == [] and found.kept == [found.path]


# --- infinities, NaN, denormals, -0.0 --------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def predicates():
    """The spellings that choose by a comparison, on zeros of both signs, denormals, infinities and NaN."""
    return outcomes({name: Idiom(partial(Conv, rule, padding=1), data="extremes") for name, rule in EXACT.items()})


@pytest.mark.parametrize("name", EXACT)
def test_predicates_see_what_pytorch_sees(predicates, name):
    found = predicates[name]
    assert isinstance(found, Outcome), found
    assert same_bits(found.compiled, found.optimized)
    assert same_values(found.compiled, found.pytorch)


SPECIAL = torch.tensor([float("nan"), -float("inf"), -1.0, -1e-45, -0.0, 0.0, 1e-45, 1.0, float("inf")])
# of a 1x1 convolution with weight 1 over one channel: the level of each special number
LEVELS = {
    "x >= 0": (up, "plus", [-1, -1, -1, -1, 1, 1, 1, 1, 1]),
    "x > 0": (below, "plus", [-1, -1, -1, -1, -1, -1, 1, 1, 1]),
    "not (x < 0)": (lambda x: (~(x < 0)).float() * 2 - 1, "plus", [1, -1, -1, -1, 1, 1, 1, 1, 1]),
    "x != 0": (lambda x: (x != 0).float(), "plus", [1, 1, 1, 1, 0, 0, 1, 1, 1]),
    "sign, plus": (torch.sign, "plus", [-1, -1, -1, -1, 1, 1, 1, 1, 1]),
    "sign, minus": (torch.sign, "minus", [-1, -1, -1, -1, -1, -1, 1, 1, 1]),
    "sign, exact": (torch.sign, "exact", [0, -1, -1, -1, 0, 0, 1, 1, 1]),
    "round(clamp(x, 0, 1))": (lambda x: torch.round(torch.clamp(x, 0, 1)), "plus", [0, 0, 0, 0, 0, 0, 0, 1, 1]),
    "2 bits": (lambda x: torch.round(torch.clamp(x, 0, 1) * 3), "plus", [0, 0, 0, 0, 0, 0, 0, 3, 3]),
    "residue": (lambda x: (up(x) - x).detach() + x, "plus", [-1, -1, -1, -1, 1, 1, 1, 1, 1]),
}


@pytest.mark.parametrize("target", ["llvm", "llvm -mcpu=haswell", "llvm -mcpu=x86-64"])
def test_level_of_each_special_number(target):
    for sign_zero in CONVENTIONS:
        chosen = {name: level for name, level in LEVELS.items() if level[1] == sign_zero}
        weight = torch.ones(1, 1, 1, 1)

        def all_of_them(x, chosen=chosen, weight=weight):
            return tuple(F.conv2d(function(x), weight) for function, _, _ in chosen.values())

        inputs = (SPECIAL.reshape(1, 1, 1, 9),)
        made = compile_source(load_source(Whole(all_of_them), inputs), resolve(target, 1), sign_zero=sign_zero)
        assert {layer.decision for layer in made.decisions.layers} == {"binary"}
        results = made.artifact(*inputs)
        for name, found in zip(chosen, results if isinstance(results, tuple) else (results,), strict=True):
            assert found.reshape(-1).tolist() == chosen[name][2], name


FLOATS = {
    "relu": F.relu,
    "clamp": lambda x: x.clamp(-1, 1),
    "maximum with a number": lambda x: torch.maximum(x, torch.tensor(0.5)),
    "maximum": lambda x: torch.maximum(x, x.flip(3)),
    "minimum": lambda x: torch.minimum(x, x.flip(3)),
    "leaky relu": lambda x: F.leaky_relu(x, 0.5),
    "sign": torch.sign,
    "round": torch.round,
    "abs": torch.abs,
    "denormal * 0.5": lambda x: x * 0.5,
    "x < 0": lambda x: (x < 0).float(),
    "x != x": lambda x: (x != x).float(),
}


@pytest.mark.parametrize("target", ["llvm", "llvm -mcpu=haswell", "llvm -mcpu=x86-64"])
def test_real_tensors_pass_special_numbers_as_pytorch_does(target):
    inputs = (extremes((1, 5, 3, 9)),)
    source = load_source(Whole(lambda x: tuple(function(x) for function in FLOATS.values())), inputs)
    made = compile_source(source, resolve(target, 1))
    for name, expected, found in zip(FLOATS, source.expected, made.artifact(*inputs), strict=True):
        assert same_values(found.numpy(), expected.numpy()), name


def test_bits_are_pooled_without_nan():
    """A maximum of values with NaN is NaN, and NaN >= 0 does not hold; the largest bit knows of no NaN."""
    x = torch.tensor([[float("nan"), 1.0], [-1.0, -1.0]]).reshape(1, 1, 2, 2)
    weight = torch.ones(1, 1, 1, 1)
    source = load_source(Whole(lambda x: F.conv2d(up(F.max_pool2d(x, 2)), weight)), (x,))
    made = compile_source(source, resolve("llvm", 1))
    assert [layer.decision for layer in made.decisions.layers] == ["binary"]
    assert source.expected[0].item() == -1.0
    assert made.artifact(x).item() == evaluate(made.optimized, [x.numpy()])[0].item() == 1.0


def test_infinities_through_a_normalisation_with_a_dead_channel():
    """inf * 0 is NaN, whose comparison does not hold: as in PyTorch."""

    def make():
        return Conv(Sequence(bn=batch_norm(6, [1.0, 0.0, -1.0]), sign=up))

    found = compiled(make, data="extremes")
    assert same_values(found.compiled, found.pytorch)


def test_unknown_convention():
    with pytest.raises((UnsupportedError, ValueError)):
        compile_source(load_source(Conv(torch.sign), (halves((1, 6, 4, 4)),)), resolve("llvm", 1), sign_zero="zero")
