"""Run a compiled network: load it, check the inputs, hand tensors over without copies, time it.

Nothing of the compiler is imported here, and PyTorch is not needed: its tensors are only met where the caller
has it already.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np
import tvm
from tvm.runtime.vm import VirtualMachine

from tvm_bnn import artifact, cubin
from tvm_bnn.errors import ArtifactError, InputError, OutputError
from tvm_bnn.gpus import device_of
from tvm_bnn.targets import available_cpus, check_runs_here

# TVM refuses tensors that begin elsewhere.
ALIGNMENT = 64
# TVM's affinity mode "all threads share all the CPUs in the list"; the other modes pin threads, the calling one
# too, and with it the rest of the caller's program. So does a pool that TVM makes by itself, unless it is told:
_SHARE_ALL_CPUS = -3
os.environ.setdefault("TVM_BIND_THREADS", "0")
_pool = threading.local()
# What runs on a GPU does so in one thread, loading and freeing it too. While TVM captures a graph, nobody may
# allocate or free memory of the GPU: of two networks in two threads, one would break what the other captures. And the
# current device (CUDA's) and the stream (TVM's) belong to a thread: the caller's may be others, and stay as they are.
# Here it is the default stream, except while TVM captures one that it makes for that.
_gpu_thread = ThreadPoolExecutor(1, thread_name_prefix="tvm_bnn_gpu")


class Artifact:
    """A compiled network.

    library: the shared library's content. manifest: see `tvm_bnn.artifact.Manifest`. extra: further members of
    the file. The library is loaded at the first call, so that a network compiled for another machine can be
    looked at and saved here.
    """

    def __init__(
        self, library: bytes | IO[bytes], manifest: Mapping[str, Any], extra: Mapping[str, bytes] | None = None
    ) -> None:
        self._library = library
        self.manifest = cast(artifact.Manifest, manifest)
        self.extra = dict(extra or {})
        # a file made for a board with more cores than this machine has still runs
        self._threads = max(1, min(int(self.manifest["target"]["threads"]), available_cpus()))
        self._device = device_of(self.manifest["target"].get("gpu"))
        self._loaded: dict[str, Any] = {}
        self._own_thread: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        inputs = ", ".join(
            f"{row['name']}: {_described(row['shape'], row['dtype'])}" for row in self.manifest["inputs"]
        )
        return f"<Artifact {self.manifest['name']} for {self.manifest['target']['name']} ({inputs})>"

    @property
    def library(self) -> bytes:
        """The shared library's content; not kept in memory once the library is loaded."""
        if isinstance(self._library, bytes):
            return self._library
        with self._lock:
            self._library.seek(0)
            return self._library.read()

    @property
    def threads(self) -> int:
        """How many threads run it; may be set, from 1 to the number of CPUs that this process may use."""
        return self._threads

    @threads.setter
    def threads(self, count: int) -> None:
        if not 1 <= count <= available_cpus():
            raise InputError(f"found {count} threads; from 1 to {available_cpus()} (the CPUs here) can be used")
        self._threads = int(count)

    def save(self, path: artifact.PathLike) -> None:
        """Write the artifact to one file; raises OutputError when that fails, and then leaves nothing behind."""
        artifact.write(path, self.library, self.manifest, self.extra)

    def explain(self) -> list[dict[str, Any]]:
        """One row per convolution, linear layer and matmul: path, op, shape, decision, reason, rule, macs, ..."""
        return [dict(row) for row in self.manifest["layers"]]

    def __call__(self, *inputs: Any) -> Any:
        """Run the network on torch tensors (the results are torch tensors) or on numpy arrays (likewise).

        The inputs must be as the manifest says; they are used in place when they are contiguous and begin at a
        multiple of 64 bytes, and copied otherwise. Results own their memory. A tuple comes back as a tuple. Where
        kernels run on a GPU, inputs are copied there, and results back.

        Raises InputError for a wrong number, rank, shape or dtype, ArtifactError where the code cannot run here.
        """
        arguments = checked_inputs(inputs, self.manifest)
        with self._lock:
            result = self._run(self._there_and_back, arguments)
        return _convert(result, _torch_tensor if any(_is_torch(item) for item in inputs) else np.from_dlpack)

    def benchmark(self, *inputs: Any, repeat: int = 10, number: int = 1) -> list[float]:
        """Seconds per run, measured `repeat` times over `number` runs each, after one run to warm up.

        The inputs are converted (and copied to a GPU, from which results are not copied back) once, outside the
        measurement.
        """
        if repeat < 1 or number < 1:
            raise InputError(f"found repeat={repeat} and number={number}; both must be at least 1")
        arguments = checked_inputs(inputs, self.manifest)
        with self._lock:
            there = self._run(self._warmed, arguments)
            return [self._run(self._measured, (number, *there)) for _ in range(repeat)]

    def _there_and_back(self, *arguments: Any) -> Any:
        """A run, with copies to and from a GPU."""
        main = self._load()
        return _convert(main(*self._there(arguments)), self._back)

    def _warmed(self, *arguments: Any) -> Sequence[Any]:
        """The arguments where kernels read them, after a run; on a GPU it is the second that launches the graph."""
        main, there = self._load(), self._there(arguments)
        for _ in range(2 if self._on_gpu else 1):
            main(*there)
        return there

    def _measured(self, number: int, *there: Any) -> float:
        """Seconds of a run; launching returns before a GPU has even begun, so all of it is waited for."""
        main = self._load()
        self._device.sync()
        start = time.perf_counter()
        for _ in range(number):
            main(*there)
        self._device.sync()
        return (time.perf_counter() - start) / number

    def _load(self) -> Callable[..., Any]:
        if "main" not in self._loaded:
            check_runs_here(self.manifest["target"])
            with cubin.taken_out() if self._on_gpu else contextlib.nullcontext():
                module, self._library = load_library(self._library)
            weakref.finalize(self, self._library.close)
            if self._on_gpu:
                weakref.finalize(self, _let_go, self._loaded).atexit = False
            self._loaded["main"] = VirtualMachine(module, self._device)["main"]
        return self._loaded["main"]

    def _there(self, arguments: Sequence[Any]) -> Sequence[Any]:
        """Tensors where kernels read them; on a GPU the same again, where the inputs have the same shapes."""
        if not self._on_gpu:
            return arguments
        before = self._loaded.get("inputs", [])
        if [each.shape for each in arguments] != [each.shape for each in before]:
            before = [tvm.runtime.empty(each.shape, each.dtype, self._device) for each in arguments]
            self._loaded["inputs"] = before
        return [each.copyto(there) for each, there in zip(arguments, before, strict=True)]

    def _back(self, tensor: Any) -> Any:
        """A tensor that a kernel made, on the processor."""
        return tensor.copyto(tvm.cpu()) if self._on_gpu else tensor

    @property
    def _on_gpu(self) -> bool:
        return "gpu" in self.manifest["target"]

    def _run(self, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        """Call with the right number of threads.

        TVM keeps a pool per Python thread, and a pool never grows: where other code has already made a smaller
        one in this thread, the call moves to a thread of our own. What runs on a GPU uses none of it.
        """
        if self._on_gpu:
            return _gpu_thread.submit(function, *arguments).result()
        if self._own_thread is None and use_threads(self._threads) == self._threads:
            return function(*arguments)
        if self._own_thread is None:
            self._own_thread = ThreadPoolExecutor(1, thread_name_prefix="tvm_bnn")

        def moved() -> Any:
            use_threads(self._threads)
            return function(*arguments)

        return self._own_thread.submit(moved).result()


def load(path: artifact.PathLike) -> Artifact:
    """Read an artifact file and make it ready to run.

    Raises ArtifactError for a file that is missing, damaged, foreign or newer, and for one that was compiled
    for another CPU than this one, or for a GPU that is not here.
    """
    with artifact.opened(path) as content:
        made = Artifact(content.library, content.manifest, content.extra)
        if made._on_gpu:
            made._run(made._load, ())
        else:
            made._load()
        return made


def _let_go(loaded: dict[str, Any]) -> None:
    """Free what is on a GPU."""
    with contextlib.suppress(RuntimeError):  # when Python ends, the thread has ended before
        _gpu_thread.submit(loaded.clear)


def use_threads(count: int) -> int:
    """Let TVM use `count` threads for what this Python thread calls; how many it does."""
    if getattr(_pool, "threads", None) != count:
        cpus = [str(cpu) for cpu in sorted(os.sched_getaffinity(0))]
        tvm.get_global_func("runtime.config_threadpool")(_SHARE_ALL_CPUS, count, cpus)
        _pool.threads = int(tvm.get_global_func("runtime.NumThreads")())
    return _pool.threads


def load_library(library: bytes | IO[bytes]) -> tuple[Any, BinaryIO]:
    """A shared library as a module of TVM's, and the file without a name that it is mapped from.

    library: its content, or a stream over it, which goes to the disk in blocks.

    Raises ArtifactError where it cannot be loaded, OutputError where there is no room for the file.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="tvm_bnn-") as folder:
            path = Path(folder) / artifact.LIBRARY_NAME
            with path.open("wb") as file:
                shutil.copyfileobj(io.BytesIO(library) if isinstance(library, bytes) else library, file)
            return tvm.runtime.load_module(str(path)), path.open("rb")
    except RuntimeError as error:
        raise ArtifactError(
            f"the compiled code cannot be loaded ({_first_line(error)}); compile it again here"
        ) from error
    except OSError as error:
        # asking tempfile where that is would fail again
        place = tempfile.tempdir or os.environ.get("TMPDIR", "/tmp")
        raise OutputError(
            f"cannot unpack the compiled code to {place}: {error.strerror or _first_line(error)}; "
            "set TMPDIR to a folder with more free space"
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


# --- tensors in and out -----------------------------------------------------------------------------------------


def checked_inputs(inputs: Sequence[Any], manifest: artifact.Manifest) -> list[Any]:
    """The inputs of a call as tensors of TVM's, without copies where possible; raises InputError for wrong ones."""
    expected = manifest["inputs"]
    if len(inputs) != len(expected):
        names = ", ".join(f"{row['name']} ({_described(row['shape'], row['dtype'])})" for row in expected)
        raise InputError(f"found {len(inputs)} inputs; {manifest['name']} takes {len(expected)}: {names}")
    return [_to_tvm(value, row) for value, row in zip(inputs, expected, strict=True)]


def _is_torch(value: Any) -> bool:
    # who has a torch tensor has imported torch
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _to_tvm(value: Any, expected: artifact.InputInfo) -> Any:
    """The value as a tensor of TVM's, in place where TVM can use it there."""
    if _is_torch(value):
        _check(value.shape, str(value.dtype).removeprefix("torch."), expected)
        if value.device.type != "cpu":
            raise InputError(f"input {expected['name']!r} is on {value.device}, expected is the CPU; try .cpu()")
        value = value.detach().contiguous()
        return tvm.runtime.from_dlpack(value.clone() if value.data_ptr() % ALIGNMENT else value)
    if not isinstance(value, np.ndarray):
        raise InputError(
            f"input {expected['name']!r} is a {type(value).__name__}; accepted are torch tensors and numpy arrays"
        )
    _check(value.shape, str(value.dtype), expected)
    if value.flags.c_contiguous and value.flags.writeable and value.ctypes.data % ALIGNMENT == 0:
        return tvm.runtime.from_dlpack(value)
    return tvm.runtime.tensor(np.ascontiguousarray(value))


def _check(shape: Sequence[int], dtype: str, expected: artifact.InputInfo) -> None:
    fits = len(shape) == len(expected["shape"]) and all(
        want is None or found == want for found, want in zip(shape, expected["shape"], strict=True)
    )
    if fits and dtype == expected["dtype"]:
        return
    wrong = "dtype" if fits else "rank" if len(shape) != len(expected["shape"]) else "shape"
    layout = f" ({expected['layout']})" if expected.get("layout") else ""
    raise InputError(
        f"input {expected['name']!r} has the wrong {wrong}: found {_described(shape, dtype)}, "
        f"expected {_described(expected['shape'], expected['dtype'])}{layout}"
    )


def _described(shape: Sequence[int | None], dtype: str) -> str:
    return f"{dtype} [{', '.join('?' if size is None else str(size) for size in shape)}]"


def _torch_tensor(value: Any) -> Any:
    return sys.modules["torch"].from_dlpack(value)


def _convert(result: Any, convert: Callable[[Any], Any]) -> Any:
    if isinstance(result, tvm.runtime.Tensor):
        return convert(result)
    return tuple(_convert(item, convert) for item in result)
