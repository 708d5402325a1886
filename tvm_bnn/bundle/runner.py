"""The program `run` of a bundle, built from the C++ sources in ./runner for any architecture by the ziglang package."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import subprocess
import sys
from pathlib import Path

from tvm_bnn import runtime_libraries
from tvm_bnn.errors import TargetError

SOURCES = Path(__file__).with_name("runner")
MAIN = "run.cc"
#: How it is built, with any compiler. One rounding for each operation, as NumPy has it: no fused multiply-add.
FLAGS = ("-std=c++17", "-O2", "-ffp-contract=off")
# without a C++ library, which ziglang would build first, for minutes
_ALONE = ("-nostdlib++", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics")
_SMALL = ("-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections", "-s")
#: Licences, under ziglang's folder, of what it links into the program: its own code, and glibc's that starts it.
_LICENCES = ("LICENSE", "lib/libc/glibc/LICENSES")


def sources() -> dict[str, bytes]:
    """Content of the sources by name."""
    return {path.name: path.read_bytes() for path in sorted(SOURCES.iterdir()) if path.suffix in (".cc", ".h")}


def target(arch: str) -> str:
    """The target as ziglang writes it."""
    return f"{arch}-linux-gnu.{runtime_libraries.GLIBC}"


def build(arch: str) -> Path:
    """The program for an architecture; built on first use, then taken from the cache.

    Raises TargetError where it cannot be built.
    """
    _zig()
    include = runtime_libraries.folder(arch) / "include"
    options = ["-target", target(arch), *FLAGS, *_ALONE, *_SMALL, f"-I{include}"]
    parts = [importlib.metadata.version("ziglang"), *options, *sources(), *map(bytes.hex, sources().values())]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    place = runtime_libraries.cache() / "runner" / f"{arch}-{digest}"
    with runtime_libraries.made_once(place) as partial:
        if partial:
            compiler = [sys.executable, "-m", "ziglang", "c++"]
            command = [*compiler, *options, "-o", str(partial), str(SOURCES / MAIN), "-ldl"]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
            if done.returncode:
                said = [line for line in done.stderr.splitlines() if "error" in line] or ["it gives no reason"]
                raise TargetError(f"cannot build the bundle's runner for {arch}: {said[0]}")
    return place


def licences() -> dict[str, bytes]:
    """Licences of what ziglang links into the program, by name."""
    root = _zig()
    return {name.removeprefix("lib/libc/"): (root / name).read_bytes() for name in _LICENCES}


def _zig() -> Path:
    spec = importlib.util.find_spec("ziglang")
    if spec is None or spec.origin is None:
        raise TargetError("cannot build the bundle's runner: ziglang is missing; try: pip install ziglang")
    return Path(spec.origin).parent
