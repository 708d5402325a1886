"""The suite `instructions`: what kernels and networks take on an Arm processor that is not there.

Kernels run on an emulated processor, which counts the instructions that it executes. Binary multiply-accumulates of an
instruction count padded taps, which a kernel may skip, so that they may exceed what any instruction does; `valid_taps`
says by how much. Beside them stands what LLVM's model of the processor makes of the inner loop, in multiply-accumulates
of a cycle. Neither is a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict, TypeGuard

import numpy as np
import torch
import tvm
from rich.table import Table
from torch import Tensor, nn

from tvm_bnn.compiler import compile_source
from tvm_bnn.console import Progress
from tvm_bnn.emulated import instructions
from tvm_bnn.errors import DeviceError, InputError
from tvm_bnn.examples import ding2024
from tvm_bnn.frontend.source import load_source
from tvm_bnn.linker import shared_object
from tvm_bnn.lower import lower
from tvm_bnn.report import inner_loop
from tvm_bnn.report.kernel_call import KernelCall
from tvm_bnn.report.kernel_cases import Kernel, Layer, to_bits, to_float
from tvm_bnn.report.layer_times import layers_of_calls, paths_of_kernels
from tvm_bnn.report.peers import tvm_stock
from tvm_bnn.schedules import schedule_module
from tvm_bnn.schedules.apply import RULE_ATTR, machine_code
from tvm_bnn.targets import Target, host, resolve

SUITE = "instructions"
TARGET = "llvm -mcpu=cortex-a72"
_ARCH = "aarch64"
#: The instruction that counts bits, 128 at once.
_COUNT, _BITS = "cnt", 128


@dataclass(frozen=True)
class Pair:
    """A convolution of bits whose result is float (scale and shift), or bits."""

    name: str
    layer: Layer


@dataclass(frozen=True)
class Compared:
    """A network and its float twin.

    make : size (H, W) -> both, and their inputs. size : of the networks; stock_size : where TVM as it comes runs the
    twin, which takes it too long at the other size.
    """

    name: str
    make: Callable[[tuple[int, int]], tuple[nn.Module, nn.Module, tuple[Tensor, ...]]]
    size: tuple[int, int]
    stock_size: tuple[int, int]


def _demo(size: tuple[int, int]) -> tuple[nn.Module, nn.Module, tuple[Tensor, ...]]:
    network = ding2024.demo()
    return network, ding2024.demo_float_twin(), ding2024.example_inputs(network, size)


_SIZES = ((14, 14, 256), (28, 28, 128), (7, 7, 512), (56, 56, 64), (128, 256, 64), (64, 128, 128), (32, 64, 256))
ROWS: Sequence[Pair | Compared] = (
    *(Pair(f"bconv3x3-{'x'.join(map(str, size))}", Layer(size, size[2])) for size in _SIZES),
    Pair("bconv1x1-64x128x128", Layer((64, 128, 128), 128, kernel=1)),
    Pair("bconv3x3-stride2-56x56x64", Layer((56, 56, 64), 128, stride=2)),
    Compared("ding2024-demo-256x512", _demo, (256, 512), (64, 128)),
)


class KernelRow(TypedDict):
    """One convolution.

    float_instructions, bit_instructions : of one call, with float and with bits as the result; *_macs : binary
    multiply-accumulates of an instruction. rule : of the schedule. loop_macs : of an instruction of the inner loop.
    cycle_macs : of a cycle in it, by LLVM's model of the processor.
    """

    name: str
    target: str
    binary_macs: int
    valid_taps: float
    rule: str
    float_instructions: int
    float_macs: float
    bit_instructions: int
    bit_macs: float
    loop_macs: float
    cycle_macs: float


class LayerRow(TypedDict):
    """One call of a kernel, and the paths of the torch modules that it computes."""

    kernel: str
    layers: list[str]
    instructions: int


class NetworkRow(TypedDict):
    """One network: executed instructions of an inference, of its layers, and of the float twin, compiled alike.

    small : those of the network and of the twin as stock TVM compiles it, at the smaller size.
    """

    name: str
    target: str
    size: tuple[int, int]
    instructions: int
    layers: list[LayerRow]
    twin_instructions: int
    twin_layers: list[LayerRow]
    small_size: tuple[int, int]
    small_instructions: int
    stock_instructions: int


def target_of(text: str) -> Target:
    """The target to count for, on one thread; raises InputError for one that is not emulated."""
    target = resolve(text, threads=1)
    if target.arch != _ARCH:
        raise InputError(f"found {text!r}, {target.arch}; instructions are counted for AArch64, such as {TARGET!r}")
    return target


def measure(
    chosen: Sequence[Pair | Compared], target: Target, progress: Progress | None = None
) -> list[KernelRow | NetworkRow]:
    """Count a row after the other.

    Raises DeviceError where there is no emulator, or where the processor computes something wrong.
    """
    progress = progress or Progress(quiet=True)
    rows: list[KernelRow | NetworkRow] = []
    for each in chosen:
        with progress.phase(each.name):
            rows.append(_pair(each, target) if isinstance(each, Pair) else _network(each, target))
    return rows


def _pair(pair: Pair, target: Target) -> KernelRow:
    layer = pair.layer
    of_float, rule, assembly = _kernel(to_float(layer, pair.name, residual=False), target)
    of_bits, _, _ = _kernel(to_bits(layer, pair.name), target)
    loop = inner_loop.inner_loop(assembly, _COUNT)
    macs = _BITS * inner_loop.count(loop, _COUNT)
    return {
        "name": pair.name,
        "target": target.name,
        "binary_macs": layer.macs,
        "valid_taps": layer.valid_taps,
        "rule": rule,
        "float_instructions": of_float,
        "float_macs": layer.macs / of_float,
        "bit_instructions": of_bits,
        "bit_macs": layer.macs / of_bits,
        "loop_macs": macs / len(loop),
        "cycle_macs": macs / inner_loop.cycles(loop, target),
    }


def _kernel(kernel: Kernel, target: Target) -> tuple[int, str, str]:
    """Instructions of a kernel, its rule, and its assembly."""
    built = kernel.build()
    assert isinstance(built.value, str)
    lowered = lower(built.module, target)
    name = lowered.kernel_of[built.value]
    scheduled = schedule_module(lowered.module, lowered.family_of, target)
    library = shared_object(machine_code(scheduled, target), target.triple)
    calls, results = instructions.count(library, built.data, target.cpu)
    here = KernelCall(built.module, built.value, built.data, host(1))
    here.close()
    _check(kernel.name, results, here.results)
    alone = tvm.IRModule({"main": scheduled[name].with_attr("global_symbol", "main")})
    (total,) = (call.total for call in calls if call.kernel == name)
    return total, str(scheduled[name].attrs[RULE_ATTR]), machine_code(alone, target).mod.inspect_source("s")


def _check(name: str, there: Sequence[np.ndarray], here: Sequence[np.ndarray]) -> None:
    if not all(map(np.array_equal, there, here)):
        raise DeviceError(f"{name}: the emulated processor's result is not that of this machine")


def _network(each: Compared, target: Target) -> NetworkRow:
    network, twin, inputs = each.make(each.size)
    layers, twin_layers = layers_of(each.name, network, inputs, target), layers_of("its twin", twin, inputs, target)
    network, twin, inputs = each.make(each.stock_size)
    small = layers_of(each.name, network, inputs, target)
    with torch.no_grad():
        stock = shared_object(tvm_stock.build(twin, inputs, target), target.triple)
    calls, _ = instructions.count(stock, [item.numpy() for item in inputs], target.cpu)
    return {
        "name": each.name,
        "target": target.name,
        "size": each.size,
        "instructions": _total(layers),
        "layers": layers,
        "twin_instructions": _total(twin_layers),
        "twin_layers": twin_layers,
        "small_size": each.stock_size,
        "small_instructions": _total(small),
        "stock_instructions": sum(call.total for call in calls),
    }


def _total(layers: Sequence[LayerRow]) -> int:
    return sum(layer["instructions"] for layer in layers)


def layers_of(name: str, network: nn.Module, inputs: tuple[Tensor, ...], target: Target) -> list[LayerRow]:
    """Each kernel call of a compiled network, whose result is that of this machine."""
    made = compile_source(load_source(network, inputs), target)
    arrays = [item.numpy() for item in inputs]
    calls, results = instructions.count(made.artifact.library, arrays, target.cpu)
    here = compile_source(load_source(network, inputs), replace(host(), threads=1)).artifact(*inputs)
    _check(name, results, [item.numpy() for item in (here if isinstance(here, tuple) else (here,))])
    # lowering the same module again gives the same names
    paths = paths_of_kernels(made.optimized, lower(made.optimized, made.target).kernel_of)
    layers = layers_of_calls([call.kernel for call in calls], paths)
    return [
        {"kernel": call.kernel, "layers": of_call, "instructions": call.total}
        for call, of_call in zip(calls, layers, strict=True)
    ]


def tables(rows: Sequence[KernelRow | NetworkRow]) -> list[Table]:
    """What the rows show: a table of the kernels, and one of each network's layers."""
    shown, kernels = [], [row for row in rows if _is_kernel(row)]
    for target in dict.fromkeys(row["target"] for row in kernels):
        table = Table(title=f"{target}: binary MACs of an executed instruction", title_justify="left")
        heads = ("row", "valid taps", "float out", "bits out", "inner loop", "of a cycle (llvm-mca)", "schedule")
        for head in heads:
            table.add_column(head, justify="left" if head in ("row", "schedule") else "right", no_wrap=True)
        for row in (row for row in kernels if row["target"] == target):
            figures = (row["float_macs"], row["bit_macs"], row["loop_macs"], row["cycle_macs"])
            numbers = [f"{figure:.2f}" for figure in figures]
            table.add_row(row["name"], f"{row['valid_taps']:.1%}", *numbers, row["rule"])
        shown.append(table)
    return shown + [_network_table(row) for row in rows if _is_network(row)]


def _is_kernel(row: KernelRow | NetworkRow) -> TypeGuard[KernelRow]:
    return "rule" in row


def _is_network(row: KernelRow | NetworkRow) -> TypeGuard[NetworkRow]:
    return "layers" in row


def _network_table(row: NetworkRow) -> Table:
    height, width = row["small_size"]
    title = (
        f"{row['name']} on {row['target']}: {_millions(row['instructions'])} instructions of an inference; its float "
        f"twin, compiled alike: {_millions(row['twin_instructions'])}, "
        f"{row['twin_instructions'] / row['instructions']:.2f} times as many; at {height}x{width} "
        f"{_millions(row['small_instructions'])}, the twin by stock TVM {_millions(row['stock_instructions'])}, "
        f"{row['stock_instructions'] / row['small_instructions']:.1f} times as many"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("kernel", no_wrap=True)
    table.add_column("instructions", justify="right")
    table.add_column("layers")
    for layer in row["layers"]:
        table.add_row(layer["kernel"], _millions(layer["instructions"]), ", ".join(layer["layers"]))
    return table


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M"
