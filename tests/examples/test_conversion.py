"""Every binary layer of every example is converted, the others are those meant to be float, and the result is exact."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tvm_bnn import checks
from tvm_bnn.compiler import compile_source
from tvm_bnn.examples import bimtdp, ding2024, groupnet, reactnet, restoration, unet
from tvm_bnn.examples.ding2024 import DEMO, count_macs
from tvm_bnn.examples.groupnet import GroupNetConfig
from tvm_bnn.frontend.source import load_source
from tvm_bnn.nn import BinaryConv2d, BinaryConvTranspose2d, BinaryMask, RPReLU, Sign, ThresholdSign
from tvm_bnn.requirement import require_binary
from tvm_bnn.targets import resolve

BINARY = (BinaryConv2d, BinaryConvTranspose2d)
# small maps keep the checks short, and few layers the compilation
FCN = GroupNetConfig((1, 1, 1, 1), 2, 8, merge="scalars", head="fcn", classes=5, argmax=False)
DING = replace(DEMO, width=8, decoder_channels=32, branches=3, argmax=False, input_size=(64, 96))
DEEPLAB = GroupNetConfig((1, 1, 1, 1), 2, 8, bpac=True, head="deeplab", classes=5)


@dataclass(frozen=True)
class Example:
    """A small network of a package.

    make : seed -> the network. twin : of it; single : the network with one branch, as its twin has.
    size : of the image. binary : number of binary layers. real : paths of the others. products : of modules with binary
    products of activations.
    """

    package: Any
    make: Callable[[int], nn.Module]
    twin: Callable[[], nn.Module]
    single: Callable[[], nn.Module]
    size: tuple[int, int]
    binary: int
    real: tuple[str, ...]
    products: tuple[str, ...] = ()

    def inputs(self, seed: int = 0) -> tuple[Tensor, ...]:
        return self.package.example_inputs(self.make(0), self.size, seed)


def of_factory(package, factory, options: dict[str, int], *rest) -> Example:
    """From a factory and its options."""
    return Example(
        package,
        lambda seed: factory(seed, **options),
        lambda: package.float_twin(**options),
        lambda: factory(**options),
        *rest,
    )


def of_groupnet(config: GroupNetConfig, *rest) -> Example:
    return Example(
        groupnet,
        partial(groupnet.build, config),
        partial(groupnet.float_twin, config),
        partial(groupnet.build, replace(config, branches=1)),
        *rest,
    )


def of_ding(binary: int, within: tuple[str, ...] = (), **kinds: Any) -> Example:
    """Three branches unless told otherwise; within : names of the float layers in its attention."""
    config = replace(DING, **kinds)
    stages = [f"decoder.{stage}.branches.attention.attend" for stage in ("up.0", "up.1", "up.2", "last")]
    return Example(
        ding2024,
        partial(ding2024.build, config),
        partial(ding2024.float_twin, config),
        partial(ding2024.build, replace(config, branches=1)),
        config.input_size,
        binary,
        ("encoder.stem.conv", *(f"{path}.{name}" for path in stages for name in within), "head"),
        tuple(stages) if config.attention == "token" else (),
    )


SHORTCUTS = [f"stages.{stage}.0.shortcut.conv" for stage in (1, 2, 3)]
HEADS = [f"heads.{task}" for task in bimtdp.TASKS]
EXAMPLES = {
    "ding2024": of_ding(44, ("linear",)),
    "ding2024-bilinear-spatial": of_ding(37, ("conv",), upsampling="bilinear", attention="spatial", branches=2),
    "ding2024-transposed-none": of_ding(43, upsampling="transposed", attention="none", branches=2),
    "ding2024-pixel_shuffle-token": of_ding(55, upsampling="pixel_shuffle", attention="token", branches=2),
    "reactnet": of_factory(reactnet, reactnet.reactnet18, {"width": 16}, (64, 96), 16, ("stem.0", *SHORTCUTS, "head")),
    "groupnet-fcn": of_groupnet(FCN, (64, 96), 19, ("backbone.stem.0", "head")),
    "groupnet-deeplab": of_groupnet(DEEPLAB, (64, 96), 30, ("backbone.stem.0", "head.logits")),
    "unet": of_factory(unet, unet.unet, {"width": 16, "levels": 3}, (32, 48), 12, ("stem", "head")),
    "bimtdp": of_factory(
        bimtdp, bimtdp.bimtdp, {"width": 8, "decoder_channels": 16}, (64, 96), 64, ("encoder.stem.conv", *HEADS)
    ),
    "restoration": of_factory(
        restoration, restoration.restoration, {"channels": 16, "units": 3}, (16, 24), 4, ("first", "last")
    ),
}


@pytest.fixture(scope="module", params=EXAMPLES)
def example(request):
    return EXAMPLES[request.param]


@pytest.fixture(scope="module")
def made(example):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield compile_source(load_source(example.make(0), example.inputs()), resolve("llvm", 1))
    torch.set_num_threads(threads)


def test_all_binary_layers_are_converted_and_the_others_are_those_meant_to_be_float(example, made):
    binary = {path for path, module in example.make(0).named_modules() if isinstance(module, BINARY)}
    assert len(binary) == example.binary
    decided = {(layer.path, layer.decision) for layer in made.decisions.layers}
    meant = {(path, "binary") for path in (*binary, *example.products)} | {(path, "float") for path in example.real}
    assert decided == meant
    require_binary(made.decisions, example.real)


def test_artifact_equals_the_reference_and_every_value_follows_from_pytorchs(example, made):
    differences = checks.against_reference(made.artifact, made.optimized, example.inputs())
    assert {difference.differing for difference in differences} == {0}
    figures = checks.teacher_forced(made.imported, made.optimized, example.inputs())
    assert len(figures) >= example.binary and [figure for figure in figures if not figure.exact_enough] == []


def first(result):
    return result if isinstance(result, Tensor) else result[0]


def test_inputs_and_weights_decide_and_no_network_is_dead(example):
    with torch.no_grad():
        result, again, other_image, other_weights = (
            first(example.make(seed)(*example.inputs(image))) for seed, image in ((0, 0), (0, 0), (0, 1), (1, 0))
        )
    assert torch.equal(result, again) and len(result.unique()) > 1
    assert not torch.equal(result, other_image) and not torch.equal(result, other_weights)


def test_twin_does_the_same_work_and_holds_nothing_binary(example):
    twin = example.twin()
    assert not {type(module) for module in twin.modules()} & {*BINARY, BinaryMask, RPReLU, Sign, ThresholdSign}
    with torch.no_grad():
        assert first(twin(*example.inputs())).isfinite().all()
    assert count_macs(twin, example.inputs()) == count_macs(example.single(), example.inputs())
