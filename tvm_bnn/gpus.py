"""NVIDIA GPUs are rows of a table as well: what their tensor cores multiply, and what a block of threads may use.

A GPU is written `"cuda -arch=sm_90"`, as JSON, or as a tag of TVM's such as `"nvidia/geforce-rtx-3090"`;
`targets.resolve` makes it a `Target`, whose `gpu` is the row. Code is made for one architecture, as machine code
(a cubin), and runs on GPUs of the same major version and at least the minor one.

TVM is imported only where a GPU is looked for or used.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm_bnn.errors import ArtifactError, TargetError

#: Threads that execute together, and that exchange registers.
WARP = 32
#: Threads of a block, at most.
MOST_THREADS = 1024

#: Elements of a 32-bit word, by what PTX calls them.
_OF_WORD = {"b1": 32, "u8": 4, "s8": 4, "bf16": 2, "tf32": 1}


@dataclass(frozen=True)
class Product:
    """What a tensor core makes of two tiles of 32-bit words: sums over all of a row's elements.

    rows, columns : of the tile of sums. words : of a row of the operands, which are rows x words and columns x words.
    operands : "b1", bits; "s8", "bf16" or "tf32"; or "u8", where there is no product of bits: each is a byte then, 0 or
    1, and a product is several instructions.
    operation : of bits, whose ones are counted: "xor", or "and" where xor would be two of these; else "mul".
    """

    rows: int
    columns: int
    words: int
    operands: str
    operation: str = "mul"

    @property
    def of_bits(self) -> bool:
        """Whether words hold bits."""
        return self.operands in ("b1", "u8")

    @property
    def sums(self) -> str:
        """Dtype of the sums; of signed ones modulo 2**32, as TVM has them."""
        return "float32" if self.operands in ("bf16", "tf32") else "uint32"

    @property
    def shape(self) -> str:
        """Of an instruction, as PTX names it, such as "m16n8k256"."""
        words = _WORDS_OF_BYTES if self.operands == "u8" else self.words
        return f"m{self.rows}n{self.columns}k{words * _OF_WORD[self.operands]}"

    @property
    def instructions(self) -> int:
        """How many a product is."""
        return self.words * 32 // (_WORDS_OF_BYTES * 4) if self.operands == "u8" else 1


#: Of a row of bits as bytes, for one instruction.
_WORDS_OF_BYTES = 8


@dataclass(frozen=True)
class Gpu:
    """One architecture.

    arch : as nvcc names it. product : of bits, in one native instruction. others : products of numbers.
    called : an example of its products. multiprocessors : of the first of these.
    shared_memory : bytes that a block may use without asking for more.
    """

    arch: str
    product: Product
    others: tuple[Product, ...]
    called: str
    multiprocessors: int
    shared_memory: int = 48 << 10

    @property
    def version(self) -> tuple[int, int]:
        """Compute capability, major and minor."""
        digits = self.arch.removeprefix("sm_")
        return int(digits[:-1]), int(digits[-1])

    @property
    def copies_ahead(self) -> bool:
        """Whether threads need not wait for what they copy to shared memory (``cp.async``)."""
        return self.version >= (8, 0)

    def product_of(self, operands: str) -> Product | None:
        """The product of numbers that PTX names so; None where there is none."""
        return next((each for each in self.others if each.operands == operands), None)

    def runs_on(self, version: tuple[int, int]) -> bool:
        """Whether a GPU of a compute capability runs code for this one."""
        return version[0] == self.version[0] and version[1] >= self.version[1]


_AMPERE, _BLACKWELL = Product(16, 8, 8, "b1", "xor"), Product(16, 8, 4, "u8", "and")
_NUMBERS = tuple(Product(16, 8, 8, operands) for operands in ("s8", "bf16", "tf32"))
#: From ptxas 13.0 and the instructions that it makes: what is missing, it emulates by several.
GPUS = (
    Gpu("sm_75", Product(8, 8, 4, "b1", "xor"), (Product(8, 8, 4, "s8"),), "T4, GeForce RTX 20", 40),
    Gpu("sm_80", _AMPERE, _NUMBERS, "A100, A30", 108),
    Gpu("sm_86", _AMPERE, _NUMBERS, "A10, GeForce RTX 30", 72),
    Gpu("sm_89", _AMPERE, _NUMBERS, "L4, L40, GeForce RTX 40", 58),
    Gpu("sm_90", Product(16, 8, 8, "b1", "and"), _NUMBERS, "H100, H200", 132),
    Gpu("sm_100", _BLACKWELL, _NUMBERS, "B200", 148),
    Gpu("sm_120", _BLACKWELL, _NUMBERS, "GeForce RTX 50", 170),
)


def gpu_of(arch: str) -> Gpu:
    """The row of an architecture, "sm_90"; the suffix of "sm_90a" is dropped, since nothing here needs it.

    Raises TargetError for one without a row.
    """
    known = {gpu.arch: gpu for gpu in GPUS}
    plain = re.sub(r"(?<=[0-9])[af]$", "", arch)
    if plain not in known:
        close = difflib.get_close_matches(plain, known, n=1, cutoff=0.6)
        raise TargetError(
            f"no code is made for the GPU architecture {arch!r}{f' (did you mean {close[0]}?)' if close else ''}; "
            f"accepted are {', '.join(f'{gpu.arch} ({gpu.called})' for gpu in GPUS)}"
        )
    return known[plain]


def row_for(version: tuple[int, int]) -> Gpu | None:
    """The row whose code a GPU of a compute capability runs best; None where it runs none."""
    return max((gpu for gpu in GPUS if gpu.runs_on(version)), key=lambda gpu: gpu.version, default=None)


def device_of(gpu: Gpu | str | None, remote: Any = None) -> Any:
    """Where kernels run and their tensors are, as a device of TVM's: the first GPU, or the processor.

    gpu : that they were compiled for, None of a processor's. remote : the session of TVM's with the machine that they
    run on, by default this one.
    """
    import tvm

    machine = tvm if remote is None else remote
    return machine.cpu() if gpu is None else machine.cuda()


def check_no_gpu(manifest_target: Mapping[str, Any], wanted: str) -> None:
    """Check that an artifact's kernels run on a processor; wanted : what can only be done with those, "be packed".

    Raises ArtifactError where they run on a GPU.
    """
    if "gpu" in manifest_target:
        raise ArtifactError(
            f"the artifact was compiled for the GPU {manifest_target['gpu']}, and can {wanted} only for a processor so "
            'far; compile it again with --target "llvm -mcpu=NAME"'
        )


def version_here() -> tuple[int, int] | None:
    """Compute capability of this machine's first GPU; None where TVM finds none, or no driver."""
    import tvm

    device = tvm.cuda(0)
    if not device.exist:
        return None
    major, minor = str(device.compute_version).split(".")[:2]
    return int(major), int(minor)


def name_here() -> str:
    """What this machine's first GPU is called; there has to be one."""
    return str(device_of(GPUS[0]).device_name)


def lacking(arch: str, found: tuple[int, int] | None, machine: str = "this machine") -> str:
    """What code for an architecture needs that a machine lacks, "" where it runs there.

    found : compute capability of its first GPU, if it has one. machine : what it is called.
    """
    needed = gpu_of(arch)
    if found is not None and needed.runs_on(found):
        return ""
    major, minor = needed.version
    there = "no NVIDIA GPU with a driver" if found is None else f"one of compute capability {found[0]}.{found[1]}"
    return (
        f"needs an NVIDIA GPU of compute capability {major}.{minor} or a later {major}.x ({needed.called}), and "
        f"{machine} has {there}"
    )


def check_gpu_here(arch: str) -> None:
    """Check that this machine's first GPU runs code for an architecture.

    Raises ArtifactError that says what is needed, and what was found.
    """
    found = version_here()
    if lacks := lacking(arch, found):
        again = "llvm" if found is None else f"cuda -arch=sm_{found[0]}{found[1]}"
        raise ArtifactError(
            f"the artifact was compiled for {arch}: it {lacks}; run it on one, or compile it again with "
            f'--target "{again}"'
        )
