"""Memory inside of kernels, planned as that of results: same values, none asked for at run time."""

import numpy as np
import tvm
from tvm import relax, te

from tests.lower.test_in_place import bconv, emit, stored
from tvm_bnn import launches, targets
from tvm_bnn.lower import lower
from tvm_bnn.lower.in_place import share_memory
from tvm_bnn.lower.workspaces import planned
from tvm_bnn.reference import evaluate
from tvm_bnn.relay_passes.rewriter import bindings_of, op_name
from tvm_bnn.schedules.apply import define_module, machine_code

SHAPE = (1, 64, 3, 4)


def stored_by(func) -> list:
    """Buffers that a kernel asks for."""
    return [buffer for buffer in func.body.block.alloc_buffers if buffer.scope() == "global"]


def branches(x):
    """Two that are added to one map, by one kernel: one of them in its place."""
    first = stored(x)
    return relax.Tuple([emit(relax.op.add(bconv(x, seed), first)) for seed in range(2)])


def test_results_are_those_of_the_reference(build):
    """Of kernels by their definitions, which store every stage."""
    module, target = build(branches, SHAPE), targets.resolve("llvm", threads=1)
    lowered = lower(module, target)
    defined = define_module(lowered.module, lowered.family_of)
    for name in lowered.family_of:
        defined.update_func(defined.get_global_var(name), share_memory(defined[name]))
    made = planned(defined)
    in_place = [b.value.args[0].name_hint for b in bindings_of(made["main"]) if "inplace" in op_name(b.value)]
    assert in_place and any(isinstance(b.value, relax.Tuple) for b in bindings_of(made["main"]))
    assert all(stored_by(defined[name]) for name in in_place)
    assert not any(stored_by(made[name]) for name in lowered.family_of)
    data = [np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)]
    results = relax.VirtualMachine(machine_code(made, target), tvm.cpu())["main"](*map(tvm.runtime.tensor, data))
    for mine, theirs in zip(results, evaluate(module, data), strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs)


def test_a_result_is_no_part_of_what_is_kept():
    """A kernel's result that a network returns is new in each run, its workspace is not."""
    x = te.placeholder((8,), name="x")
    middle = te.compute((8,), lambda i: x[i] + 1, name="middle")
    func = te.create_prim_func([x, te.compute((8,), lambda i: middle[7 - i] * 2, name="y")])
    builder = relax.BlockBuilder()
    kernel = builder.add_func(func.with_attrs({"tirx.is_scheduled": True, "global_symbol": "kernel"}), "kernel")
    var = relax.Var("x", relax.TensorType((8,), "float32"))
    with builder.function("main", [var]):
        with builder.dataflow():
            out = builder.emit_output(relax.call_tir(kernel, [var], relax.TensorType((8,), "float32")))
        builder.emit_func_output(out)
    target = targets.resolve("cuda -arch=sm_90", gpu=True).tvm()
    with target, tvm.transform.PassContext(config=launches.CONFIG):
        text = launches.pipeline(target)(builder.get())["main"].script()
    assert text.count("vm.builtin.cuda_graph.get_cached_alloc") == 1
    assert text.count("R.vm.alloc_storage(") == 1
