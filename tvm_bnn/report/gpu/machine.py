"""The machine with the GPU, as far as it can be described."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

import torch

from tvm_bnn import cubin
from tvm_bnn.errors import BnnError
from tvm_bnn.report.gpu.driver import Driver
from tvm_bnn.report.machine import versions
from tvm_bnn.targets import Target

#: What nvidia-smi is asked -> what it is called here.
QUERIES: Mapping[str, str] = {
    "driver_version": "driver",
    "clocks.sm": "SM clock",
    "clocks.max.sm": "at most",
    "clocks.mem": "memory clock",
    "power.limit": "power limit",
    "temperature.gpu": "temperature",
}


def describe(driver: Driver, target: Target) -> dict[str, Any]:
    """As plain data. nvidia_smi : what that program says of the first GPU, where there is one."""
    return {**driver.describe(), "target": target.name, "nvidia_smi": nvidia_smi(), "versions": all_versions()}


def nvidia_smi() -> dict[str, str]:
    """Driver and clocks, before anything is measured; empty where the program is missing or fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    command = [program, "-i", "0", f"--query-gpu={','.join(QUERIES)}", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    values = [value.strip() for value in done.stdout.strip().split(",")]
    return {} if done.returncode or len(values) != len(QUERIES) else dict(zip(QUERIES.values(), values, strict=True))


def all_versions() -> dict[str, str]:
    """Of what is compared, and of what compiles it."""
    found = versions()
    if torch.version.cuda is not None:
        found["torch's CUDA"] = torch.version.cuda
        found["cuDNN"] = str(torch.backends.cudnn.version())
    try:
        command = [str(cubin.nvcc()), "--version"]
        said = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stdout
        found["nvcc"] = said.rpartition(" V")[2].split()[0] if " V" in said else "unknown"
    except BnnError:
        pass
    return found
