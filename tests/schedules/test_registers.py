"""Accumulators stay in registers: the memory of a tile is not asked of TVM's runtime, and nothing fills it."""

import re

import tvm
from tvm import tirx
from tvm.script import tirx as T

from tests.schedules.test_binary_conv import conv
from tvm_bnn.schedules.apply import machine_code
from tvm_bnn.schedules.registers import keep_on_stack

CASES = {"64 filters": conv(64, 64, size=(8, 16), out="bits")}


def assembly(module: tvm.runtime.Module) -> str:
    """Of a module and all that it imports."""
    own = module.inspect_source("s") if module.kind == "llvm" else ""
    return "\n".join([own, *map(assembly, module.imports)])


def test_only_copied_rows_are_asked_of_the_runtime(build_cases, scheduled, target_of):
    target = target_of("avx512")
    module = scheduled(build_cases(CASES, list(CASES), list(CASES))[0], target)[1]
    code = assembly(machine_code(module, target).mod)
    kernel = code[code.index("bconv2d") :]
    assert len(re.findall(r"movq\s+__TVMBackendAllocWorkspace@", kernel)) <= 1 and "memset@" not in kernel


def test_masks_of_a_word_are_joined_as_masks(build_cases, scheduled, target_of):
    """Left to itself, LLVM would put the words of many pixels into a vector, mask by mask."""
    target = target_of("avx512")
    cases = {"1x1": conv(64, 64, kernel=(1, 1), size=(8, 16), out="bits")}
    module = scheduled(build_cases(cases, ["1x1"], ["1x1"])[0], target)[1]
    code = assembly(machine_code(module, target).mod)
    kernel = code[code.index("vpopcntd") :]
    loop = kernel[: kernel.index("retq")]
    assert "kunpckwd" in loop and not re.search(r"vpinsr|vgather", loop)


def test_large_buffers_and_those_of_other_scopes_are_left_to_the_runtime():
    @T.prim_func
    def function(result: T.Buffer((4,), "float32")):
        for i in T.serial(4):
            if i > 1:
                small = T.alloc_buffer((4096,), "float32", scope="local")
                small[0] = T.float32(1)
            large = T.alloc_buffer((4097,), "float32", scope="local")
            heap = T.alloc_buffer((4096,), "float32")
            large[0] = heap[0]
            result[i] = large[0]

    marked = {}

    def note(stmt):
        if isinstance(stmt, tirx.AllocBuffer):
            marked[stmt.buffer.name] = dict(stmt.annotations)
        for part in getattr(stmt, "seq", [getattr(stmt, "body", None), getattr(stmt, "then_case", None)]):
            if part is not None:
                note(part)

    note(keep_on_stack(function.body))
    assert {name: bool(annotations) for name, annotations in marked.items()} == {
        "small": True, "large": False, "heap": False
    }  # fmt: skip
