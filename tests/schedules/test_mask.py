"""Compare masks: the intrinsic is registered once, and its description means what it says."""

import numpy as np
import pytest
import tvm
from tvm import te, tirx
from tvm.s_tir import Schedule

from tvm_bnn.schedules.mask import gather_mask


@pytest.mark.parametrize("lanes", [8, 16])
def test_neighbouring_predicates_become_an_integer(lanes):
    source = te.placeholder((4, lanes), "float32", name="source")
    cond = te.compute((4, lanes), lambda i, j: source(i, j) > tirx.const(0.0, "float32"), name="cond")
    lane = te.reduce_axis((0, lanes), "lane")
    gathered = te.compute(
        (4,),
        lambda i: te.sum(tirx.Cast("uint32", cond(i, lane.var)) << lane.var.astype("uint32"), axis=lane),
        name="mask",
    )
    sch = Schedule(tvm.IRModule({"main": te.create_prim_func([source, gathered])}))
    mask, compare = sch.get_sblock("mask"), sch.get_sblock("cond")
    sch.compute_at(compare, sch.get_loops(mask)[0], preserve_unit_loops=True)
    sch.set_scope(compare, 0, "local")
    copy = sch.cache_write(mask, 0, "local")
    del copy
    sch.reverse_compute_at(sch.get_sblock("mask_local"), sch.get_loops(mask)[0], preserve_unit_loops=True)
    gather_mask(sch, mask, sch.get_loops(mask)[-1], lanes)
    function = tvm.compile(sch.mod, target="llvm")
    values = np.random.default_rng(0).standard_normal((4, lanes)).astype(np.float32)
    result = tvm.runtime.tensor(np.zeros(4, np.uint32))
    function(tvm.runtime.tensor(values), result)
    expected = ((values > 0) * 2 ** np.arange(lanes)).sum(axis=1)
    np.testing.assert_array_equal(result.numpy(), expected)
