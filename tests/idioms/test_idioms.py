"""Every idiom has its expected outcome, computes what PyTorch computes, and a refusal names its true cause."""

import numpy as np
import pytest

from tests.idioms import table
from tests.idioms.families import FAMILIES
from tests.idioms.zoo import Outcome, of_family

CASES = [(family, name) for family, idioms in FAMILIES.items() for name in idioms]


@pytest.fixture(params=CASES, ids=[f"{family}: {name}" for family, name in CASES])
def case(request):
    """The idiom and its outcome."""
    family, name = request.param
    found = of_family(family)[name]
    if isinstance(found, Exception):
        raise found
    return FAMILIES[family][name], found


def same_values(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal, zeros of both signs alike."""
    return one.shape == other.shape and one.dtype == other.dtype and np.array_equal(one, other, equal_nan=True)


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal in every bit; NaN equals NaN."""
    return same_values(one, other) and np.array_equal(np.signbit(one), np.signbit(other))


def test_idiom(case):
    """One test an idiom: the decision, its reason, what is said of zeros, and the values."""
    idiom, found = case
    check_decisions(idiom, found)
    check_zeros(idiom, found)
    check_values(idiom, found)


def check_decisions(idiom, found: Outcome):
    assert found.layers, "no layer is under test"
    decided = ", ".join(dict.fromkeys(layer.decision for layer in found.layers))
    assert decided == idiom.decision, [(layer.path, layer.op, layer.reason) for layer in found.layers]
    for layer in found.layers:
        if layer.decision == "binary":
            assert (layer.reason, layer.advice) == ("", "")
            continue
        for words in idiom.reason:
            assert any(word in layer.reason.lower() for word in words.split("|")), (words, layer.reason)
        assert layer.advice, layer.reason


def check_zeros(idiom, found: Outcome):
    assert bool(found.guessed) == (idiom.zeros == "guessed"), found.guessed
    if idiom.zeros == "kept":
        assert found.kept
    if idiom.zeros == "weights":
        assert found.weights


def check_values(idiom, found: Outcome):
    assert same_bits(found.compiled, found.optimized)
    if idiom.exact:
        assert same_values(found.imported, found.pytorch)
        assert same_values(found.optimized, found.imported)
    else:
        assert found.figures == []
        scale = float(np.abs(found.pytorch).max())
        np.testing.assert_allclose(found.compiled, found.pytorch, rtol=0, atol=1e-4 * scale)


def test_table_is_up_to_date():
    """docs/idioms.md says what the compiler does."""
    assert table.PATH.read_text(encoding="utf-8") == table.text(), "run python -m tests.idioms.table"
