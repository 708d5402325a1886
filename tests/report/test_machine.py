"""The kernels compute what they are timed for; bandwidth between measured sizes; a pool that is left alone."""

import numpy as np
import pytest
import tvm

from tvm_bnn.arithmetic import fma32
from tvm_bnn.report import ceilings, machine
from tvm_bnn.report.machine import MB, Limits
from tvm_bnn.targets import host

THREADS, STEPS = 2, 5
TARGET = host(THREADS)


def run(kernel):
    """The kernel's seed (small numbers, seeded) and result."""
    seed = np.random.default_rng(0).integers(0, 100, kernel.shape).astype(kernel.dtype)
    result = tvm.runtime.empty(kernel.shape, kernel.dtype)
    ceilings.build(kernel.func, TARGET)["main"](tvm.runtime.tensor(seed), result)
    return seed, result.numpy()


def chains(kernel, lanes):
    """The seed's first two vectors, and each value's lane, to compute all chains at once."""
    lane = np.arange(kernel.shape[1]) % lanes
    return lambda seed, vector: seed[:, vector * lanes + lane]


@pytest.mark.parametrize("kernel", ceilings.binary(TARGET, THREADS, STEPS), ids=lambda k: f"{k.dtype}x{k.shape[1]}")
def test_binary_kernels_xor_count_and_add(kernel):
    seed, found = run(kernel)
    operand = chains(kernel, TARGET.vector_bits // 8 // seed.itemsize)(seed, 0)
    expected = seed
    for _ in range(STEPS):
        expected = expected + np.bitwise_count(expected ^ operand)
    np.testing.assert_array_equal(found, expected.astype(kernel.dtype))
    assert kernel.macs == STEPS * seed.nbytes * 8


@pytest.mark.parametrize("kernel", ceilings.fp32(TARGET, THREADS, STEPS), ids=lambda k: f"x{k.shape[1]}")
def test_fp32_kernels_multiply_and_add_with_one_rounding(kernel):
    seed, found = run(kernel)
    vector = chains(kernel, TARGET.vector_bits // 32)
    expected = seed
    for _ in range(STEPS):
        expected = fma32(expected, vector(seed, 0), vector(seed, 1))
    np.testing.assert_array_equal(found, expected)
    assert kernel.macs == STEPS * seed.size


def test_int8_kernels_sum_four_products():
    kernels = ceilings.int8(TARGET, THREADS, STEPS)
    if not kernels:
        pytest.skip(f"{TARGET.name} has no int8 dot product")
    for kernel in kernels:
        seed, found = run(kernel)
        vector = chains(kernel, TARGET.vector_bits // 32)
        # the seed is below 128: signed and unsigned bytes are the same, and its upper bytes are 0
        expected = seed + STEPS * vector(seed, 0) * vector(seed, 1)
        np.testing.assert_array_equal(found, expected)
        assert kernel.macs == STEPS * seed.size * 4


def test_tiles_multiply_rows_of_bytes_by_columns():
    kernels = ceilings.tiles(TARGET, THREADS, STEPS)
    if not kernels:
        pytest.skip(f"{TARGET.name} has no AMX")
    (kernel,) = kernels
    rng = np.random.default_rng(0)
    seed = rng.integers(-(2**31), 2**31, kernel.shape).astype(np.int32)
    result = tvm.runtime.empty(kernel.shape, kernel.dtype)
    ceilings.build(kernel.func, TARGET)["main"](tvm.runtime.tensor(seed), result)
    expected = seed.reshape(THREADS, -1, 16, 16).copy()
    # bytes of a row follow each other; a column's lie in fours, in every row of the tile
    rows = expected[:, -2].copy().view(np.int8).reshape(THREADS, 16, 16, 4).astype(np.int32)
    columns = expected[:, -1].copy().view(np.int8).reshape(THREADS, 16, 16, 4).astype(np.int32)
    products = np.einsum("tmqr,tqnr->tmn", rows, columns)
    expected[:, :-2] += STEPS * products[:, None]
    np.testing.assert_array_equal(result.numpy().reshape(expected.shape), expected)
    assert kernel.macs == STEPS * THREADS * (expected.shape[1] - 2) * 16 * 16 * 64


def test_copy_copies_everything():
    count = THREADS * ceilings.COPY_LANES * 37
    source = np.random.default_rng(0).standard_normal(count, np.float32)
    result = tvm.runtime.tensor(np.zeros(count, np.float32))
    ceilings.build(ceilings.copy(count, THREADS), TARGET)["main"](tvm.runtime.tensor(source), result)
    np.testing.assert_array_equal(result.numpy(), source)


def test_measuring_gives_rates_and_leaves_the_callers_pool():
    before = tvm.get_global_func("runtime.NumThreads")()
    found = machine.measure(host(1), calls=2, steps=1000, copy_sizes=(1, 4))
    assert tvm.get_global_func("runtime.NumThreads")() == before
    assert found.threads == 1 and min(found.binary, found.fp32) > 0
    assert set(found.copy) == {MB, 4 * MB} and min(found.copy.values()) > 0
    # a vector holds 32 times as many bits as floats; even the slowest popcount keeps some of that
    assert found.binary > found.fp32


LIMITS = Limits(2, 100.0, 10.0, None, {4 * MB: 40.0, MB: 80.0, 16 * MB: 20.0})


@pytest.mark.parametrize(
    ("size", "rate"),
    [(1, 80.0), (MB, 80.0), (2 * MB, 60.0), (4 * MB, 40.0), (8 * MB, 30.0), (16 * MB, 20.0), (1 << 40, 20.0)],
)
def test_bandwidth_follows_the_logarithm_of_the_size(size, rate):
    assert LIMITS.bandwidth(size) == pytest.approx(rate)


def test_description_is_plain_data():
    described = machine.describe(host(), [LIMITS])
    assert described["limits"]["2"] == {
        "binary_macs_per_s": 100.0,
        "fp32_macs_per_s": 10.0,
        "int8_macs_per_s": None,
        "int8_tile_macs_per_s": None,
        "copy_bytes_per_s": {"1": 80.0, "4": 40.0, "16": 20.0},
    }
    assert described["cpus"] >= 1 and described["target"] == host().name and described["cpu"]
