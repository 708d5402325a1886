"""Kernels that are too small for threads have no parallel loop, and give the same."""

import numpy as np
import pytest
import tvm
from tvm.relax import VirtualMachine
from tvm.script import tirx as T

from tests.schedules.test_binary_conv import conv
from tvm_bnn.lower import lower
from tvm_bnn.schedules import schedule_module, threshold
from tvm_bnn.schedules.apply import machine_code
from tvm_bnn.schedules.threshold import READ, STARTING, share_large, steps
from tvm_bnn.targets import resolve


@pytest.fixture
def two_sizes(build_cases):
    """Scheduled kernels of a small and of a large map, for four threads, and their arguments."""
    cases = {"small": conv(64, 64, size=(3, 5)), "large": conv(64, 64, size=(40, 50))}
    module, data, _ = build_cases(cases, list(cases), list(cases))
    target = resolve("llvm", threads=4)
    lowered = lower(module, target)
    return lowered, schedule_module(lowered.module, lowered.family_of, target), data, target


def parallel(func):
    return "T.parallel" in func.script()


def test_small_kernels_share_nothing(two_sizes):
    lowered, scheduled, _, _ = two_sizes
    assert all(parallel(scheduled[name]) for name in lowered.family_of)
    shared = share_large(scheduled, lowered.family_of, 4)
    for name in lowered.family_of:
        assert parallel(shared[name]) == (steps(scheduled[name]) * 3 >= 4 * STARTING)
        assert dict(shared[name].attrs) == dict(scheduled[name].attrs)
    assert {parallel(shared[name]) for name, family in lowered.family_of.items() if "conv" in family} == {True, False}


def test_one_thread_may_become_several_later(two_sizes):
    lowered, scheduled, _, _ = two_sizes
    assert share_large(scheduled, lowered.family_of, 1).same_as(scheduled)


def test_results_are_the_same(two_sizes, monkeypatch):
    lowered, scheduled, data, target = two_sizes

    def run(module):
        main = VirtualMachine(machine_code(module, target), tvm.cpu())["main"]
        return [each.numpy() for each in main(*map(tvm.runtime.tensor, data))]

    monkeypatch.setattr(threshold, "STARTING", 1 << 40)
    alone = share_large(scheduled, lowered.family_of, 4)
    assert not any(parallel(alone[name]) for name in lowered.family_of)
    for one, other in zip(run(scheduled), run(alone), strict=True):
        np.testing.assert_array_equal(one, other)


def test_steps_are_stores_and_those_of_a_vector_are_one():
    @T.prim_func(s_tir=True)
    def func(a: T.Buffer((6, 32), "float32")):
        for i in T.parallel(6):
            for j in range(i + 1):
                for k in T.vectorized(16):
                    a[i, j + k] = T.float32(1)
            a[i, 0] = T.float32(0)

    # as if the inner loop were always the longest
    assert steps(func) == 6 * (6 + 1)


def test_reading_counts_where_it_takes_longer():
    @T.prim_func(s_tir=True)
    def func(weights: T.Buffer((512, 64, 16), "float32"), a: T.Buffer((64, 16), "float32")):
        for i in T.parallel(64):
            for k in T.vectorized(16):
                a[i, k] = weights[0, i, k]

    assert steps(func) == (512 + 1) * 64 * 16 * 4 // READ
