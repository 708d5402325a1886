"""The code of the grid's kernels, for every architecture of the table: made by nvcc, which has to be there."""

import re

import pytest

from tests.cuda.grid import BINARY, NUMBERS, module_of, target_of
from tvm_bnn import cubin
from tvm_bnn.errors import TargetError
from tvm_bnn.gpus import GPUS
from tvm_bnn.schedules.apply import machine_code

#: Instructions of tensor cores in PTX: shape, operands, and the operation of bits.
PRODUCT = re.compile(r"mma\.sync\.aligned\.(m\d+n\d+k\d+)\.row\.col\.[fs]32\.(\w+)\.\2\.[fs]32(?:\.(xor|and)\.popc)?\s")
CASES = {**BINARY, **NUMBERS}


@pytest.fixture(scope="module")
def source():
    """The kernels as CUDA C++, for an architecture; like ones are written once."""
    written = {}

    def source_for(gpu):
        if gpu.product not in written:
            made = machine_code(module_of(CASES, list(CASES), gpu.arch), target_of(gpu.arch))
            written[gpu.product] = made.mod.imports[0].inspect_source()
        return written[gpu.product]

    return source_for


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.arch)
def test_kernels_compile_without_spills_to_the_native_product(source, gpu):
    text = source(gpu)
    code = cubin.compiled(text, gpu.arch)
    assert code.code.startswith(b"\x7fELF")
    spills = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", code.log)
    assert len(spills) == len(set(re.findall(r"__global__ void __launch_bounds__\(\d+\) (\w+)\(", text)))
    assert set(spills) == {("0", "0", "0")}
    ptx = cubin.compiled(text, gpu.arch, "ptx").code.decode()
    assert set(PRODUCT.findall(ptx)) == {
        (product.shape, product.operands, product.operation if product.operands == "b1" else "")
        for product in (gpu.product, *gpu.others)
    }
    assert len(set(re.findall(r"mma\.sync\S+", ptx))) == 1 + len(gpu.others)
    copies = set(re.findall(r"cp\.async\.(c[ag])\.shared\.global \[%r\d+\], \[%rd\d+\], (\d+), %r\d+;", ptx))
    assert copies == ({("ca", "4"), ("ca", "8"), ("cg", "16")} if gpu.copies_ahead else set())
    assert "vote.sync.ballot" in ptx and "shfl" not in ptx


def test_what_nvcc_refuses_is_one_line(tmp_path):
    with pytest.raises(TargetError, match=r"^nvcc cannot compile kernels for sm_90: .*error.*\n?$"):
        cubin.compiled('extern "C" __global__ void f() { nonsense; }', "sm_90")


def test_without_nvcc_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(cubin.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(cubin.shutil, "which", lambda name: None)
    with pytest.raises(TargetError, match=r'no nvcc was found.*try: pip install "tvm_bnn\[cuda\]"'):
        cubin.nvcc()
