"""Kernels for 32-bit Arm, for which there is no runtime: each alone, linked with a main function, under qemu-arm."""

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tvm
import tvm_ffi

from tests.emulator import REQUIRED
from tests.schedules import test_binary_product, test_upsampled_conv
from tests.schedules.conftest import build, definition
from tests.schedules.test_binary_conv import conv
from tvm_bnn.lower import lower
from tvm_bnn.report.inner_loop import count, inner_loop
from tvm_bnn.schedules import schedule_module
from tvm_bnn.schedules.apply import machine_code
from tvm_bnn.targets import resolve

QEMU, CPU = "qemu-arm", "cortex-a7"
SOURCE = Path(__file__).with_name("kernel_main.c")
INCLUDES = [Path(package.__file__).parent / "include" for package in (tvm, tvm_ffi)]
CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
CASES = {
    "33 to 64 channels": conv(33, 64),
    "64 channels to bits": conv(64, 64, size=(6, 8), out="bits"),
    "stride 2, 96 filters": conv(64, 96, strides=(2, 2)),
    "dilation 2": conv(128, 32, dilation=(2, 2), padding=(2, 2, 2, 2)),
    "groups": conv(64, 64, groups=2),
    "three filters": conv(64, 3),
    "an odd number of words, a row of 7": conv(96, 128, size=(4, 7), out="both"),
    "1x1": conv(128, 64, (1, 1), size=(3, 4)),
    "sums beyond 16 bits": conv(7296, 32, size=(3, 3)),
    "upsampled": test_upsampled_conv.CASES["x2, kernel 3x3"],
    "product": test_binary_product.CASES["6x65x100, integer"],
}


def linked(function, target, folder):
    """A program of one kernel."""
    made = machine_code(tvm.IRModule({"main": function.with_attr("global_symbol", "main")}), target)
    made.mod.write_to_file(str(folder / "kernel.o"), "o")
    program, files = folder / "program", [SOURCE, folder / "kernel.o"]
    options = ["-target", "arm-linux-musleabihf", f"-mcpu={CPU.replace('-', '_')}", "-static", "-O1"]
    includes = [f"-I{folder}" for folder in INCLUDES]
    command = [sys.executable, "-m", "ziglang", "cc", *options, *includes, "-o", program, *files]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program


def run(program, arguments):
    """The last argument, as the program leaves it."""
    parts = [struct.pack("<i", len(arguments))]
    for array in arguments:
        head = CODES[array.dtype.kind], 8 * array.itemsize, 1, array.ndim
        parts += [struct.pack(f"<4i{array.ndim}q", *head, *array.shape), np.ascontiguousarray(array).tobytes()]
    done = subprocess.run([QEMU, "-cpu", CPU, program], input=b"".join(parts), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return np.frombuffer(done.stdout, arguments[-1].dtype).reshape(arguments[-1].shape)


@pytest.mark.parametrize("name", CASES)
def test_kernels_give_what_their_definitions_give(name, tmp_path):
    if shutil.which(QEMU) is None:
        (pytest.fail if os.environ.get(REQUIRED) else pytest.skip)(f"no {QEMU} here; try: apt-get install qemu-user")
    target = resolve(f"llvm -mcpu={CPU}", threads=1)
    module, data, _ = build(CASES, [name], list(CASES))
    lowered = lower(module, target)
    made = schedule_module(lowered.module, lowered.family_of, target)
    calls = definition(lowered, data)
    assert set(lowered.family_of.values()) & {"conv", "grouped_conv", "upsampled_conv"}
    for kernel, (arguments, results) in calls.items():
        expected = results[-1]
        if lowered.family_of[kernel] != "elementwise":
            got = run(linked(made[kernel], target, tmp_path), arguments)
            assert np.unique(expected).size > 1
            np.testing.assert_array_equal(got, expected)


def test_counts_are_added_in_pairs():
    """Three instructions for 128 bits, and hardly anything of a tile put aside, although there are 16 registers."""
    target = resolve(f"llvm -mcpu={CPU}", threads=1)
    lowered = lower(build({"one": conv(128, 128, size=(14, 14))}, ["one"], ["one"])[0], target)
    made = schedule_module(lowered.module, lowered.family_of, target)
    (kernel,) = (name for name, family in lowered.family_of.items() if family == "conv")
    module = tvm.IRModule({"main": made[kernel].with_attr("global_symbol", "main")})
    loop = inner_loop(machine_code(module, target).mod.inspect_source("s"), "vcnt.8")
    counts = count(loop, "vcnt.8")
    assert counts == count(loop, "veor") == count(loop, "vpadal.u8") > 0
    assert len(loop) < 5.5 * counts and not count(loop, "vpaddl.u8")
