"""Networks as their authors write them: every binary layer is converted, and the result is exact."""

from dataclasses import dataclass
from functools import partial

import pytest
import torch

from tests.networks import adabin, birealnet, bnext, groupnet, irnet, layer_libraries, xnornet
from tests.networks.common import binary_paths, image, settle
from tvm_bnn import checks
from tvm_bnn.compiler import Compilation, compile_source
from tvm_bnn.frontend.source import load_source
from tvm_bnn.targets import resolve

# name -> (network, shape of its input, binary layers)
NETWORKS = {
    "Bi-Real Net, ResNet-10": (birealnet.birealnet10, (1, 3, 64, 64), 8),
    "ReActNet, ResNet-18": (birealnet.reactnet18, (1, 3, 64, 64), 16),
    "IR-Net, ResNet-10": (irnet.irnet10, (1, 3, 64, 64), 11),
    "XNOR-Net": (lambda: xnornet.store_signs(settle(xnornet.xnornet())), (2, 3, 67, 67), 6),
    "Group-Net, ResNet-10, K=5": (partial(groupnet.groupnet18, blocks=(1, 1, 1, 1)), (1, 3, 64, 64), 43),
    "AdaBin": (adabin.adabin, (1, 3, 32, 32), 12),
    "BNext-like": (bnext.bnext, (2, 3, 64, 64), 9),
    "bitorch-style dense network": (layer_libraries.bitorch_style, (1, 3, 32, 32), 5),
    "Brevitas-style VGG": (layer_libraries.brevitas_style, (1, 3, 32, 32), 6),
}


@dataclass(frozen=True)
class Case:
    """A compiled network, the paths of its binary layers, and inputs."""

    made: Compilation
    expected: list[str]
    inputs: tuple[torch.Tensor, ...]
    count: int


@pytest.fixture(scope="module", params=NETWORKS)
def case(request):
    factory, shape, count = NETWORKS[request.param]
    torch.manual_seed(0)
    model = factory()
    if not isinstance(model, xnornet.XnorNet):
        settle(model)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Case(
        compile_source(load_source(model, image(*shape)), resolve("llvm", 1)), binary_paths(model), image(*shape), count
    )
    torch.set_num_threads(threads)


def test_every_binary_layer_is_converted(case):
    assert len(case.expected) == case.count
    binary = [layer for layer in case.made.decisions.layers if layer.decision == "binary"]
    real = [layer for layer in case.made.decisions.layers if layer.decision == "float"]
    assert [(layer.path, layer.reason) for layer in real if layer.path in case.expected] == []
    # and no other: stems, shortcuts and heads have real operands
    assert {layer.path for layer in binary} == set(case.expected)
    assert all(layer.reason and layer.advice for layer in real)


def test_artifact_equals_the_reference_bit_for_bit(case):
    differences = checks.against_reference(case.made.artifact, case.made.optimized, case.inputs)
    assert [difference.differing for difference in differences] == [0]


def test_every_value_follows_from_pytorchs(case):
    figures = checks.teacher_forced(case.made.imported, case.made.optimized, case.inputs)
    assert [figure for figure in figures if not figure.exact_enough] == []
    # what this rests on: there are values to compare between the layers
    assert len(figures) >= case.count
