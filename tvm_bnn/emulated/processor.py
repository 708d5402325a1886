"""An Arm processor where there is none: TVM's runtime for AArch64 under qemu-user, reached through TVM's RPC.

with session("cortex-a72") as remote:
    network = relax.VirtualMachine(load(remote, library), remote.cpu())

qemu knows the instructions of each processor: one that the processor lacks ends the session. What has to be there:
qemu-user and the C and C++ libraries of Arm, from the system's packages. The runtime is that of pip's wheels for
AArch64, in the versions that are installed here; ziglang, which the compiler needs anyway, builds the server
(server.c). Both are made once and stay in the user's cache.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import relax, rpc

from tvm_bnn import runtime_libraries
from tvm_bnn.errors import DeviceError

QEMU = "qemu-aarch64"
SYSTEM = Path("/usr/aarch64-linux-gnu")
PACKAGES = "qemu-user libc6-arm64-cross libstdc++6-arm64-cross"
SOURCES = Path(__file__).parent
ARCH = "aarch64"
ZIG_TARGET = f"{ARCH}-linux-gnu.{runtime_libraries.GLIBC}"
# the environment variable by which the server knows where instructions are counted
COUNTS = "TVM_BNN_COUNTS"
SECONDS = 600


def why_not() -> str | None:
    """What this machine lacks for an emulated processor, or nothing."""
    standard = SYSTEM / "lib" / "libstdc++.so.6"
    missing = [name for name, there in ((QEMU, shutil.which(QEMU)), (str(standard), standard.exists())) if not there]
    return f"no {' and no '.join(missing)} here; try: apt-get install {PACKAGES}" if missing else None


def server() -> Path:
    """The server, built on first use; raises as `runtime_libraries.folder` does."""
    runtime = runtime_libraries.folder(ARCH)
    options = ["-target", ZIG_TARGET, "-O1", f"-I{runtime / 'include'}", f"-L{runtime / 'lib'}"]
    # what these libraries need is there when it runs, and the last is loaded for what it registers
    names = (*runtime_libraries.LIBRARIES, runtime_libraries.EXTRA)
    libraries = [f"-l{name.removeprefix('lib').removesuffix('.so')}" for name in names]
    linking = [f"-Wl,-rpath,{runtime / 'lib'}", "-Wl,--allow-shlib-undefined", "-Wl,--no-as-needed", *libraries]
    return _built("server", [*options, *linking])


def counter() -> Path:
    """qemu's plugin that counts instructions, built on first use."""
    return _built("counter", ["-O2", "-shared", "-fPIC", "-Wl,--allow-shlib-undefined"])


def _built(name: str, options: Sequence[str]) -> Path:
    """What a source of this folder becomes, under a name that says of which text and with which options it was made.

    Raises DeviceError where it cannot be built.
    """
    source, header = (SOURCES / f"{name}.c", SOURCES / "counts.h")
    made_of = hashlib.sha256(b"".join([source.read_bytes(), header.read_bytes(), *map(str.encode, options)]))
    made = runtime_libraries.cache() / "emulated" / f"{name}-{made_of.hexdigest()[:12]}"
    with runtime_libraries.made_once(made) as partial:
        if partial:
            command = [sys.executable, "-m", "ziglang", "cc", "-o", str(partial), str(source), *options]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
            if done.returncode:
                said = [line for line in done.stderr.splitlines() if "error" in line] or ["try pip install ziglang"]
                raise DeviceError(f"cannot build {source.name} for the emulated processor: {said[0]}")
    return made


@contextmanager
def session(cpu: str = "cortex-a72", threads: int = 1) -> Iterator[rpc.RPCSession]:
    """An RPC session with an emulated processor, of a name that qemu knows; raises as `listening` does."""
    with listening(cpu, threads) as port:
        yield connected(port)


def connected(port: int) -> rpc.RPCSession:
    """The session that a processor serves at a port of this machine."""
    return rpc.connect("127.0.0.1", port, session_timeout=SECONDS)


@contextmanager
def listening(cpu: str = "cortex-a72", threads: int = 1, folder: Path | None = None) -> Iterator[int]:
    """An emulated processor, of a name that qemu knows: the port of this machine at which it serves one session.

    folder : where the server leaves its files, and notes what its virtual machines execute; see server.c.

    DeviceError if there is none here, or if the processor stops before the session is over, as it does at an
    instruction that it lacks.
    """
    command, added = started_by(cpu, threads, folder / "counts" if folder else None)
    environment = {**os.environ, **added}
    with tempfile.TemporaryDirectory(prefix="emulated-arm-") as own, tempfile.TemporaryFile("w+") as said:
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": said, "text": True}
        with subprocess.Popen(command, cwd=folder or own, env=environment, **pipes) as process:
            assert process.stdout is not None
            try:
                yield int(process.stdout.readline())
            except (ValueError, RuntimeError) as error:
                process.stdout.close()
                if (code := _ended(process)) is None:
                    raise
                said.seek(0)
                raise DeviceError(f"the emulated {cpu} stopped, exit code {code}: {said.read().strip()}") from error
            finally:
                process.kill()


def started_by(cpu: str, threads: int, counts: Path | None) -> tuple[list[str], dict[str, str]]:
    """The command that starts a server (server.c says what it does), and what it needs in its environment.

    counts : the file in which it counts instructions; where it has none, it cannot.

    Raises DeviceError where there is no emulator here.
    """
    if reason := why_not():
        raise DeviceError(reason)
    plugin = ["-plugin", f"{counter()},counts={counts}"] if counts else []
    environment = {"TVM_NUM_THREADS": str(threads), **({COUNTS: str(counts)} if counts else {})}
    return [QEMU, "-cpu", cpu, *plugin, "-L", str(SYSTEM), str(server())], environment


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


class Network:
    """A Relax network on that processor: inputs stay there, so that it can be run again."""

    def __init__(self, remote: rpc.RPCSession, library: bytes) -> None:
        """`library` : a shared library for it."""
        self._device = remote.cpu()
        self.machine = relax.VirtualMachine(load(remote, library), self._device)

    def set_inputs(self, inputs: Sequence[np.ndarray]) -> None:
        """One array per argument."""
        self.machine.set_input("main", *(tvm.runtime.tensor(array, self._device) for array in inputs))

    def run(self) -> list[np.ndarray]:
        """Run it; the results, as a flat list."""
        self.machine.invoke_stateful("main")
        return _flat(self.machine.get_outputs("main"))


def _flat(value: Any) -> list[np.ndarray]:
    return [value.numpy()] if hasattr(value, "numpy") else [leaf for field in value for leaf in _flat(field)]
