"""What executes kernels here finds what would go wrong on a GPU."""

import numpy as np
import pytest
from tvm.script import tirx as T

from tests.cuda import simt, warps
from tests.cuda.grid import target_of

ARCH = target_of("sm_80")
NUMBERS = np.arange(64, dtype=np.int32)


def exchange(read, written=lambda i: i):
    """Thread i keeps an element in shared memory, and stores another one."""

    @T.prim_func(s_tir=True)
    def main(a: T.Buffer((64,), "int32"), b: T.Buffer((64,), "int32")):
        T.func_attr({"tirx.noalias": True})
        block = T.launch_thread("blockIdx.x", 1)
        i = T.launch_thread("threadIdx.x", 64)
        kept = T.decl_buffer((64,), "int32", scope="shared")
        kept[written(i)] = a[i + block]
        b[i] = kept[read(i)]

    return main


def without_barriers(monkeypatch):
    """As if TVM had put none."""
    monkeypatch.setattr(simt._Threads, "_barrier", lambda self: np.array(0))


def test_tvm_puts_a_barrier_where_threads_read_of_one_another():
    _, found = simt.run(exchange(lambda i: 63 - i), ARCH, [NUMBERS, NUMBERS * 0])
    np.testing.assert_array_equal(found, NUMBERS[::-1])


def test_without_it_there_is_a_race(monkeypatch):
    without_barriers(monkeypatch)
    with pytest.raises(simt.Fault, match=r"threads read of kept.* what others write"):
        simt.run(exchange(lambda i: 63 - i), ARCH, [NUMBERS, NUMBERS * 0])


def test_what_each_thread_reads_of_its_own_is_none(monkeypatch):
    without_barriers(monkeypatch)
    _, found = simt.run(exchange(lambda i: i), ARCH, [NUMBERS, NUMBERS * 0])
    np.testing.assert_array_equal(found, NUMBERS)


def test_two_threads_that_write_an_element_race():
    with pytest.raises(simt.Fault, match="threads write the same elements of kept"):
        simt.run(exchange(lambda i: i, written=lambda i: i // 2), ARCH, [NUMBERS, NUMBERS * 0])


def test_an_index_outside_of_a_buffer_is_found():
    with pytest.raises(simt.Fault, match=r"kept.*\[64\] is outside of its 64 elements"):
        simt.run(exchange(lambda i: i + 1), ARCH, [NUMBERS, NUMBERS * 0])


def copied(left, barrier=True):
    """Each thread copies an element ahead, and zeros beyond the first 40; left : groups that it does not wait for."""

    @T.prim_func(s_tir=True)
    def main(a: T.Buffer((64,), "uint32"), b: T.Buffer((64,), "uint32")):
        T.func_attr({"tirx.noalias": True})
        T.launch_thread("blockIdx.x", 1)
        i = T.launch_thread("threadIdx.x", 64)
        kept = T.decl_buffer((64,), "uint32", scope="shared")
        with T.attr(0, "async_commit_queue_scope", 0):
            kept[i] = T.if_then_else(i < 40, a[i], T.uint32(0))
        with T.attr(0, "async_wait_queue_scope", 0), T.attr(0, "async_wait_inflight_count", left):
            b[i] = kept[63 - i if barrier else i]

    return main


def test_copies_ahead_are_there_when_they_are_waited_for():
    words = NUMBERS.astype(np.uint32) + 1
    _, found = simt.run(copied(0), ARCH, [words, words * 0])
    np.testing.assert_array_equal(found, np.where(NUMBERS < 40, words, 0)[::-1])


@pytest.mark.parametrize("barrier", [True, False])
def test_copies_that_nobody_waited_for_are_not_read(barrier):
    words = NUMBERS.astype(np.uint32)
    with pytest.raises(simt.Fault, match=r"threads read of kept.* what others write"):
        simt.run(copied(1, barrier), ARCH, [words, words * 0])


@pytest.mark.parametrize(("shape", "words"), [("m8n8k128", 4), ("m16n8k256", 8)])
@pytest.mark.parametrize("operation", ["xor", "and"])
def test_a_product_of_one_bit_is_where_the_manual_says(shape, words, operation):
    product = warps.product_of([shape, "s32", "b1", "b1", "s32", operation, "popc"])
    ones = [np.full((1, 32), 0xFFFFFFFF, np.uint32)] * len(product.b)
    sums = [np.zeros((1, 32), np.uint32)] * len(product.c)
    for row, word in np.ndindex(product.rows, words):
        places = [(rows == row) & (columns == word) for rows, columns in product.a]
        left = [np.where(place, 5, 0)[None].astype(np.uint32) for place in places]
        assert sum(int(np.count_nonzero(register)) for register in left) == 1
        found = np.zeros((product.rows, product.columns), np.uint32)
        for (rows, columns), value in zip(product.c, warps.multiply(product, [*left, *ones, *sums]), strict=True):
            found[rows, columns] = value[0]
        expected = np.full_like(found, 32 * words if operation == "xor" else 0)
        expected[row] += np.uint32(2) if operation == "and" else np.uint32(0)
        expected[row] -= np.uint32(2) if operation == "xor" else np.uint32(0)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shape", ["m8n8k16 s8", "m16n8k32 s8", "m16n8k16 bf16", "m16n8k8 tf32"])
def test_a_product_of_numbers_is_that_of_the_matrices_in_its_registers(shape):
    name, kind = shape.split()
    sums = "s32" if kind == "s8" else "f32"
    product = warps.product_of([name, sums, kind, kind, sums])
    rng = np.random.default_rng(0)
    depth = int(name.rpartition("k")[2])
    left, right = (rng.integers(-8, 8, (rows, depth)) for rows in (product.rows, product.columns))
    before = rng.integers(-99, 99, (product.rows, product.columns))

    def registers(matrix, places):
        floats = np.ascontiguousarray(matrix.astype(np.float32)).view(np.uint32)
        halves = np.ascontiguousarray((floats >> 16).astype(np.uint16))
        words = {"s8": matrix.astype(np.int8), "bf16": halves, "tf32": floats}[kind].view(np.uint32)
        return [words[rows, columns][None] for rows, columns in places]

    dtype = np.int32 if kind == "s8" else np.float32
    given = [before[rows, columns][None].astype(dtype) for rows, columns in product.c]
    made = warps.multiply(product, [*registers(left, product.a), *registers(right, product.b), *given])
    expected = left @ right.T + before
    for (rows, columns), value in zip(product.c, made, strict=True):
        np.testing.assert_array_equal(value[0], expected[rows, columns])


def test_a_ballot_has_the_predicates_of_the_lanes_in_its_mask():
    mask = np.full((1, 32), 0x7FFFFFFF, np.uint32)
    predicate = np.zeros((1, 32), np.int32)
    predicate[0, [0, 5, 31]] = [1, -3, 1]
    np.testing.assert_array_equal(warps.MOVES["cuda.ballot_sync"](mask, predicate), np.full((1, 32), 1 | 1 << 5))


def test_a_ballot_of_a_part_of_a_warp_is_found():
    @T.prim_func(s_tir=True)
    def main(a: T.Buffer((64,), "int32"), b: T.Buffer((64,), "uint32")):
        T.func_attr({"tirx.noalias": True})
        block = T.launch_thread("blockIdx.x", 1)
        i = T.launch_thread("threadIdx.x", 64)
        if i + block < 40:
            b[i] = T.cuda.ballot_sync(T.uint32(0xFFFFFFFF), a[i])

    with pytest.raises(simt.Fault, match="ballot_sync by a part of a warp"):
        simt.run(main, ARCH, [NUMBERS, NUMBERS.astype(np.uint32)])
