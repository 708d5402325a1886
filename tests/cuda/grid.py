"""The kernels of which everything is checked without a GPU: what they compute, thread by thread, and their code."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tvm
from tvm import relax, tirx

from tests.schedules import test_binary_product, test_branches, test_upsampled_branches
from tests.schedules.conftest import build, definition
from tests.schedules.test_bfloat16 import in_halves, in_tf32
from tests.schedules.test_binary_conv import conv
from tests.schedules.test_float_precision import conv as conv_of_numbers
from tvm_bnn import ops, targets
from tvm_bnn.lower import lower
from tvm_bnn.schedules import schedule_module


def _next_layer(case) -> relax.Expr:
    """A residual block's end: floats that are added to, and their signs for the next layer."""
    weight, geometry = case.signs(64, 32, 3, 3), ops.BConv2DAttrs(padding=(1, 1, 1, 1))
    total = case.emit(ops.bconv2d(case.bits(1, 32, 8, 9), weight, geometry))
    added = case.emit(relax.op.add(case.scaled(total), case.argument(1, 64, 8, 9)))
    return relax.Tuple([added, case.positive(case.scaled(added))])


#: Maps of 64 pixels and more, and products of as many rows, go to tensor cores. What is copied at once, and ahead where
#: there is more than one chunk of a window, are 4 words of 128 channels, 2 of 64 and of 192, and one of others.
BINARY: dict[str, Callable] = {
    "3x3, both": conv(64, 64, size=(8, 9)),
    "3x3, bits": conv(96, 64, size=(8, 8), out="bits"),
    "3x3, float": conv(128, 32, size=(7, 11), out="float"),
    "1x1, odd channels": conv(65, 33, (1, 1), size=(9, 8)),
    "strides 2 and 1, odd channels": conv(33, 65, strides=(2, 1), size=(13, 10)),
    "dilation 2, padding +1": conv(64, 32, dilation=(2, 2), padding=(2, 2, 2, 2), pad_value=1, size=(8, 8)),
    "no padding, batch 2": conv(31, 96, padding=(0, 0, 0, 0), batch=2, size=(8, 8)),
    "padding -1": conv(192, 64, pad_value=-1, size=(9, 8), out="bits"),
    "residual": _next_layer,
    "branches": test_branches.branches(test_branches.same(3), test_branches.same(1), channels=32),
    "gated branches": test_branches.gated(test_branches.same(3), test_branches.same(1), channels=32, out="bits"),
    "upsampled": test_upsampled_branches.merged(
        (2, 2), test_upsampled_branches.same(), lateral=[test_upsampled_branches.same(1)], size=(8, 8)
    ),
    "large map": conv(32, 64, size=(64, 65), out="bits"),
    "product": test_binary_product.product(65, 70, 33, out="bits"),
    "products": test_binary_product.product(256, 64, 40, batch=2, out="integer"),
    "groups": conv(64, 64, groups=2, size=(5, 6)),
    "small map": conv(64, 64, size=(4, 5)),
    "three filters": conv(33, 3, size=(8, 8)),
}


#: Convolutions of numbers that tensor cores take, of a map that is stored, or of an image whose planes lie apart. Their
#: sums are exact of the fillings below.
NUMBERS: dict[str, Callable] = {
    "bf16": conv_of_numbers(64, 19, stored=True, padding=1, rounded=in_halves),
    "bf16, odd channels": conv_of_numbers(33, 64, strides=2, size=(17, 20), stored=True, padding=1, rounded=in_halves),
    "bf16, image": conv_of_numbers(3, 64, (7, 7), size=(17, 32), strides=2, padding=3, rounded=in_halves),
    "tf32": conv_of_numbers(64, 33, dilation=2, stored=True, padding=2, rounded=in_tf32),
    "tf32, image": conv_of_numbers(3, 32, size=(17, 32), batch=2, strides=2, padding=1, rounded=in_tf32),
    "s8": conv_of_numbers(40, 64, stored=True, padding=1),
    "s8, image": conv_of_numbers(3, 33, size=(17, 32), strides=2, padding=1),
    "s8, few pixels": conv_of_numbers(64, 32, size=(5, 5), stored=True, padding=1),
}
EXACT = ("ties", "ties")


class Kernel(NamedTuple):
    """A scheduled kernel, its arguments, and what they hold behind it by its definition."""

    name: str
    family: str
    func: tirx.PrimFunc
    arguments: list[np.ndarray]
    expected: list[np.ndarray]

    @property
    def rule(self) -> str:
        """Of its schedule."""
        return str(self.func.attrs["tvm_bnn.rule"])


def target_of(arch: str) -> targets.Target:
    """A GPU to compile for."""
    return targets.resolve(f"cuda -arch={arch}", gpu=True)


def kernels(
    cases: dict[str, Callable], names: list[str], arch: str, constants: str = "normal", data_kind: str = "normal"
) -> list[Kernel]:
    """All kernels of some cases, compiled into one module; constants, data_kind : fillings of ``schedules.values``."""
    target = target_of(arch)
    module, data, _ = build(cases, names, list(cases), constants, data_kind)
    lowered = lower(module, target, in_place=False)
    scheduled = schedule_module(lowered.module, lowered.family_of, target)
    return [
        Kernel(name, lowered.family_of[name], scheduled[name], *calls)
        for name, calls in definition(lowered, data).items()
    ]


def module_of(cases: dict[str, Callable], names: list[str], arch: str) -> tvm.IRModule:
    """The scheduled kernels alone."""
    target = target_of(arch)
    lowered = lower(build(cases, names, list(cases))[0], target)
    scheduled = schedule_module(lowered.module, lowered.family_of, target)
    return tvm.IRModule({name: scheduled[name].with_attr("global_symbol", name) for name in lowered.family_of})
