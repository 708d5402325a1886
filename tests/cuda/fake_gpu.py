"""Builds a GPU that only writes down what it is told (driver.c), and tells it to run artifacts.

As a program, in a process that finds the driver: ``python -m tests.cuda.fake_gpu ARTIFACT LARGER`` prints the record of
each step as JSON.
"""

import ctypes
import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
_RUNTIME, _DRIVER = "libcudart.so.13", "libcuda.so.1"
Event = dict


def built(folder: Path) -> Path:
    """The library, in a folder for LD_LIBRARY_PATH."""
    versions = folder / "versions"
    versions.write_text(f"{_RUNTIME} {{ cuda*; }};\n", encoding="utf-8")
    linked = (f"-Wl,-soname,{_RUNTIME}", f"-Wl,--version-script={versions}")
    source, made = ROOT / "tests" / "cuda" / "driver.c", folder / _RUNTIME
    subprocess.run(["cc", "-shared", "-fPIC", "-pthread", *linked, "-o", str(made), str(source)], check=True)
    (folder / _DRIVER).symlink_to(_RUNTIME)
    return made


def told(folder: Path, *artifacts: Path) -> dict[str, list[Event]]:
    """What the GPU was told in each step of ``main``; the library is in ``folder``."""
    before = os.environ.get("LD_LIBRARY_PATH")
    environment = {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(filter(None, [os.fspath(folder), before]))}
    command = [sys.executable, "-m", "tests.cuda.fake_gpu", *map(str, artifacts)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Record:
    """The events of each step."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL(_DRIVER)
        self.library.recorded.restype = ctypes.c_char_p
        self.steps: dict[str, list[Event]] = {}

    def step(self, name: str, results=None) -> None:
        """Give the events since the last step a name, and say what came out."""
        events = [json.loads(line) for line in self.library.recorded().decode().splitlines()]
        if results is not None:
            events.append({"event": "results", "shape": results.shape})
        self.steps[name] = events


def main(path: str, larger: str) -> None:
    """Run two artifacts, one of them loaded twice, in turns."""
    import tvm_ffi

    import tvm_bnn
    from tvm_bnn import runtime

    record = Record()
    made = tvm_bnn.load(path)
    record.step("load")
    with tvm_ffi.use_raw_stream(tvm_ffi.device("cuda"), 4096):
        for name in ("first", "second", "third"):
            record.step(name, made(_zeros(made)))
    other, same = tvm_bnn.load(larger), tvm_bnn.load(path)
    for name, each in {"other": other, "same": same, "again": made}.items():
        each(_zeros(each))
        record.step(name, each(_zeros(each)))
    del other, each
    gc.collect()
    made.benchmark(_zeros(made), repeat=1)
    record.step("gone")
    clock = SimpleNamespace(perf_counter=lambda: record.library.note(b"time") or time.perf_counter())
    with mock.patch.object(runtime, "time", clock):
        made.benchmark(_zeros(made), repeat=2, number=3)
    record.step("benchmark")
    print(json.dumps(record.steps))


def _zeros(made) -> np.ndarray:
    (row,) = made.manifest["inputs"]
    return np.zeros(row["shape"], row["dtype"])


if __name__ == "__main__":
    main(*sys.argv[1:])
