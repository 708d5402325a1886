"""What a GPU can do at best, measured on it: products of bits and of halves by each instruction, and copying.

`ceilings.cu` has the kernels. Each is first run on ones and has to count its own multiply-accumulates; it is timed on
random operands, with several numbers of blocks a multiprocessor, in turns with all others. The fastest number counts.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tvm_bnn import cubin
from tvm_bnn.errors import DeviceError
from tvm_bnn.gpus import WARP, Gpu
from tvm_bnn.report.gpu.driver import Driver
from tvm_bnn.report.machine import MB, Limits
from tvm_bnn.report.timing import Seconds, Timing, interleave

SOURCE = Path(__file__).with_name("ceilings.cu")
#: As ceilings.cu has them: threads of a block, tiles that a warp multiplies in a step, products of a group in one.
BLOCK, TILES, GROUP = 256, 4 * 2 * 4, 16
GROUP_BLOCK = 4 * WARP
#: Words of an operand, the most that a kernel reads.
WORDS = 256 * 8
BLOCKS = (1, 2, 3, 4)
COPY_BLOCKS = (8, 16, 32)
#: Sizes, in MB, of the array whose copying is timed.
COPY_SIZES = (1, 4, 16, 64, 256, 1024)
ROUNDS = 11
#: Seconds of a launch to time, and steps of the launch that tells how many these are.
LAUNCH = 3e-3
FIRST_STEPS = 64
COPIED_PER_SIZE = 2048 * MB
MOST_COPIES = 200
B1, FP16 = "b1", "fp16"
_ONES, _ZEROS, _HALF_ONES = 0xFFFFFFFF, 0, 0x3C003C00


@dataclass(frozen=True)
class Instruction:
    """A way to multiply and add.

    name : for people, as PTX has it. kernel : of ceilings.cu. kind : B1 or FP16.
    threads : of a block. macs : of a block in one step. ones : operands whose products are all 1, as words.
    """

    name: str
    kernel: str
    kind: str
    threads: int
    macs: int
    ones: tuple[int, int]


@dataclass(frozen=True)
class Rate:
    """A measured ceiling.

    per_s : multiply-accumulates, or bytes read plus written. spread : interquartile range over median.
    blocks : a multiprocessor, with which it was reached.
    """

    per_s: float
    spread: float
    blocks: int


@dataclass(frozen=True)
class Ceilings:
    """Of one GPU: by name of the instruction, and by bytes of the copied array."""

    bits: Mapping[str, Rate]
    halves: Mapping[str, Rate]
    copy: Mapping[int, Rate]

    @property
    def best_bits(self) -> tuple[str, Rate]:
        """The ceiling of binary multiply-accumulates, and what reaches it."""
        return max(self.bits.items(), key=lambda item: item[1].per_s)

    @property
    def limits(self) -> Limits:
        """For the limits of rows: float multiply-accumulates are those of halves."""
        return Limits(
            threads=1,
            binary=self.best_bits[1].per_s,
            fp32=max(rate.per_s for rate in self.halves.values()),
            int8=None,
            copy={size: rate.per_s for size, rate in self.copy.items()},
        )

    def json(self) -> dict[str, Any]:
        """Plain data; copy sizes in MB."""
        return {
            "binary_macs_per_s": {name: asdict(rate) for name, rate in self.bits.items()},
            "fp16_macs_per_s": {name: asdict(rate) for name, rate in self.halves.items()},
            "copy_bytes_per_s": {f"{size / MB:g}": asdict(rate) for size, rate in self.copy.items()},
            "best_binary": self.best_bits[0],
        }


def code_arch(gpu: Gpu, version: tuple[int, int]) -> str:
    """What to compile the kernels for: only sm_90a has products by four warps, and only 9.0 runs it."""
    return "sm_90a" if version == (9, 0) else gpu.arch


def instructions(version: tuple[int, int]) -> list[Instruction]:
    """What a GPU of a compute capability has, emulated or not."""
    xor = (_ONES, _ZEROS)
    found = [_popc()]
    if version < (8, 0):
        found += [
            _tile("xor.popc, mma.sync m8n8k128", "mma_xor", B1, (8, 8, 128), xor),
            _tile("fp16, mma.sync m16n8k8", "mma_half", FP16, (16, 8, 8), (_HALF_ONES, _HALF_ONES)),
        ]
    else:
        found += [
            _tile("xor.popc, mma.sync m16n8k256", "mma_xor", B1, (16, 8, 256), xor),
            _tile("and.popc, mma.sync m16n8k256", "mma_and", B1, (16, 8, 256), (_ONES, _ONES)),
            _tile("fp16, mma.sync m16n8k16", "mma_half", FP16, (16, 8, 16), (_HALF_ONES, _HALF_ONES)),
        ]
    if version == (9, 0):
        found += [
            _group("and.popc, wgmma m64n256k256", "wgmma_and", B1, 256, (_ONES, _ONES)),
            _group("fp16, wgmma m64n256k16", "wgmma_half", FP16, 16, (_HALF_ONES, _HALF_ONES)),
        ]
    return found


def _popc() -> Instruction:
    return Instruction("xor, popc in registers", "popc", B1, BLOCK, BLOCK * TILES * 32, (_ONES, _ZEROS))


def _tile(name: str, kernel: str, kind: str, shape: tuple[int, int, int], ones: tuple[int, int]) -> Instruction:
    return Instruction(name, kernel, kind, BLOCK, BLOCK // WARP * TILES * int(np.prod(shape)), ones)


def _group(name: str, kernel: str, kind: str, depth: int, ones: tuple[int, int]) -> Instruction:
    return Instruction(name, kernel, kind, GROUP_BLOCK, GROUP * 64 * 256 * depth, ones)


def measure(
    driver: Driver,
    gpu: Gpu,
    rounds: int = ROUNDS,
    launch: float = LAUNCH,
    copy_sizes: Sequence[int] = COPY_SIZES,
) -> Ceilings:
    """Measure a GPU; takes some ten seconds.

    launch : seconds of a launch, at most. copy_sizes : in MB.

    Raises DeviceError where a kernel does not compute what it is to be timed for.
    """
    module = driver.module(cubin.compiled(SOURCE.read_text(), code_arch(gpu, driver.version)).code)
    known = {instruction.name: instruction for instruction in instructions(driver.version)}
    turns: dict[str, Callable[[], Seconds]] = {}
    tried: dict[str, tuple[str, int]] = {}
    for instruction in known.values():
        _check(driver, module, instruction)
        for blocks in BLOCKS:
            label = f"{instruction.name}, {blocks}"
            tried[label] = instruction.name, blocks
            turns[label] = _seconds_of_a_step(driver, module, instruction, blocks, launch)
    steps = _in_turns(turns, rounds)
    products: dict[str, Rate] = {}
    for label, timing in steps.items():
        name, blocks = tried[label]
        macs = known[name].macs * blocks * driver.multiprocessors
        _keep_faster(products, name, Rate(macs / timing.median, timing.spread, blocks))
    return Ceilings(
        {name: rate for name, rate in products.items() if known[name].kind == B1},
        {name: rate for name, rate in products.items() if known[name].kind == FP16},
        {size * MB: _copying(driver, module, size * MB, rounds) for size in copy_sizes},
    )


def _in_turns(turns: Mapping[str, Callable[[], Seconds]], rounds: int) -> dict[str, Timing]:
    # what is launched is waited for: there is nothing to settle
    return interleave(turns, rounds, settle=lambda: None)


def _keep_faster(rates: dict[Any, Rate], key: Any, rate: Rate) -> None:
    if key not in rates or rate.per_s > rates[key].per_s:
        rates[key] = rate


def _check(driver: Driver, module: ctypes.c_void_p, instruction: Instruction) -> None:
    """One step on ones, by every multiprocessor."""
    blocks = driver.multiprocessors
    left, right = (driver.buffer(4 * WORDS).upload(np.full(WORDS, word, np.uint32)) for word in instruction.ones)
    out = driver.buffer(4 * blocks * instruction.threads).upload(np.zeros(blocks * instruction.threads, np.uint32))
    run = driver.kernel(module, instruction.kernel)
    run(blocks, instruction.threads, left, right, out, ctypes.c_int(1))
    driver.wait()
    found, expected = int(out.download().sum(dtype=np.int64)), blocks * instruction.macs
    if found != expected:
        raise DeviceError(f"{instruction.name} counted {found} products on the GPU where there are {expected}")


def _seconds_of_a_step(
    driver: Driver, module: ctypes.c_void_p, instruction: Instruction, blocks: int, launch: float
) -> Callable[[], Seconds]:
    """A turn: one launch on random operands that takes about `launch` seconds."""
    rng = np.random.default_rng(0)
    if instruction.kind == B1:
        operands = [rng.integers(0, 2**32, WORDS, np.uint32) for _ in range(2)]
    else:
        operands = [rng.standard_normal(2 * WORDS).astype(np.float16).view(np.uint32) for _ in range(2)]
    left, right = (driver.buffer(4 * WORDS).upload(operand) for operand in operands)
    grid = blocks * driver.multiprocessors, instruction.threads
    out = driver.buffer(4 * grid[0] * grid[1])
    kernel = driver.kernel(module, instruction.kernel)

    def run(steps: int) -> Seconds:
        count = ctypes.c_int(steps)
        return driver.seconds(lambda: kernel(*grid, left, right, out, count))

    run(FIRST_STEPS)
    steps = max(FIRST_STEPS, int(FIRST_STEPS * launch / max(run(FIRST_STEPS), 1e-9)))
    return lambda: Seconds(run(steps) / steps)


def _copying(driver: Driver, module: ctypes.c_void_p, size: int, rounds: int) -> Rate:
    """Bytes read plus written per second; short copies are launched together."""
    array = np.random.default_rng(0).integers(0, 2**32, size // 4, np.uint32)
    source, result = driver.buffer(size).upload(array), driver.buffer(size)
    kernel, count = driver.kernel(module, "copy"), ctypes.c_int(size // 16)
    kernel(driver.multiprocessors, BLOCK, source, result, count)
    driver.wait()
    if not np.array_equal(result.download(), array):
        raise DeviceError(f"a copy of {size // MB} MB is not what was copied on the GPU")
    copies = max(1, min(MOST_COPIES, COPIED_PER_SIZE // size))

    def together(blocks: int, stream: int) -> None:
        for _ in range(copies):
            kernel(blocks * driver.multiprocessors, BLOCK, source, result, count, stream=stream)

    graphs = {str(blocks): driver.graph(partial(together, blocks)) for blocks in COPY_BLOCKS}
    turns = {name: partial(driver.seconds, graph) for name, graph in graphs.items()}
    rates: dict[int, Rate] = {}
    for blocks, timing in _in_turns(turns, rounds).items():
        _keep_faster(rates, size, Rate(2 * size * copies / timing.median, timing.spread, int(blocks)))
    return rates[size]
