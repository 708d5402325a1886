"""Cutting the inner loop out of assembly."""

import shutil

import pytest

from tvm_bnn.errors import InputError
from tvm_bnn.report import inner_loop
from tvm_bnn.targets import resolve

ASSEMBLY = """
main:
.LBB0_1:
	mov	w1, #3                          // =0x3
	.p2align	4, , 8
.LBB0_2:                                // =>This Inner Loop Header: Depth=2
	ldr	q0, [x0], #16
.Ltmp3:
	eor	v0.16b, v0.16b, v1.16b
	cnt	v0.16b, v0.16b
	uadalp	v2.8h, v0.16b
	subs	w1, w1, #1
	b.ne	.LBB0_2
	cnt	v3.16b, v3.16b
	cnt	v3.16b, v3.16b
	cbnz	w2, .LBB0_1
.LBB0_3:
	add	w3, w3, #1
	tbnz	w3, #4, .LBB0_3
	b	.LBB0_4
.LBB0_4:
	ret
"""


def test_loop_is_the_innermost_that_has_most():
    loop = inner_loop.inner_loop(ASSEMBLY, "cnt")
    assert [line.split()[0] for line in loop] == ["ldr", "eor", "cnt", "uadalp", "subs", "b.ne"]
    assert inner_loop.count(loop, "cnt") == 1


def test_loop_of_another_mnemonic():
    assert [line.split()[0] for line in inner_loop.inner_loop(ASSEMBLY, "tbnz")] == ["add", "tbnz"]


def test_no_loop_has_it():
    assert inner_loop.inner_loop(ASSEMBLY, "ret") == []


def test_cycles_are_at_least_those_of_the_pipelines():
    """Three instructions on two vector pipelines, in a chain through the accumulator."""
    if not any(shutil.which(name) for name in inner_loop._NAMES):
        pytest.skip("no llvm-mca here; try: apt-get install llvm")
    cycles = inner_loop.cycles(inner_loop.inner_loop(ASSEMBLY, "cnt"), resolve("llvm -mcpu=cortex-a72"))
    assert 1.5 <= cycles < 10


def test_missing_model_is_one_line(monkeypatch):
    monkeypatch.setattr(inner_loop, "_NAMES", ("llvm-mca-that-is-nowhere",))
    with pytest.raises(InputError, match=r"^no llvm-mca here; try: apt-get install llvm$"):
        inner_loop.mca()
