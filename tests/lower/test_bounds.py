"""Sums that leave terms out, and the loops that do not visit them."""

import numpy as np
import pytest
import tvm
from tvm import te, tirx
from tvm.s_tir import SBlockRealize, Schedule

from tvm_bnn import targets
from tvm_bnn.lower.bounds import bound_sums, within

ROWS, TERMS = 5, 6
FIRST, LAST = (lambda y: tirx.max(2 - y, 0)), (lambda y: tirx.min(8 - y, TERMS))


@pytest.fixture
def sch():
    """A schedule of out[y] = sum of data[k] where max(2 - y, 0) <= k < min(8 - y, 6)."""
    data = te.placeholder((TERMS,), "int32", name="data")
    k = te.reduce_axis((0, TERMS), "k")
    out = te.compute((ROWS,), lambda y: te.sum(within(FIRST(y), LAST(y), k.var, data(k.var)), axis=k), name="out")
    return Schedule(tvm.IRModule({"main": te.create_prim_func([data, out])}))


def loops(stmt):
    """Every loop, outermost first."""
    if isinstance(stmt, SBlockRealize):
        yield from loops(stmt.block.body)
    elif isinstance(stmt, tirx.SeqStmt):
        for part in stmt.seq:
            yield from loops(part)
    elif isinstance(stmt, tirx.For):
        yield stmt
        yield from loops(stmt.body)


def run(func):
    """The sums of powers of two."""
    target = targets.resolve("llvm", threads=1)
    kernel = tvm.compile(tvm.IRModule({"main": func.with_attr("global_symbol", "main")}), target=target.tvm())
    data, out = tvm.runtime.tensor(2 ** np.arange(TERMS, dtype=np.int32)), tvm.runtime.empty((ROWS,), "int32")
    kernel["main"](data, out)
    return out.numpy().tolist()


EXPECTED = [sum(2**k for k in range(max(2 - y, 0), min(8 - y, TERMS))) for y in range(ROWS)]


def test_loop_visits_what_counts(sch):
    sch.decompose_reduction(sch.get_sblock("out"), sch.get_loops(sch.get_sblock("out"))[1])
    func = bound_sums(sch.mod["main"])
    y, k = loops(func.body)
    visited = tirx.IndexMap([y.loop_var], [k.min, k.min + k.extent], None)
    for row in range(ROWS):
        first, last = (int(each) for each in visited.map_indices([row]))
        assert (first, last) == (max(2 - row, 0), min(8 - row, TERMS))
    assert "within" not in func.script()
    assert run(func) == EXPECTED


def test_a_split_loop_keeps_its_choice(sch):
    block = sch.get_sblock("out")
    sch.split(sch.get_loops(block)[1], [3, 2])
    sch.decompose_reduction(block, sch.get_loops(block)[1])
    func = bound_sums(sch.mod["main"])
    assert "within" in func.script()
    assert run(func) == EXPECTED


def test_bounds_of_a_loop_inside_stay_a_choice(sch):
    block = sch.get_sblock("out")
    y, k = sch.get_loops(block)
    sch.reorder(k, y)
    sch.decompose_reduction(block, k)
    func = bound_sums(sch.mod["main"])
    assert "within" in func.script()
    assert run(func) == EXPECTED


def test_other_kernels_stay_as_they_are():
    data = te.placeholder((4,), "int32", name="data")
    func = te.create_prim_func([data, te.compute((4,), lambda i: data(i) + 1, name="out")])
    assert bound_sums(func).same_as(func)
