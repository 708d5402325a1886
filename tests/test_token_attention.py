"""Attention of bits, as models write it: two products in one kernel, exact, and no memory of queries times keys."""

from math import prod

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import tvm
from torch import nn
from tvm import relax

import tvm_bnn
from tests.properties.exact import TARGETS, target
from tvm_bnn.frontend import import_program
from tvm_bnn.lower import lower
from tvm_bnn.nn.token_attention import TokenAttention
from tvm_bnn.reference import evaluate
from tvm_bnn.relay_passes.convert_binary import Decisions
from tvm_bnn.relay_passes.pipeline import optimize
from tvm_bnn.relay_passes.rewriter import bindings_of, op_name, shape_of
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


class Softmax(nn.Module):
    """Q, K, V [B, heads, tokens, width] of reals; V stays real unless it is said to be binary."""

    def __init__(self, binary=False, attend=None):
        super().__init__()
        self.binary = binary
        self.attend = attend or (lambda q, k, v: torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1) @ v)

    def forward(self, q, k, v, *others):
        return self.attend(signs(q), signs(k), signs(v) if self.binary else v, *others)


class Tokens(nn.Module):
    """The module of this package, on one branch."""

    def __init__(self, channels, **options):
        super().__init__()
        torch.manual_seed(0)
        self.attention = TokenAttention(channels, 1, **options)
        if not self.attention.softmax:
            self.attention.threshold.data += 0.3
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):  # no threshold is a whole number
                module.running_mean.normal_()

    def forward(self, x):
        return self.attention([x])[0]


def heads(queries, keys, width, batch=1, count=2, depth=None):
    return *((batch, count, tokens, width) for tokens in (queries, keys)), (batch, count, keys, depth or width)


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
    "our module, every fourth key": (Tokens(64, key_stride=4), ((1, 64, 16, 32),)),
    "our module, cells": (Tokens(32, width=64, reduction=2), ((1, 32, 16, 32),)),
    "softmax": (Softmax(), heads(96, 96, 64)),
    "softmax, binary values": (Softmax(binary=True), heads(128, 96, 64)),
    "softmax, 37 tokens, width 33": (Softmax(), heads(37, 37, 33, count=1)),
    "softmax, widths 31 and 65": (Softmax(binary=True), heads(100, 41, 31, count=3, depth=65)),
    "softmax, one key": (Softmax(), heads(48, 1, 64)),
    "softmax, one query": (Softmax(), heads(1, 70, 64, depth=31, count=1)),
    "softmax, four keys, depth 1": (Softmax(), heads(40, 4, 100, depth=1, count=4)),
    "softmax, width 1": (Softmax(binary=True), heads(33, 100, 1, depth=100, count=1)),
    "softmax, width 300": (Softmax(binary=True), heads(64, 160, 300, depth=8, batch=2)),
    "softmax, scaled dot product": (Softmax(attend=F.scaled_dot_product_attention), heads(64, 96, 64, count=4)),
    "softmax, our module": (Tokens(64, softmax=True), ((1, 64, 8, 16),)),
    "softmax, our module, every second key": (Tokens(32, softmax=True, key_stride=2), ((1, 32, 16, 16),)),
    "softmax, our module, every fourth key": (Tokens(64, softmax=True, key_stride=4), ((1, 64, 16, 32),)),
}


def optimized(case):
    model, shapes = CASES[case]
    torch.manual_seed(1)
    arguments = tuple(torch.randn(shape) for shape in shapes)
    with torch.no_grad():
        program = torch.export.export(model.eval(), arguments)
    imported, decisions = import_program(program).module, Decisions()
    module = optimize(imported, decisions)
    assert {layer.decision for layer in decisions.layers} - {"float" if "softmax" in case else ""} == {"binary"}
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
    if name == "generic" and "softmax" in case:  # it rounds the products of a sum as well
        np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    else:
        np.testing.assert_array_equal(result.numpy(), expected)
    (as_imported,) = evaluate(imported, data)
    np.testing.assert_allclose(result.numpy(), as_imported, rtol=0, atol=1e-5 * np.abs(as_imported).max())
    assert ("weighted_mean" if "softmax" in case else "product_pair") in lowered.family_of.values()
    assert "reduce" not in {lowered.family_of[name] for name in lowered.family_of if "matmul" in name}


@pytest.mark.parametrize("model", [Attention(), Softmax()], ids=["two levels", "softmax"])
@pytest.mark.parametrize("tokens", [1024, 4096])
def test_memory_grows_with_tokens(model, tokens):
    """No value between kernels is larger than an argument."""
    arguments = tuple(torch.zeros(1, 1, tokens, 32) for _ in range(3))
    module = optimize(import_program(torch.export.export(model, arguments)).module, Decisions())
    lowered = lower(module, target("generic"))
    assert max(stored(lowered)) <= tokens * 32


def test_ones_among_values_are_counted_in_their_words():
    """Probabilities of 0 and 1 ask for sums of the values: the kernel that packs them is the only one to read them."""
    _, module, _ = optimized("two heads")
    main = lower(module, target("generic")).module["main"]
    values = main.params[2]
    assert sum(values in binding.value.args[1].fields for binding in bindings_of(main) if call_of_kernel(binding)) == 1


def call_of_kernel(binding):
    return op_name(binding.value) == "relax.call_tir"


def test_both_products_of_softmax_attention_are_explained():
    program = torch.export.export(Softmax(), tuple(torch.zeros(shape) for shape in heads(16, 32, 32)))
    scores, means = tvm_bnn.compile(program).explain()
    assert (scores["decision"], scores["epilogue"], means["decision"]) == ("binary", "softmax: 33 weights", "float")
    assert scores["rule"] == means["rule"] and means["rule"].startswith("weighted-mean")


def refused(attend, shapes=None, others=()):
    """What the record of the scores says, of an attention that stays in floats."""
    arguments = (*(torch.zeros(shape) for shape in shapes or heads(40, 40, 64)), *others)
    decisions = Decisions()
    program = torch.export.export(Softmax(attend=attend), arguments)
    module = optimize(import_program(program).module, decisions)
    assert "weighted_mean" not in module.script()
    return decisions.layers[0].epilogue


def test_a_mask_is_named():
    attend = F.scaled_dot_product_attention
    mask = torch.zeros(40, 40)
    assert "depends on an input of the model" in refused(attend, others=(mask,))
    assert "depends on where" in refused(attend, others=(mask > 0,))
    causal = refused(lambda q, k, v: attend(q, k, v, is_causal=True))
    assert "depends on a constant that differs from score to score" in causal


def test_what_no_table_weighs_is_named():
    products = lambda q, k: q @ k.transpose(-1, -2)  # noqa: E731
    assert "not over the keys" in refused(lambda q, k, v: torch.softmax(products(q, k), -2) @ v)
    assert "reach 256 to both sides of 0" in refused(
        lambda q, k, v: torch.softmax(products(q, k), -1) @ v, heads(40, 40, 256)
    )
    two = refused(lambda q, k, v: torch.softmax(products(q, k) + products(signs(v), k), -1) @ v)
    assert "several sums of bits" in two


def test_scores_that_are_read_twice():
    """They are stored then, and weigh the values all the same."""
    model = Softmax(attend=lambda q, k, v: (torch.softmax(q @ k.transpose(-1, -2), -1) @ v, q @ k.transpose(-1, -2)))
    torch.manual_seed(1)
    arguments = tuple(torch.randn(shape) for shape in heads(24, 40, 32))
    module = optimize(import_program(torch.export.export(model, arguments)).module, Decisions())
    data = [argument.numpy() for argument in arguments]
    lowered = lower(module, target("avx2"))
    assert "weighted_mean" in lowered.family_of.values()
    scheduled = schedule_module(lowered.module, lowered.family_of, target("avx2"))
    machine = relax.VirtualMachine(machine_code(scheduled, target("avx2")), tvm.cpu())
    for result, expected in zip(machine["main"](*map(tvm.runtime.tensor, data)), evaluate(module, data), strict=True):
        np.testing.assert_array_equal(result.numpy(), expected)
