"""Machine code for GPUs: made by nvcc when a network is compiled, and carried in its library.

TVM's library keeps the text of its kernels, and has it compiled where it is loaded. Here TVM is given a text that is
the machine code already, in base64 behind a mark (`carried`), and what it calls to compile just takes it out again
(`take_out`). So a machine that runs an artifact needs NVIDIA's driver, and no compiler.
"""

from __future__ import annotations

import base64
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm_ffi

from tvm_bnn.errors import ArtifactError, TargetError
from tvm_bnn.gpus import Gpu

_MARK = "// a cubin in base64: "
#: What TVM calls with the text of kernels: when it has written it, and where it compiles it.
_WRITTEN, _COMPILE = "tvm_callback_cuda_postproc", "tvm_callback_cuda_compile"
#: Sums of products are written as fused multiply-adds where one rounding is meant, so none is to be made of others.
_OPTIONS = ("-std=c++17", "-fmad=false", "-Xptxas=-v")
#: What kernels mean by these, as on a processor: the second where either is no number. CUDA's own return the other.
_EXTREMES = """
#define max(a, b) ((a) > (b) ? (a) : (b))
#define min(a, b) ((a) < (b) ? (a) : (b))
"""
#: Bytes of a copy to shared memory that is waited for later -> name of its function: (to, from, whether to copy; else
#: zeros are stored).
COPIES = {size: f"copy_{size}_bytes_or_zeros" for size in (4, 8, 16)}
_COPY = """
static __device__ __forceinline__ void {name}(void* to, const void* from, bool there) {{
  asm volatile("cp.async.{kind}.shared.global [%0], [%1], {size}, %2;" ::
               "r"((unsigned)__cvta_generic_to_shared(to)), "l"(__cvta_generic_to_global(from)), "r"(there ? {size} : 0)
               : "memory");
}}
"""
#: These functions, for GPUs that have the instruction; only 16 bytes can pass the first-level cache by.
_COPIES = "".join(
    ["\n#if __CUDA_ARCH__ >= 800"]
    + [_COPY.format(name=name, size=size, kind="cg" if size == 16 else "ca") for size, name in COPIES.items()]
    + ["#endif\n"]
)
_KERNELS_BEGIN = 'extern "C" __global__'


@dataclass(frozen=True)
class Compiled:
    """Machine code of some kernels, and what ptxas says of their registers."""

    code: bytes
    log: str


def nvcc() -> Path:
    """NVIDIA's compiler: that of the package's extra "cuda", else the first on the path.

    Raises TargetError where there is none.
    """
    found = importlib.util.find_spec("nvidia")
    for folder in found.submodule_search_locations or () if found else ():
        for program in sorted(Path(folder).glob("cu*/bin/nvcc"), reverse=True):
            return program
    program_here = shutil.which("nvcc")
    if program_here is None:
        raise TargetError('no nvcc was found, which makes code for GPUs; try: pip install "tvm_bnn[cuda]"')
    return Path(program_here)


def compiled(source: str, arch: str, output: str = "cubin") -> Compiled:
    """CUDA C++ as machine code for an architecture ("sm_90"), or with output "ptx" as PTX.

    Raises TargetError with nvcc's first complaint where it fails, for want of a C++ compiler on this machine say.
    """
    head, begin, kernels = source.partition(_KERNELS_BEGIN)
    with tempfile.TemporaryDirectory(prefix="tvm_bnn-") as folder:
        given, made = Path(folder) / "kernels.cu", Path(folder) / f"kernels.{output}"
        given.write_text(head + _EXTREMES + _COPIES + begin + kernels, encoding="utf-8")
        command = [os.fspath(nvcc()), *_OPTIONS, f"-arch={arch}", f"-{output}", "-o", os.fspath(made), os.fspath(given)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode or not made.exists():
            said = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:200])
            raise TargetError(f"nvcc cannot compile kernels for {arch}: {said.strip() or 'no reason given'}")
        return Compiled(made.read_bytes(), done.stderr)


def carried(code: bytes) -> str:
    """Machine code as the text that TVM keeps."""
    return _MARK + base64.b64encode(code).decode("ascii")


def take_out(text: str) -> bytes:
    """The machine code in such a text; raises ArtifactError where there is none."""
    if not text.startswith(_MARK):
        raise ArtifactError("the artifact carries kernels without their machine code; compile the model again")
    return base64.b64decode(text.removeprefix(_MARK))


@contextmanager
def standing_in(name: str, function: Any) -> Iterator[None]:
    """Let TVM find a function under a global name while the block lasts."""
    before = tvm_ffi.get_global_func(name, allow_missing=True)
    tvm_ffi.register_global_func(name, function, override=True)
    try:
        yield
    finally:
        if before is None:
            tvm_ffi.registry.remove_global_func(name)
        else:
            tvm_ffi.register_global_func(name, before, override=True)


@contextmanager
def taken_out() -> Iterator[None]:
    """While it lasts, TVM loads libraries that carry machine code."""
    with standing_in(_COMPILE, take_out):
        yield


@contextmanager
def compiled_for(arch: str) -> Iterator[None]:
    """While it lasts, TVM's kernels become machine code as soon as they are written."""

    def made(source: str, _target: Any) -> str:
        return carried(compiled(source, arch).code)

    with standing_in(_WRITTEN, made), taken_out():
        yield


def code_of(gpu: Gpu | None) -> AbstractContextManager[None]:
    """While it lasts, what TVM compiles for a target becomes machine code. gpu : the target's, None of a processor."""
    return nullcontext() if gpu is None else compiled_for(gpu.arch)


def accept() -> None:
    """From now on, TVM loads libraries that carry machine code in this process, and in those forked from it."""
    tvm_ffi.register_global_func(_COMPILE, take_out, override=True)
