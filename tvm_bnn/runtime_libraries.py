"""TVM's runtime for an architecture: libraries, headers and licences, without a compiler and without Python.

Of this machine's architecture they are those of the installed packages, of another those of the same versions' wheels,
which pip downloads once. Either way they lie in one folder of the user's cache:

    lib/        libtvm_ffi.so, libtvm_runtime.so, libtvm_runtime_extra.so
    include/    headers of the C and C++ interface
    licenses/   a folder for each package
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from tvm_bnn.errors import OutputError, TargetError
from tvm_bnn.targets import host_arch

PACKAGES = ("apache-tvm", "apache-tvm-ffi")
#: What every network needs, and what those need that sort or draw random numbers.
LIBRARIES = ("libtvm_ffi.so", "libtvm_runtime.so")
EXTRA = "libtvm_runtime_extra.so"
#: The oldest C library that the wheels run with, and what pip calls systems that have it.
GLIBC = "2.28"
PLATFORMS = {arch: f"manylinux_{GLIBC.replace('.', '_')}_{arch}" for arch in ("x86_64", "aarch64")}
DOWNLOAD_S = 900

# Files of the packages -> where they go; the first row that fits wins.
_PLACES = (
    (re.compile(rf".*/lib/({'|'.join(map(re.escape, (*LIBRARIES, EXTRA)))})"), r"lib/\1"),
    (re.compile(r"tvm_ffi/include/((?:dlpack|tvm/ffi)/(?!.*cuda).*\.h)"), r"include/\1"),
    (re.compile(r"[^/]*\.dist-info/licenses/(.*[^/])"), r"licenses/{package}/\1"),
    (re.compile(r"tvm/(NOTICE|licenses/.*\.txt)"), r"licenses/{package}/\1"),
    (re.compile(r"tvm_ffi/(3rdparty/.*/LICENSE.*)"), r"licenses/{package}/\1"),
)


def cache() -> Path:
    """The user's folder for what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tvm_bnn"


def folder(arch: str) -> Path:
    """The folder with the runtime for an architecture of `PLATFORMS`, filled on first use.

    Raises TargetError where there is no such runtime or it cannot be downloaded, OutputError where it cannot be kept.
    """
    if arch not in PLATFORMS:
        raise TargetError(
            f"there is no TVM runtime for {arch}: its project publishes it for {' and '.join(PLATFORMS)}"
        )
    versions = "-".join(importlib.metadata.version(package) for package in PACKAGES)
    # what another version of this file would have taken of the packages is no substitute
    taken = hashlib.sha256(repr(_PLACES).encode()).hexdigest()[:8]
    place = cache() / "runtime" / f"{versions}-{arch}-{taken}"
    with made_once(place) as partial:
        if partial:
            partial.mkdir()
            _fill(partial, arch)
    return place


@contextmanager
def made_once(place: Path) -> Iterator[Path | None]:
    """Where to make what shall be at `place` when the block ends, whole or not at all; None where it is there already.

    Other processes wait meanwhile. Raises OutputError where it cannot be written.
    """
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.with_name(f".{place.name}.lock")):
            if place.exists():
                yield None
                return
            with tempfile.TemporaryDirectory(dir=place.parent, prefix=".partial-") as temporary:
                partial = Path(temporary) / place.name
                yield partial
                partial.replace(place)
    except OSError as error:
        raise OutputError(
            f"cannot write to {place.parent}: {error.strerror or error}; set XDG_CACHE_HOME to another folder"
        ) from error


def _fill(into: Path, arch: str) -> None:
    for package in PACKAGES:
        if arch == host_arch():
            _take_installed(package, into)
        else:
            with tempfile.TemporaryDirectory(dir=into.parent) as wheels:
                _take_wheel(package, _download(package, arch, Path(wheels)), into)
    missing = [name for name in (*LIBRARIES, EXTRA) if not (into / "lib" / name).exists()]
    if missing:
        raise TargetError(f"the packages {' and '.join(PACKAGES)} hold no {', '.join(missing)} for {arch}")


def _place(member: str, package: str) -> str | None:
    for pattern, place in _PLACES:
        if found := pattern.fullmatch(member):
            return found.expand(place).format(package=package)
    return None


def _take_installed(package: str, into: Path) -> None:
    for member in importlib.metadata.files(package) or ():
        if place := _place(member.as_posix(), package):
            (into / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(member.locate(), into / place)


def _take_wheel(package: str, wheel: Path, into: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        for member in content.namelist():
            if place := _place(member, package):
                (into / place).parent.mkdir(parents=True, exist_ok=True)
                (into / place).write_bytes(content.read(member))


def _download(package: str, arch: str, into: Path) -> Path:
    wanted = f"{package}=={importlib.metadata.version(package)}"
    python = ["--python-version", f"{sys.version_info.major}.{sys.version_info.minor}", "--implementation", "cp"]
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input", "--retries=2"]
    options = ["--no-deps", "--only-binary=:all:", "--platform", PLATFORMS[arch], *python, "--dest", str(into)]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "download", *quiet, *options, wanted],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=DOWNLOAD_S,
            check=False,
        )
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        reason = said[0] if said else f"pip ended with {done.returncode}"
    except subprocess.TimeoutExpired:
        reason = f"it took more than {DOWNLOAD_S} s"
    for wheel in into.glob("*.whl"):
        return wheel
    raise TargetError(
        f"cannot download {wanted} for {arch}: {reason}; a connection to the package index is needed once, "
        f"and what is taken from it stays in {cache()}"
    )
