"""ReActNet-18 converts whole and exactly; its float twin does the same work."""

import pytest
import torch

from tvm_bnn import checks
from tvm_bnn.compiler import compile_source
from tvm_bnn.examples.ding2024 import count_macs
from tvm_bnn.examples.reactnet import example_inputs, float_twin, reactnet18
from tvm_bnn.frontend.source import load_source
from tvm_bnn.nn import BinaryConv2d, RPReLU, ThresholdSign
from tvm_bnn.targets import resolve

SMALL = (64, 96)


@pytest.fixture(scope="module")
def made():
    model = reactnet18(width=16)
    inputs = example_inputs(model, SMALL)
    return compile_source(load_source(model, inputs), resolve("llvm", 1)), inputs


def test_all_sixteen_binary_layers_are_converted_and_the_others_are_float(made):
    compilation, _ = made
    found = {layer.path: layer.decision for layer in compilation.decisions.layers}
    model = reactnet18(width=16)
    binary = {path for path, module in model.named_modules() if isinstance(module, BinaryConv2d)}
    assert len(binary) == 16
    assert {path for path, decision in found.items() if decision == "binary"} == binary
    assert {path for path, decision in found.items() if decision == "float"} == {
        "stem.0",
        *(f"stages.{stage}.0.shortcut.conv" for stage in (1, 2, 3)),
        "head",
    }


def test_artifact_equals_the_reference_and_every_value_follows_from_pytorchs(made):
    compilation, inputs = made
    differences = checks.against_reference(compilation.artifact, compilation.optimized, inputs)
    assert [difference.differing for difference in differences] == [0]
    figures = checks.teacher_forced(compilation.imported, compilation.optimized, inputs)
    assert len(figures) >= 16 and [figure for figure in figures if not figure.exact_enough] == []


def test_the_network_is_of_the_stated_size_and_its_twin_does_the_same_work():
    model, twin = reactnet18(), float_twin()
    macs = count_macs(model, example_inputs(model))
    # a ResNet-18, whose 1x1 shortcuts read a quarter of the pixels here as there
    assert 1.81e9 < macs < 1.82e9
    assert count_macs(twin, example_inputs(twin)) == macs
    assert not {type(module) for module in twin.modules()} & {BinaryConv2d, RPReLU, ThresholdSign}


def test_logits_differ_between_classes_and_between_images():
    model = reactnet18(width=16)
    with torch.no_grad():
        first, other = (model(*example_inputs(model, SMALL, seed)) for seed in (0, 1))
    assert first.shape == (1, 1000) and first.dtype == torch.float32
    assert first.isfinite().all() and len(first.unique()) > 900
    assert not torch.equal(first, other)


def test_seeds_decide_everything():
    first, again, other = (reactnet18(seed, width=16).state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(first[name], again[name]) for name in first)
    changed = {name for name in first if not torch.equal(first[name], other[name])}
    assert {name for name in first if not name.endswith("num_batches_tracked")} == changed
