"""Link LLVM's objects into a shared library, for this machine or another, without asking for a toolchain.

Generated code needs no start-up files and no libraries at link time (what it calls is in the process that loads
it), so any ELF linker will do: the first of `LINKERS` that is there and succeeds is used.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvm_bnn.errors import OutputError, TargetError
from tvm_bnn.targets import arch_of

# Where GNU's name of an architecture's tools differs from the architecture's name + "-linux-gnu".
GNU_PREFIXES = {"arm": "arm-linux-gnueabihf", "i386": "i686-linux-gnu"}


@dataclass(frozen=True)
class Linker:
    """One way to link: the program, its leading arguments, and whether it links for this machine only.

    `{gnu}` in the program stands for the prefix of GNU's cross tools.
    """

    program: str
    arguments: tuple[str, ...] = ()
    native_only: bool = False


# Compilers first: they know the linker that belongs to the system. The lld names link every ELF architecture.
LINKERS = (
    Linker("cc", ("-nostdlib",), native_only=True),
    Linker("gcc", ("-nostdlib",), native_only=True),
    Linker("clang", ("-nostdlib",), native_only=True),
    Linker("ld", native_only=True),
    Linker("{gnu}-gcc", ("-nostdlib",)),
    Linker("{gnu}-ld"),
    Linker("ld.lld"),
    Linker("lld", ("-flavor", "gnu")),
)


def link(output: str | os.PathLike[str], objects: Sequence[str | os.PathLike[str]], triple: str) -> None:
    """Link ELF objects into the shared library `output`, which appears whole or not at all.

    triple: LLVM triple of the objects; only Linux is supported.

    Raises TargetError when no linker for the triple is found or none succeeds, OutputError when the library
    cannot be put in its place.
    """
    if "linux" not in triple:
        raise TargetError(
            f"cannot link for {triple}: only Linux (ELF) libraries are made; try a triple with linux in it"
        )
    output = Path(output)
    try:
        with tempfile.TemporaryDirectory(prefix=".link-", dir=output.parent) as folder:
            made = Path(folder) / output.name
            _link_with_first(made, [os.fspath(item) for item in objects], triple)
            os.replace(made, output)
    except OSError as error:
        raise OutputError(
            f"cannot write {output}: {error.strerror or error}; try another folder or free space"
        ) from error


def fcompile(triple: str) -> Callable[..., None]:
    """The linker as `VMExecutable.export_library(path, fcompile=...)` wants it."""

    def create_shared(output: str, objects: Sequence[str], **_: object) -> None:
        link(output, objects, triple)

    create_shared.object_format = "o"  # type: ignore[attr-defined]
    create_shared.get_target_triple = lambda: triple  # type: ignore[attr-defined]
    return create_shared


def shared_object(executable: Any, triple: str, room: int = 0) -> bytes:
    """What TVM has built, as the content of a shared object. room : bytes that it needs on the disk at most.

    Raises OSError where there is no room, and what `link` raises.
    """
    with tempfile.TemporaryDirectory(prefix="tvm_bnn-") as folder:
        path = Path(folder) / "library.so"
        if room:  # LLVM ends the whole process where the disk is full, so that is found out before
            with tempfile.TemporaryFile(dir=folder) as file:
                os.posix_fallocate(file.fileno(), 0, room)
        executable.export_library(str(path), fcompile=fcompile(triple), workspace_dir=folder)
        return path.read_bytes()


def candidates(triple: str) -> Iterator[list[str]]:
    """Command lines of the linkers that exist for the triple, the preferred one first."""
    arch = arch_of(triple)
    native = arch == arch_of(platform.machine())
    prefix = GNU_PREFIXES.get(arch, f"{arch}-linux-gnu")
    for linker in LINKERS:
        program = shutil.which(linker.program.format(gnu=prefix))
        if program and (native or not linker.native_only):
            yield [program, *linker.arguments]
    if importlib.util.find_spec("ziglang"):
        yield [sys.executable, "-m", "ziglang", "ld.lld"]


def _link_with_first(output: Path, objects: list[str], triple: str) -> None:
    failures = []
    for command in candidates(triple):
        failure = _run([*command, "-shared", "-z", "noexecstack", "-o", os.fspath(output), *objects])
        if not failure and output.exists():
            return
        failures.append(f"{_shown(command)}: {failure or 'wrote nothing'}")
    if failures:
        raise TargetError(f"cannot link for {triple}: {'; '.join(failures)}. {_advice(triple)}")
    raise TargetError(f"no linker for {triple} was found. {_advice(triple)}")


def _run(command: list[str]) -> str:
    """Run a linker; the first line of its complaint, or nothing when it succeeded."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        return error.strerror or str(error)
    if done.returncode == 0:
        return ""
    lines = (done.stderr or done.stdout).strip().splitlines()
    return lines[0] if lines else f"exit code {done.returncode}"


def _shown(command: list[str]) -> str:
    return "ziglang" if "ziglang" in command else Path(command[0]).name


def _advice(triple: str) -> str:
    arch = arch_of(triple)
    if arch == arch_of(platform.machine()):
        package = "binutils"
    else:
        package = "binutils-" + GNU_PREFIXES.get(arch, f"{arch.replace('_', '-')}-linux-gnu")
    return f"Try: pip install ziglang (a linker for every target), or your system's package {package}"
