"""NVIDIA's driver by ctypes: what it takes to load machine code, launch it, and time what runs on a GPU.

It works in the device's primary context, which is also that of PyTorch and TVM, and times on their default stream.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tvm_bnn.errors import DeviceError
from tvm_bnn.report.timing import Seconds

NAME = "libcuda.so.1"
#: Of cuda.h: CU_DEVICE_ATTRIBUTE_...
_MULTIPROCESSORS, _CLOCK_KHZ, _L2_BYTES, _MAJOR, _MINOR = 16, 13, 38, 75, 76
#: CU_STREAM_NON_BLOCKING, and CU_STREAM_CAPTURE_MODE_RELAXED: what runs may allocate meanwhile.
_NON_BLOCKING, _RELAXED = 1, 2
#: The stream that everybody uses who names none.
_DEFAULT_STREAM = ctypes.c_void_p(0)


@dataclass(frozen=True)
class Buffer:
    """Memory of the device, given back when nobody refers to it."""

    driver: Driver
    address: ctypes.c_uint64
    size: int

    def upload(self, array: np.ndarray) -> Buffer:
        """Fill it from its start."""
        whole = np.ascontiguousarray(array)
        assert whole.nbytes <= self.size
        self.driver.call("cuMemcpyHtoD_v2", self.address, ctypes.c_void_p(whole.ctypes.data), _size(whole.nbytes))
        return self

    def download(self, dtype: str = "uint32") -> np.ndarray:
        """All of it."""
        array = np.empty(self.size // np.dtype(dtype).itemsize, dtype)
        self.driver.call("cuMemcpyDtoH_v2", ctypes.c_void_p(array.ctypes.data), self.address, _size(array.nbytes))
        return array


class Driver:
    """The driver, and this machine's first GPU.

    Raises DeviceError where there is none, and for whatever goes wrong on it.
    """

    def __init__(self, library: str = NAME) -> None:
        try:
            self._library = ctypes.CDLL(library)
        except OSError as error:
            raise DeviceError("no NVIDIA driver was found on this machine, which the reports of a GPU need") from error
        self._device = ctypes.c_int()
        self._context = ctypes.c_void_p()
        self.call("cuInit", ctypes.c_uint(0))
        self.call("cuDeviceGet", ctypes.byref(self._device), ctypes.c_int(0))
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
        self.call("cuCtxSetCurrent", self._context)
        self._start, self._end = self._event(), self._event()

    def call(self, function: str, *arguments: Any) -> None:
        """One call of the driver's; every argument has its type in C."""
        code = getattr(self._library, function)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self._library.cuGetErrorString(ctypes.c_int(code), ctypes.byref(text))
            raise DeviceError(f"{function} failed on the GPU: {(text.value or b'unknown').decode()} ({code})")

    # --- what it is ---

    @cached_property
    def name(self) -> str:
        """As its maker calls it."""
        text = ctypes.create_string_buffer(256)
        self.call("cuDeviceGetName", text, ctypes.c_int(256), self._device)
        return text.value.decode()

    @cached_property
    def version(self) -> tuple[int, int]:
        """Compute capability, major and minor."""
        return self._attribute(_MAJOR), self._attribute(_MINOR)

    @cached_property
    def multiprocessors(self) -> int:
        """How many there are."""
        return self._attribute(_MULTIPROCESSORS)

    @property
    def cuda_version(self) -> str:
        """The latest CUDA that the driver knows, "13.0"."""
        number = ctypes.c_int()
        self.call("cuDriverGetVersion", ctypes.byref(number))
        return f"{number.value // 1000}.{number.value % 1000 // 10}"

    def describe(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "device": self.name,
            "compute_capability": ".".join(map(str, self.version)),
            "multiprocessors": self.multiprocessors,
            "clock_mhz": self._attribute(_CLOCK_KHZ) / 1e3,
            "l2_bytes": self._attribute(_L2_BYTES),
            "cuda": self.cuda_version,
        }

    def _attribute(self, number: int) -> int:
        value = ctypes.c_int()
        self.call("cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(number), self._device)
        return value.value

    # --- memory, and code ---

    def buffer(self, size: int) -> Buffer:
        """So many bytes."""
        address = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(address), _size(size))
        made = Buffer(self, address, size)
        # no complaint when the device has failed before
        weakref.finalize(made, self._library.cuMemFree_v2, address)
        return made

    def module(self, code: bytes) -> ctypes.c_void_p:
        """Machine code, loaded for good."""
        module = ctypes.c_void_p()
        self.call("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(code))
        return module

    def kernel(self, module: ctypes.c_void_p, name: str) -> Callable[..., None]:
        """A kernel of a module: call with (blocks, threads, *arguments), buffers or numbers of ctypes.

        stream : to launch on, of `graph`.
        """
        function = ctypes.c_void_p()
        self.call("cuModuleGetFunction", ctypes.byref(function), module, ctypes.c_char_p(name.encode()))

        def launch(blocks: int, threads: int, *arguments: Any, stream: int = 0) -> None:
            values = [each.address if isinstance(each, Buffer) else each for each in arguments]
            pointers = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
            grid = [ctypes.c_uint(each) for each in (blocks, 1, 1, threads, 1, 1)]
            where = ctypes.c_uint(0), ctypes.c_void_p(stream)  # no more shared memory than it declares
            self.call("cuLaunchKernel", function, *grid, *where, pointers, ctypes.c_void_p())

        return launch

    # --- time ---

    def seconds(self, run: Callable[[], object], calls: int = 1) -> Seconds:
        """Of one of so many runs in a row, by the device's clock, from the first launch to the end of the last."""
        self.call("cuEventRecord", self._start, _DEFAULT_STREAM)
        for _ in range(calls):
            run()
        self.call("cuEventRecord", self._end, _DEFAULT_STREAM)
        self.call("cuEventSynchronize", self._end)
        milliseconds = ctypes.c_float()
        self.call("cuEventElapsedTime", ctypes.byref(milliseconds), self._start, self._end)
        return Seconds(milliseconds.value / 1e3 / calls)

    def wait(self) -> None:
        """Until all that was launched has ended."""
        self.call("cuCtxSynchronize")

    def graph(self, run: Callable[[int], object]) -> Callable[[], None]:
        """What a run launches, as one launch. run : called once, with the stream that it has to launch on."""
        stream, graph, made = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuStreamCreate", ctypes.byref(stream), ctypes.c_uint(_NON_BLOCKING))
        self.call("cuStreamBeginCapture_v2", stream, ctypes.c_int(_RELAXED))
        try:
            run(stream.value or 0)
        finally:
            # a stream that captures would refuse to be waited for
            ended = self._library.cuStreamEndCapture(stream, ctypes.byref(graph))
        if ended or not graph.value:
            raise DeviceError(f"what was launched could not be captured as a graph ({ended})")
        self.call("cuGraphInstantiateWithFlags", ctypes.byref(made), graph, ctypes.c_uint64(0))
        return lambda: self.call("cuGraphLaunch", made, _DEFAULT_STREAM)

    def _event(self) -> ctypes.c_void_p:
        event = ctypes.c_void_p()
        self.call("cuEventCreate", ctypes.byref(event), ctypes.c_uint(0))
        return event


def _size(count: int) -> ctypes.c_size_t:
    return ctypes.c_size_t(count)
