"""What a machine's first NVIDIA GPU is: asked of its driver, in a process of its own.

A process that has used CUDA cannot be forked, and sessions are forks of the server that tells what it is. That process
runs this file alone, so nothing but Python's own modules is imported here.
"""

from __future__ import annotations

import ctypes
import functools
import json
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_DRIVER = "libcuda.so.1"
_ABOUT_DRIVER = Path("/proc/driver/nvidia/version")
#: Attributes of a device, as cuda.h numbers them: compute capability.
_MAJOR, _MINOR = 75, 76
#: Seconds; a driver that is loaded anew each time takes some.
_ASK_S = 30


@dataclass(frozen=True)
class GpuFound:
    """A GPU. version : compute capability. driver : its version, "" where that is not told. memory : bytes."""

    name: str
    version: tuple[int, int]
    driver: str
    memory: int

    def __str__(self) -> str:
        major, minor = self.version
        driver = f", driver {self.driver}" if self.driver else ""
        return f"{self.name}, compute capability {major}.{minor}, {self.memory / 2**30:.0f} GiB{driver}"


def found(row: dict[str, Any]) -> GpuFound:
    """What `asdict` made of one, behind JSON; raises KeyError, TypeError or ValueError for anything else."""
    major, minor = row["version"]
    return GpuFound(str(row["name"]), (int(major), int(minor)), str(row["driver"]), int(row["memory"]))


@functools.cache
def ask() -> GpuFound | None:
    """This machine's; None where it has none, or no driver. Asked once."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", __file__], capture_output=True, text=True, timeout=_ASK_S, check=False
        )
        return found(json.loads(done.stdout)) if done.returncode == 0 and done.stdout.strip() else None
    except (OSError, subprocess.SubprocessError, KeyError, TypeError, ValueError):
        return None


def asked(cuda: Any, about: Path = _ABOUT_DRIVER) -> GpuFound | None:
    """What the driver's library says of the first GPU; None where it fails. about : where Linux tells its version."""
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    answers = (
        lambda: cuda.cuInit(0),
        lambda: cuda.cuDeviceGet(ctypes.byref(device), 0),
        lambda: cuda.cuDeviceGetName(name, len(name), device),
        lambda: cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device),
        lambda: cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device),
        lambda: cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device),
    )
    if any(answer() for answer in answers):
        return None
    version = (major.value, minor.value)
    return GpuFound(name.value.decode(errors="replace"), version, _driver_version(about), memory.value)


def _driver_version(about: Path) -> str:
    try:
        told = re.search(r"\b\d+\.\d+(\.\d+)?\b", about.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ""
    return told.group() if told else ""


if __name__ == "__main__":
    try:
        _found = asked(ctypes.CDLL(_DRIVER))
    except (OSError, AttributeError):
        _found = None
    if _found:
        print(json.dumps(asdict(_found)))
