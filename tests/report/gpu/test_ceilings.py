"""Ceilings: kernels that hold what they say, and figures from a driver whose clock is known."""

import ctypes
import re

import numpy as np
import pytest

from tests.report.gpu import fake
from tvm_bnn import cubin
from tvm_bnn.cubin import Compiled
from tvm_bnn.errors import DeviceError
from tvm_bnn.gpus import gpu_of
from tvm_bnn.report.gpu import ceilings
from tvm_bnn.report.gpu.ceilings import BLOCKS, SOURCE, code_arch, instructions
from tvm_bnn.report.gpu.driver import Driver
from tvm_bnn.report.machine import MB

XOR, AND = (rf"mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.{each}.popc" for each in ("xor", "and"))
HALF = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
#: Compute capability -> kernel -> what one step of it consists of, in PTX.
CODE = {
    (7, 5): {
        "mma_xor": ("mma.sync.aligned.m8n8k128.row.col.s32.b1.b1.s32.xor.popc", 32),
        "mma_half": ("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32", 32),
        "popc": ("popc.b32", 32),
    },
    (9, 0): {
        "mma_xor": (XOR, 32),
        "mma_and": (AND, 32),
        "mma_half": (HALF, 32),
        "popc": ("popc.b32", 32),
        "wgmma_and": ("wgmma.mma_async.sync.aligned.m64n256k256.s32.b1.b1.and.popc", 16),
        "wgmma_half": ("wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16", 16),
    },
}


@pytest.mark.parametrize("version", [(7, 5), (8, 0), (9, 0), (12, 0)], ids=str)
def test_kernels_compile_without_spills(version):
    arch = code_arch(gpu_of("sm_{}{}".format(*version)), version)
    made = cubin.compiled(SOURCE.read_text(), arch)
    spills = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", made.log)
    kernels = {instruction.kernel for instruction in instructions(version)} | {"copy"}
    assert set(re.findall(r"entry function '(\w+)'", made.log)) == kernels
    assert len(spills) == len(kernels) and {each[1:] for each in spills} == {("0", "0")}
    # what ptxas emulates there has a frame
    assert version == (12, 0) or {frame for frame, *_ in spills} == {"0"}
    assert "serialized" not in made.log  # what ptxas says of products by four warps that wait for each other


@pytest.mark.parametrize("version", CODE, ids=str)
def test_a_step_is_made_of_the_instruction_that_is_meant(version):
    arch = code_arch(gpu_of("sm_{}{}".format(*version)), version)
    text = cubin.compiled(SOURCE.read_text(), arch, "ptx").code.decode()
    bodies = dict(re.findall(r"\.entry (\w+)\((.*?)\n\}", text, re.DOTALL))
    assert set(bodies) == {*CODE[version], "copy"}
    for kernel, (instruction, count) in CODE[version].items():
        loops = [loop for _, loop in re.findall(r"\n(\$L\w+):(.*?)bra\s+\1;", bodies[kernel], re.DOTALL)]
        (steps,) = (loop for loop in loops if instruction in loop)
        assert steps.count(instruction) == bodies[kernel].count(instruction) == count, kernel


@pytest.fixture
def measured(monkeypatch):
    """() -> ceilings of the device that is not there."""
    monkeypatch.setattr(ceilings.cubin, "compiled", lambda source, arch: Compiled(b"code", ""))
    return lambda: ceilings.measure(fake.driver(), gpu_of("sm_80"), rounds=3, launch=1e-3, copy_sizes=(1, 2))


def test_rates_are_products_over_seconds_with_the_best_number_of_blocks(measured):
    found = measured()
    names = [instruction.name for instruction in instructions((8, 0))]
    assert [*found.bits, *found.halves] == names and list(found.halves) == ["fp16, mma.sync m16n8k16"]
    # a microsecond a step, whatever the blocks: the most are the best, of 8 warps on 3 multiprocessors
    tile = max(BLOCKS) * 3 * 8 * 32 * 1e6
    assert found.bits["and.popc, mma.sync m16n8k256"].per_s == pytest.approx(tile * 16 * 8 * 256, rel=1e-4)
    assert found.bits["xor, popc in registers"].per_s == pytest.approx(tile * 32 * 32, rel=1e-4)
    assert found.halves["fp16, mma.sync m16n8k16"].per_s == pytest.approx(tile * 16 * 8 * 16, rel=1e-4)
    assert {rate.blocks for rate in (*found.bits.values(), *found.halves.values())} == {max(BLOCKS)}
    assert found.copy[MB].per_s == pytest.approx(2e9, rel=1e-4) and set(found.copy) == {MB, 2 * MB}
    assert all(rate.spread < 1e-3 for rate in (*found.bits.values(), *found.copy.values()))


@pytest.mark.parametrize("kernel", ["mma_and", "mma_half", "popc"])
def test_a_kernel_that_does_not_count_its_products_is_no_ceiling(measured, monkeypatch, kernel):
    fake.driver()  # is compiled
    ctypes.CDLL(None).setenv(b"FAKE_WRONG", kernel.encode(), 1)
    try:
        with pytest.raises(DeviceError, match=r"counted \d+ products on the GPU where there are \d+$"):
            measured()
    finally:
        ctypes.CDLL(None).unsetenv(b"FAKE_WRONG")


def test_the_best_ceiling_is_what_limits_take():
    assert fake.CEILINGS.best_bits[0] == "and by wgmma"
    limits = fake.CEILINGS.limits
    assert (limits.binary, limits.fp32, limits.copy) == (1e14, 1e13, {16 * MB: 1e12})


def test_four_warps_multiply_together_on_90_alone():
    assert code_arch(gpu_of("sm_90"), (9, 0)) == "sm_90a" and code_arch(gpu_of("sm_89"), (8, 9)) == "sm_89"
    by_four = {v: [i.name for i in instructions(v) if "wgmma" in i.name] for v in ((8, 9), (9, 0), (10, 0))}
    assert by_four == {(8, 9): [], (9, 0): ["and.popc, wgmma m64n256k256", "fp16, wgmma m64n256k16"], (10, 0): []}


def test_the_driver_says_what_it_is_and_what_went_wrong():
    driver = fake.driver()
    assert driver.describe() == {
        "device": "Fake GPU",
        "compute_capability": "8.0",
        "multiprocessors": 3,
        "clock_mhz": 1500.0,
        "l2_bytes": 50 << 20,
        "cuda": "13.1",
    }
    with pytest.raises(DeviceError, match=r"^cuModuleLoadData failed on the GPU: no kernel image \(209\)$"):
        driver.module(b"nonsense")
    with pytest.raises(DeviceError, match="could not be captured as a graph"):
        driver.graph(lambda stream: None)


def test_seconds_are_those_of_one_run_and_a_graph_has_all_of_its_launches():
    driver = fake.driver()
    source = driver.buffer(1000 * 16).upload(np.arange(4000, dtype=np.uint32))
    result, count = driver.buffer(1000 * 16), ctypes.c_int(1000)
    copy = driver.kernel(driver.module(b"code"), "copy")
    assert driver.seconds(lambda: copy(1, 256, source, result, count), 5) == pytest.approx(16e-6, rel=1e-4)
    assert np.array_equal(result.download(), np.arange(4000))
    graph = driver.graph(lambda stream: [copy(1, 256, source, result, count, stream=stream) for _ in range(3)])
    assert driver.seconds(graph) == pytest.approx(48e-6, rel=1e-4)


def test_without_a_driver_it_is_one_line():
    with pytest.raises(DeviceError, match=r"^no NVIDIA driver was found on this machine"):
        Driver("libno_such_driver.so.1")
