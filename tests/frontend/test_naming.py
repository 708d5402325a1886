"""Values bear the names of their nodes, through all passes."""

import pytest
import torch
import tvm
from torch import nn

from tvm_bnn.frontend.importer import import_program
from tvm_bnn.frontend.naming import name_by_node
from tvm_bnn.reference import evaluate
from tvm_bnn.relay_passes.convert_binary import Decisions
from tvm_bnn.relay_passes.pipeline import optimize
from tvm_bnn.relay_passes.rewriter import bindings_of

IMAGE = torch.linspace(-2, 2, 3 * 64).reshape(1, 3, 8, 8)


def imported(model):
    return import_program(torch.export.export(model.eval(), (IMAGE,)))


@pytest.fixture
def renamed(networks):
    return name_by_node(imported(networks.Net()), single=True)


def names(module):
    return [binding.var.name for binding in bindings_of(module["main"])]


def test_names_are_nodes_and_steps_on_the_way(renamed):
    nodes = {node.name for node in renamed.program.graph.nodes}
    found = names(renamed.module)
    assert len(found) == len(set(found))
    assert {"convolution", "convolution_1", "ge"} <= set(found)
    # a bias is a step of its own
    assert "convolution__1" in found
    for name, node in renamed.node_of.items():
        assert node in nodes
        assert name in (node, "gv") or node.startswith("getitem")


def test_meaning_is_unchanged(networks):
    before = imported(networks.Net())
    after = name_by_node(before)
    image = IMAGE.numpy()
    assert evaluate(after.module, [image])[0].tobytes() == evaluate(before.module, [image])[0].tobytes()
    assert isinstance(after.module["main"].ret_ty, tvm.relax.TupleType)


def test_single_result_is_no_tuple(renamed, networks):
    assert isinstance(renamed.module["main"].ret_ty, tvm.relax.TensorType)
    pair = name_by_node(imported(networks.Pair()))
    assert len(pair.module["main"].ret_ty.fields) == 2


def test_spans_survive(renamed):
    paths = {
        binding.value.span.source_name.name
        for binding in bindings_of(renamed.module["main"])
        if isinstance(binding.value, tvm.relax.Call) and binding.value.span is not None
    }
    assert {"stem", "binary", "norm"} <= paths


def test_passes_introduce_no_name_of_a_node(renamed):
    known = set(renamed.node_of)
    before = {name: binding for name, binding in zip(names(renamed.module), bindings_of(renamed.module["main"]))}
    optimized = optimize(renamed.module, Decisions())
    introduced = set(names(optimized)) - set(before)
    assert introduced and not introduced & (known - {"gv"})


class ClashingNames(nn.Module):
    """Arguments named as a Relax builder names its values."""

    def forward(self, lv1, gv):
        total = lv1 + gv
        return total * total


def test_arguments_named_like_relax_values():
    program = torch.export.export(ClashingNames(), (torch.ones(2), torch.full((2,), 2.0)))
    module = name_by_node(import_program(program), single=True).module
    assert evaluate(module, [torch.ones(2).numpy(), torch.full((2,), 2.0).numpy()])[0].tolist() == [9.0, 9.0]
