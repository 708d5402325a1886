"""DropResidue: straight-through sums become the value that they forward."""

import numpy as np
import pytest
import torch
import tvm
from tvm import relax
from tvm.relax.op import add, subtract, tanh

from tvm_bnn.relay_passes.drop_residue import DropResidue

SHAPE = (2, 3)


def number(value):
    return relax.const(np.float32(value))


DROPPED = {
    "(S - t) + t": lambda s, x, e: add(e(subtract(s, (t := e(tanh(x))))), t),
    "t + (S - t)": lambda s, x, e: add((t := e(tanh(x))), e(subtract(s, t))),
    "S + (t - t)": lambda s, x, e: add(s, e(subtract((t := e(tanh(x))), t))),
    "(t - t) + S": lambda s, x, e: add(e(subtract((t := e(tanh(x))), t)), s),
    "t - (t - S)": lambda s, x, e: subtract((t := e(tanh(x))), e(subtract(t, s))),
    "t written twice": lambda s, x, e: add(e(subtract(s, e(tanh(x)))), e(tanh(x))),
    "twice": lambda s, x, e: add(e(subtract(e(add(e(subtract(s, x)), x)), (t := e(tanh(x))))), t),
}


@pytest.mark.parametrize("function", DROPPED.values(), ids=list(DROPPED))
def test_a_residue_disappears(build, run, emit, function):
    after = run(build(lambda s, x: function(s, x, emit), SHAPE, SHAPE), DropResidue())
    tvm.ir.assert_structural_equal(after, build(lambda s, x: s, SHAPE, SHAPE))


KEPT = {
    "another t": lambda s, x, e: add(e(subtract(s, e(tanh(x)))), x),
    "the sign turned": lambda s, x, e: subtract(e(subtract(s, x)), x),
    "a number, to round on purpose": lambda s, x, e: add(e(subtract(s, number(2.0**23))), number(2.0**23)),
}


@pytest.mark.parametrize("function", KEPT.values(), ids=list(KEPT))
def test_declines_the_rest(build, run, emit, function):
    before = build(lambda s, x: function(s, x, emit), SHAPE, SHAPE)
    tvm.ir.assert_structural_equal(run(before, DropResidue()), before)


def test_a_sum_that_broadcasts_stays(build, run, emit):
    before = build(lambda s, x: add(emit(subtract(s, x)), x), (1, 3), SHAPE)
    tvm.ir.assert_structural_equal(run(before, DropResidue()), before)


def test_as_it_is_written_in_pytorch(imported, run, operators):
    def function(x):
        forward = torch.sign(x)
        mask = (x < -1).float()
        t = mask * (-1) + (x * x + 2 * x) * (1 - mask)
        return forward.detach() - t.detach() + t

    assert operators(run(imported(function, torch.zeros(SHAPE)), DropResidue())) == ["relax.sign"]
