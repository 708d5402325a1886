"""An Arm processor where there is none: TVM's runtime for AArch64 under qemu-user, reached through TVM's RPC.

with session("cortex-a72") as remote:
    network = relax.VirtualMachine(load(remote, library), remote.cpu())

qemu knows the instructions of each processor: one that the processor lacks ends the session. What has to be there:
qemu-user and the C and C++ libraries of Arm, from the system's packages. The runtime is that of pip's wheels for
AArch64, in the versions that are installed here; ziglang, which the compiler needs anyway, builds the server
(emulated_arm_server.c). Both are made once and stay in the environment's folder.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tvm_ffi
from filelock import FileLock
from tvm import rpc

QEMU = "qemu-aarch64"
SYSTEM = Path("/usr/aarch64-linux-gnu")
PACKAGES = "qemu-user libc6-arm64-cross libstdc++6-arm64-cross"
WHEELS = ("apache-tvm", "apache-tvm-ffi")
LIBRARIES = ("libtvm_runtime.so", "libtvm_runtime_extra.so", "libtvm_ffi.so")
SOURCE = Path(__file__).with_name("emulated_arm_server.c")
# the oldest C library that the wheels run with
ZIG_TARGET = "aarch64-linux-gnu.2.28"
# set where a missing emulator is to be a failure
REQUIRED = "TVM_BNN_NEEDS_EMULATOR"
SECONDS = 600


def why_not() -> str | None:
    """What this machine lacks for an emulated processor, or nothing."""
    standard = SYSTEM / "lib" / "libstdc++.so.6"
    missing = [name for name, there in ((QEMU, shutil.which(QEMU)), (str(standard), standard.exists())) if not there]
    return f"no {' and no '.join(missing)} here; try: apt-get install {PACKAGES}" if missing else None


def required() -> bool:
    """Whether a test may not be skipped for want of the emulator."""
    return bool(os.environ.get(REQUIRED))


def server() -> Path:
    """The server, built on first use, with the runtime's libraries in ./lib beside it."""
    folder = Path(sys.prefix) / "emulated-arm" / "-".join(version(name) for name in WHEELS)
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f"server-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]}"
    with FileLock(folder / "lock"):
        if not all((folder / "lib" / name).exists() for name in LIBRARIES):
            _fetch(folder)
        if not made.exists():
            _build(made)
    return made


def _fetch(folder: Path) -> None:
    """The runtime's libraries, from the wheels of TVM for AArch64."""
    (folder / "lib").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as wheels:
        python = ["--python-version", f"{sys.version_info.major}.{sys.version_info.minor}", "--implementation", "cp"]
        names = [f"{name}=={version(name)}" for name in WHEELS]
        options = ["--quiet", "--no-deps", "--only-binary=:all:", "--platform", "manylinux_2_28_aarch64", *python]
        subprocess.run([sys.executable, "-m", "pip", "download", *options, "--dest", wheels, *names], check=True)
        for wheel in Path(wheels).glob("*.whl"):
            with zipfile.ZipFile(wheel) as content:
                for member in content.namelist():
                    if Path(member).name in LIBRARIES:
                        (folder / "lib" / Path(member).name).write_bytes(content.read(member))


def _build(made: Path) -> None:
    include = Path(tvm_ffi.__file__).parent / "include"
    options = ["-target", ZIG_TARGET, "-O1", f"-I{include}", f"-L{made.parent / 'lib'}", "-Wl,-rpath,$ORIGIN/lib"]
    # what these libraries need is there when it runs, and the second is loaded for what it registers
    libraries = [f"-l{name.removeprefix('lib').removesuffix('.so')}" for name in LIBRARIES]
    linking = ["-Wl,--allow-shlib-undefined", "-Wl,--no-as-needed", *libraries]
    partial = made.with_suffix(".partial")
    subprocess.run(
        [sys.executable, "-m", "ziglang", "cc", *options, "-o", str(partial), str(SOURCE), *linking], check=True
    )
    partial.replace(made)


@contextmanager
def session(cpu: str = "cortex-a72", threads: int = 1) -> Iterator[rpc.RPCSession]:
    """An RPC session with an emulated processor, of a name that qemu knows; raises as `listening` does."""
    with listening(cpu, threads) as port:
        yield rpc.connect("127.0.0.1", port, session_timeout=SECONDS)


@contextmanager
def listening(cpu: str = "cortex-a72", threads: int = 1) -> Iterator[int]:
    """An emulated processor, of a name that qemu knows: the port of this machine at which it serves one session.

    RuntimeError if the processor stops before the session is over, as it does at an instruction that it lacks.
    """
    command = [QEMU, "-cpu", cpu, "-L", str(SYSTEM), str(server())]
    environment = {**os.environ, "TVM_NUM_THREADS": str(threads)}
    with tempfile.TemporaryDirectory(prefix="emulated-arm-") as folder, tempfile.TemporaryFile("w+") as said:
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": said, "text": True}
        with subprocess.Popen(command, cwd=folder, env=environment, **pipes) as process:
            assert process.stdout is not None
            try:
                yield int(process.stdout.readline())
            except (ValueError, RuntimeError) as error:
                process.stdout.close()
                if (code := _ended(process)) is None:
                    raise
                said.seek(0)
                raise RuntimeError(f"the emulated {cpu} stopped, exit code {code}: {said.read().strip()}") from error
            finally:
                process.kill()


def _ended(process: subprocess.Popen) -> int | None:
    """The exit code, where the process has ended or is about to."""
    try:
        return process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        return None


def load(remote: rpc.RPCSession, library: bytes) -> Any:
    """The shared library as a module of that processor."""
    remote.upload(bytearray(library), "./network.so")
    return remote.load_module("./network.so")
