"""What else runs a float layer, or a float network, on an NVIDIA GPU.

PyTorch in float16 with channels last, where cuDNN chooses its fastest kernels: operator by operator, as one CUDA graph,
and compiled by TorchInductor, that as a graph as well. Int8 products of PyTorch's for the layers. TVM as it comes.

Inputs are on the device before anything is timed, and results stay there.
"""

from __future__ import annotations

import copy
import gc
import importlib.util
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any
from unittest.mock import patch

import torch
import tvm
from torch import Tensor, nn
from tvm import relax
from tvm.ir import Op
from tvm.support import nvcc

from tvm_bnn import cubin
from tvm_bnn.errors import BnnError
from tvm_bnn.report.kernel_cases import Layer
from tvm_bnn.report.peers import tvm_stock
from tvm_bnn.targets import Target

#: What a peer that cannot do something raises; it is left out, with the reason.
FAULTS = (RuntimeError, ValueError, TypeError, ImportError, OSError, BnnError)
#: Runs before a graph is captured: kernels are chosen, and memory is taken.
WARM_UP = 3
#: torch._int_mm asks for more rows than these, and for multiples of this many columns.
INT8_ROWS, INT8_MULTIPLE = 16, 8
#: What `schedules.cuda_arithmetic` tells TVM of an operator, for the whole process.
_LOWERING = "cuda.FLowerIntrinsic"


@dataclass(frozen=True)
class Launch:
    """Work on the default stream, not waited for. runs : how many times it runs the network."""

    call: Callable[[], object]
    runs: int = 1


@dataclass(frozen=True)
class Work:
    """A float network for peers to run on the GPU.

    module, inputs : on the processor, in float32. layer : of a convolution, and how many images it takes.
    target : the GPU. runs : how many runs a graph has: one launch of a small kernel takes longer than the kernel.
    """

    module: nn.Module
    inputs: tuple[Tensor, ...]
    target: Target
    layer: Layer | None = None
    runs: int = 1

    @cached_property
    def halves(self) -> tuple[nn.Module, tuple[Tensor, ...]]:
        """Module and inputs on the device, for all peers of PyTorch's."""
        # of several kernels, cuDNN takes the one that is fastest here
        torch.backends.cudnn.benchmark = True
        module = copy.deepcopy(self.module).eval().half().cuda()
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # its stub has no such
        return module, tuple(_last(value.half().cuda()) for value in self.inputs)


@dataclass(frozen=True)
class GpuPeer:
    """One row of the table of peers.

    missing : () -> why it cannot take part on this machine, None where it can.
    prepare : raises one of FAULTS where it cannot run this network.
    """

    name: str
    missing: Callable[[], str | None]
    prepare: Callable[[Work], Launch]


def _last(value: Tensor) -> Tensor:
    return value.to(memory_format=torch.channels_last) if value.dim() == 4 else value.contiguous()


# --- PyTorch ---


def no_cuda() -> str | None:
    """Why PyTorch cannot use the GPU."""
    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} is built without CUDA; install one that is: https://pytorch.org"
    return None if torch.cuda.is_available() else f"PyTorch {torch.__version__} finds no GPU that it can use"


def eager(work: Work) -> Launch:
    """Operator by operator."""
    run = _eager(work)
    run()
    torch.cuda.synchronize()  # what fails, fails here
    return Launch(run)


def _eager(work: Work) -> Callable[[], object]:
    module, inputs = work.halves
    return partial(module, *inputs)


def graph(work: Work) -> Launch:
    """The same, launched as a whole."""
    return _graph(_eager(work), work.runs)


def compiled(work: Work) -> Launch:
    """Compiled by TorchInductor, launched as a whole."""
    from torch._inductor import config

    module, inputs = work.halves
    run = partial(torch.compile(module, dynamic=False), *inputs)
    # weights become constants, which take batch normalisation in
    with config.patch(freezing=True), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of PyTorch's own making
        try:
            run()
        except RuntimeError as error:
            # what follows the first line is advice on finding faults in PyTorch
            raise RuntimeError((str(error).strip().splitlines() or [type(error).__name__])[0]) from error
        return _graph(run, work.runs)


def _graph(run: Callable[[], object], runs: int) -> Launch:
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM_UP):
            run()
    torch.cuda.current_stream().wait_stream(aside)
    torch.cuda.synchronize()
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        kept = [run() for _ in range(runs)][-1:]

    def replay() -> object:
        captured.replay()
        return kept

    return Launch(replay, runs)


def no_int8() -> str | None:
    """Why there are no int8 products of PyTorch's."""
    missing = no_cuda()
    return missing or (None if hasattr(torch, "_int_mm") else f"PyTorch {torch.__version__} has no torch._int_mm")


def int8(work: Work) -> Launch:
    """The windows of a map of bytes, copied into rows of a matrix, times the filters; nothing after the sums.

    PyTorch has no int8 convolution for GPUs; this is what it has. The map has its border already.
    """
    if work.layer is None:
        raise RuntimeError("PyTorch has no int8 convolutions for GPUs")
    layer, batch = work.layer, len(work.inputs[0])
    height, width, channels = layer.size
    depth = layer.kernel**2 * channels
    rows = batch * layer.out[0] * layer.out[1]
    if rows <= INT8_ROWS or depth % INT8_MULTIPLE or layer.filters % INT8_MULTIPLE or layer.dilation != 1:
        raise RuntimeError(f"torch._int_mm does not take {rows} rows of {depth} for {layer.filters} filters")
    border = 2 * layer.padding
    data = torch.randint(-127, 128, (batch, height + border, width + border, channels), dtype=torch.int8).cuda()
    weight = torch.randint(-127, 128, (layer.filters, depth), dtype=torch.int8).cuda()
    return _graph(partial(windows_times, data, weight, layer), work.runs)


def windows_times(data: Tensor, weight: Tensor, layer: Layer) -> Tensor:
    """[N * H * W, filters] of a map [N, H, W, C] with its border, and filters whose rows are (ky, kx, c)."""
    windows = data.unfold(1, layer.kernel, layer.stride).unfold(2, layer.kernel, layer.stride)
    return torch._int_mm(windows.permute(0, 1, 2, 4, 5, 3).reshape(-1, weight.shape[1]), weight.t())


# --- TVM as it comes ---


def no_nvcc() -> str | None:
    """Why TVM's own code for GPUs cannot be compiled."""
    try:
        cubin.nvcc()
    except BnnError as error:
        return str(error)
    return None if importlib.util.find_spec("tvm.s_tir.dlight") else "TVM has no dlight, its schedules for GPUs"


def stock(work: Work) -> Launch:
    """TVM's importer, its default pipeline and schedules for GPUs (dlight), in float32.

    In float16, its importer gives convolutions a float32 result, to which it then cannot add a float16 bias.
    """
    with own_compiler(work.target):
        built = tvm_stock.build(work.module.eval(), work.inputs, work.target)
        machine = relax.VirtualMachine(built, tvm.cuda())
        main, arguments = machine["main"], [tvm.runtime.tensor(each.numpy(), tvm.cuda()) for each in work.inputs]
        main(*arguments)
        tvm.cuda().sync()
    return Launch(lambda: main(*arguments))


@contextmanager
def own_compiler(target: Target) -> Iterator[None]:
    """While it lasts, TVM compiles as it does without this package, but with the nvcc that the package uses."""
    assert target.gpu is not None
    arch = target.gpu.arch

    def compile_as_tvm_does(source: str, *_: Any) -> bytes:
        with target.tvm():
            return bytes(nvcc.compile_cuda(source, "cubin", arch, compiler="nvcc"))

    path = f"{cubin.nvcc().parent}{os.pathsep}{os.environ.get('PATH', '')}"
    # with it, TVM makes a call that is for single numbers of sums of vectors' products, too
    fma = Op.get("tirx.fma")
    ours = fma.get_attr(_LOWERING) if fma.has_attr(_LOWERING) else None
    fma.reset_attr(_LOWERING)
    try:
        with patch.dict(os.environ, PATH=path), cubin.standing_in("tvm_callback_cuda_compile", compile_as_tvm_does):
            yield
    finally:
        if ours is not None:
            fma.set_attr(_LOWERING, ours)


PEERS = (
    GpuPeer("pytorch-fp16", no_cuda, eager),
    GpuPeer("pytorch-fp16-graph", no_cuda, graph),
    GpuPeer("torch-compile-fp16", no_cuda, compiled),
    GpuPeer("pytorch-int8", no_int8, int8),
    GpuPeer("tvm-stock-fp32", no_nvcc, stock),
)


def present() -> tuple[list[GpuPeer], dict[str, str]]:
    """The peers that can take part, and why the others cannot, by name."""
    reasons = {peer.name: peer.missing() for peer in PEERS}
    return (
        [peer for peer in PEERS if reasons[peer.name] is None],
        {name: reason for name, reason in reasons.items() if reason is not None},
    )


def release() -> None:
    """Give back what the peers of a row have kept on the device."""
    if torch.cuda.is_available():
        import torch._dynamo as dynamo

        dynamo.reset()
        gc.collect()
        torch.cuda.empty_cache()
