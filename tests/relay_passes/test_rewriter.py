"""DataflowRewriter: names, layer paths and attributes survive a walk; new values take nobody's name."""

import pytest
import torch
import tvm
from tvm import relax
from tvm.relax.op import add, exp, negative

from tvm_bnn.relay_passes.rewriter import DataflowRewriter, bindings_of, op_name, path_of, run_rewriter, shape_of


class _Nothing(DataflowRewriter):
    def rewrite(self, call, name):
        return None


class _ExpTwice(DataflowRewriter):
    def rewrite(self, call, name):
        if op_name(call) != "relax.exp":
            return None
        return negative(self.emit(negative(self.emit(call))))


def names(module: tvm.IRModule) -> list[str]:
    return [binding.var.name for binding in bindings_of(module["main"])]


def test_doing_nothing_changes_nothing(build):
    before = build(lambda x: relax.Tuple([exp(add(x, x)), x]), (2, 3))
    after = run_rewriter(_Nothing, before)
    tvm.ir.assert_structural_equal(after, before)
    assert names(after) == names(before)


def test_values_keep_their_names_when_others_come_between(build, agree):
    before = build(lambda x: add(exp(exp(x)), exp(x)), (2, 3))
    after = run_rewriter(_ExpTwice, before)
    assert set(names(before)) < set(names(after))
    agree(before, after)


def test_names_of_dropped_values_are_not_given_to_others(build, run):
    before = build(lambda x: add(exp(negative(relax.const(1.0))), exp(x)), (2, 3))
    after = run_rewriter(_ExpTwice, relax.transform.FoldConstant()(before))
    fresh = set(names(after)) - set(names(before))
    assert fresh and all(name.split("_part")[0] in names(before) for name in fresh)


def test_attributes_of_the_function_survive(build):
    before = build(exp, (2, 3))
    before.update_func(before.get_global_var("main"), before["main"].with_attr("number", 7))
    assert run_rewriter(_Nothing, before)["main"].attrs["number"] == 7


def test_layer_paths_survive(imported):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3))

        def forward(self, x):
            return self.first(x).exp()

    after = run_rewriter(_Nothing, imported(Model(), torch.zeros(1, 1, 4, 4)))
    paths = {op_name(b.value): path_of(b.value) for b in bindings_of(after["main"]) if op_name(b.value)}
    assert paths["relax.nn.conv2d"] == "first.0"
    assert paths["relax.exp"] == "model"


def test_a_tuple_made_by_a_rewrite_is_taken_apart(build, agree):
    class Swap(DataflowRewriter):
        def rewrite(self, call, name):
            if op_name(call) != "relax.split":
                return None
            halves = [relax.op.strided_slice(call.args[0], [0], [i], [i + 1]) for i in (0, 1)]
            return relax.Tuple([self.emit(half) for half in halves])

    def function(x):
        parts = relax.BlockBuilder.current().emit(relax.op.split(x, 2, 0))
        return add(exp(relax.TupleGetItem(parts, 0)), relax.TupleGetItem(parts, 1))

    before = build(function, (2, 3))
    agree(before, run_rewriter(Swap, before))


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)], ids=str)
def test_shape_of(shape):
    assert shape_of(relax.Var("x", relax.TensorType(shape, "float32"))) == shape
