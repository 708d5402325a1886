"""Attention of bits, as models write it: two products in one kernel, exact, and no memory of queries times keys."""

from math import prod

import numpy as np
import pytest
import torch
import tvm
from torch import nn
from tvm import relax

from tests.properties.exact import TARGETS, target
from tvm_bnn.frontend import import_program
from tvm_bnn.lower import lower
from tvm_bnn.nn.token_attention import TokenAttention
from tvm_bnn.reference import evaluate
from tvm_bnn.relay_passes.convert_binary import Decisions
from tvm_bnn.relay_passes.pipeline import optimize
from tvm_bnn.relay_passes.rewriter import bindings_of, shape_of
from tvm_bnn.schedules import schedule_module
from tvm_bnn.schedules.apply import machine_code


def signs(x):
    return torch.where(x >= 0, 1.0, -1.0)


class Attention(nn.Module):
    """Q, K, V [B, heads, tokens, width] of reals."""

    def __init__(self, mix=torch.matmul, probabilities=lambda s: torch.relu(torch.sign(s - 0.3))):
        super().__init__()
        self.mix, self.probabilities = mix, probabilities

    def forward(self, q, k, v):
        q, k, v = signs(q), signs(k), signs(v)
        return self.mix(self.probabilities(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5), v)


class Values(nn.Module):
    """V P^T, as maps of pixels have it; all three of one map [B, width, H, W]."""

    def forward(self, x):
        q, k, v = (signs(x - shift).flatten(2) for shift in (0.0, 0.25, -0.25))
        p = (q.transpose(1, 2) @ k > 2).float()
        return (v @ p.transpose(1, 2)).unflatten(2, x.shape[2:]) + x


class Tokens(nn.Module):
    """The module of this package, on one branch."""

    def __init__(self, channels, **options):
        super().__init__()
        torch.manual_seed(0)
        self.attention = TokenAttention(channels, 1, **options)
        self.attention.threshold.data += 0.3
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):  # no threshold is a whole number
                module.running_mean.normal_()

    def forward(self, x):
        return self.attention([x])[0]


def heads(queries, keys, width, batch=1, count=2):
    return tuple((batch, count, tokens, width) for tokens in (queries, keys, keys))


CASES = {
    "two heads": (Attention(), heads(128, 128, 64)),
    "fewer keys": (Attention(), heads(128, 32, 64)),
    "more keys than queries": (Attention(), heads(64, 160, 32)),
    "width 40, 96 tokens": (Attention(), heads(96, 96, 40)),
    "37 tokens": (Attention(), heads(37, 37, 33)),
    "100 keys, batch 2": (Attention(), heads(48, 100, 100, batch=2, count=1)),
    "a threshold": (Attention(probabilities=lambda s: (s > 0.5).float()), heads(96, 96, 64)),
    "a lower threshold": (Attention(probabilities=lambda s: (s <= 0.5).float()), heads(64, 96, 64)),
    "signs": (Attention(probabilities=lambda s: torch.where(s >= 0, 1.0, -1.0)), heads(96, 64, 64)),
    "einsum": (Attention(mix=lambda p, v: torch.einsum("bhqk,bhkd->bhqd", p, v)), heads(64, 64, 32)),
    "values times probabilities": (Values(), ((2, 64, 8, 16),)),
    "our module": (Tokens(64), ((1, 64, 8, 16),)),
    "our module, every second key": (Tokens(64, key_stride=2), ((1, 64, 16, 16),)),
    "our module, cells": (Tokens(32, width=64, reduction=2), ((1, 32, 16, 32),)),
}


def optimized(case):
    model, shapes = CASES[case]
    torch.manual_seed(1)
    arguments = tuple(torch.randn(shape) for shape in shapes)
    with torch.no_grad():
        program = torch.export.export(model.eval(), arguments)
    imported, decisions = import_program(program).module, Decisions()
    module = optimize(imported, decisions)
    assert {layer.decision for layer in decisions.layers} == {"binary"}
    return imported, module, [argument.numpy() for argument in arguments]


def stored(lowered):
    """Elements of each value between kernels."""
    return [
        prod(shape_of(b.var)) for b in bindings_of(lowered.module["main"]) if isinstance(b.var.ty, relax.TensorType)
    ]


#: One target a case in turn, and all of them for every fifth one.
ON = [
    (case, name)
    for number, case in enumerate(CASES)
    for position, name in enumerate(TARGETS)
    if number % 5 == 0 or position == number % len(TARGETS)
]


@pytest.mark.parametrize(("case", "name"), ON)
def test_equals_the_reference_in_one_kernel(case, name):
    if not target(name).native:
        pytest.skip(f"this CPU cannot run {name}")
    imported, module, data = optimized(case)
    lowered = lower(module, target(name))
    scheduled = schedule_module(lowered.module, lowered.family_of, target(name))
    machine = relax.VirtualMachine(machine_code(scheduled, target(name)), tvm.cpu())
    (result,) = machine["main"](*map(tvm.runtime.tensor, data))
    (expected,) = evaluate(module, data)
    np.testing.assert_array_equal(result.numpy(), expected)
    (as_imported,) = evaluate(imported, data)
    np.testing.assert_allclose(result.numpy(), as_imported, rtol=0, atol=1e-5 * np.abs(as_imported).max())
    assert "product_pair" in lowered.family_of.values()


@pytest.mark.parametrize("tokens", [1024, 4096])
def test_memory_grows_with_tokens(tokens):
    """No value between kernels is larger than an argument."""
    model = Attention()
    arguments = tuple(torch.zeros(1, 1, tokens, 32) for _ in range(3))
    module = optimize(import_program(torch.export.export(model, arguments)).module, Decisions())
    lowered = lower(module, target("generic"))
    assert max(stored(lowered)) <= tokens * 32
