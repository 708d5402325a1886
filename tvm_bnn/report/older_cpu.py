"""Measure as on an older processor: what is newer is hidden from every library in the process, ours and the peers'.

Variables such as ONEDNN_MAX_CPU_ISA are no substitute: they hold oneDNN's kernels, but OpenVINO's binary convolution
still uses 512 bits, and ONNX Runtime knows none.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tvm_bnn.errors import InputError
from tvm_bnn.targets import host_flags

#: LLVM's names of the processors that can be had, which are also the targets of ours.
CPUS = ("x86-64-v3",)
#: Set where this has been done.
MARK = "TVM_BNN_OLDER_CPU"
_SOURCE = Path(__file__).with_suffix(".c")
#: /proc/cpuinfo's name of what it takes.
_NEEDED = "cpuid_fault"


def again(cpu: str, module: str, arguments: Sequence[str]) -> int | None:
    """Run `python -m module arguments` with what `cpu` lacks hidden from it, and return its exit code.

    None where this process is already that one. Raises InputError where the processor cannot do it, or the library that
    it takes cannot be built.
    """
    if os.environ.get(MARK) == cpu:
        return None
    if _NEEDED not in host_flags():
        raise InputError(f"this processor cannot hide its features (no {_NEEDED} in /proc/cpuinfo): leave --mcpu out")
    with tempfile.TemporaryDirectory(prefix="tvm_bnn-") as folder:
        library = Path(folder) / "older_cpu.so"
        compiler = [sys.executable, "-m", "ziglang", "cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(_SOURCE)]
        built = subprocess.run(compiler, capture_output=True, text=True, errors="replace", check=False)
        if built.returncode:
            said = built.stderr.strip().splitlines() or [f"exit code {built.returncode}"]
            raise InputError(f"cannot build {_SOURCE.name}: {said[0]}; try pip install ziglang")
        environment = {**os.environ, MARK: cpu, "LD_PRELOAD": str(library)}
        return subprocess.run([sys.executable, "-m", module, *arguments], env=environment, check=False).returncode
