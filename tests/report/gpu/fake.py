"""A driver, and figures, that no GPU is needed for."""

import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tvm_bnn import cubin
from tvm_bnn.report.gpu.ceilings import Ceilings, Rate
from tvm_bnn.report.gpu.driver import Driver
from tvm_bnn.report.machine import MB

#: 100 T of binary and 10 T of float multiply-accumulates a second, and 1 TB/s.
CEILINGS = Ceilings(
    {"xor by mma": Rate(4e13, 0.01, 2), "and by wgmma": Rate(1e14, 0.02, 3)},
    {"fp16 by mma": Rate(1e13, 0.01, 4)},
    {16 * MB: Rate(1e12, 0.03, 8)},
)
_kept = TemporaryDirectory(prefix="tvm_bnn-")


@cache
def _library() -> Path:
    """Compiled, once a process, with NVIDIA's header, which lies beside its compiler."""
    path = Path(_kept.name) / "libfake.so"
    include = cubin.nvcc().parent.parent / "include"
    source = Path(__file__).with_name("fake_driver.cpp")
    subprocess.run(["g++", "-shared", "-fPIC", "-I", include, "-o", path, source], check=True)
    return path


def driver() -> Driver:
    """Of a device of compute capability 8.0, with three multiprocessors."""
    return Driver(str(_library()))
