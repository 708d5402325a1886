"""Targets are data: every fact about a processor that the compiler uses is a row of a table in this file.

A target is written `"llvm"` (this machine), `"llvm -mcpu=cortex-a72"`, `"llvm -mtriple=... -mcpu=... -mattr=+x,-y"`,
as JSON, or as a tag such as `"raspberry-pi/4"`. `resolve` turns any of them into one frozen `Target`. Which
instructions a processor has comes from LLVM's own table, so that every processor LLVM knows is a target; a new
board is a row of `BOARDS`, a new family of schedules is a row of `ISAS`. NVIDIA GPUs, `"cuda -arch=sm_90"`, have a
table of their own in `tvm_bnn.gpus`.

TVM is imported only where LLVM is asked: a machine that merely runs artifacts needs no compiler.
"""

from __future__ import annotations

import ctypes
import difflib
import functools
import json
import os
import platform
import re
import shlex
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tvm_bnn.errors import ArtifactError, TargetError
from tvm_bnn.gpus import MOST_THREADS, WARP, Gpu, check_gpu_here, gpu_of, version_here

KINDS = LLVM, CUDA = "llvm", "cuda"
OPTIONS = ("mcpu", "mtriple", "mattr", "num-cores", "bits")
# Of a GPU: its architecture, and the triple of the machine that it is in.
GPU_OPTIONS = ("arch", "mtriple")
# Values of the option "bits": what a processor with a matrix unit does with them.
BITS = TILES, COUNTS = "tiles", "counts"
# Words of TVM's that only choose among TVM's own schedules.
IGNORED_OPTIONS = ("keys", "device", "model", "tag", "libs", "host")
GPU_LIMITS = (
    "max_num_threads", "max_threads_per_block", "max_shared_memory_per_block", "registers_per_block",
    "thread_warp_size", "l2_cache_size_bytes",
)  # fmt: skip
# What kernels are compiled with. Their vectors are those of their schedules; LLVM's own, of scalars that look alike,
# take masks of bits one by one where a processor joins two in one instruction, and load pixels lane by lane.
LLVM_OPTIONS = ("-vectorize-slp:bool=0",)
# Threads of a foreign board that has no row in BOARDS.
FOREIGN_THREADS = 4
ACCEPTED = (
    '"llvm" (this machine), "llvm -mcpu=NAME", "llvm -mtriple=T -mcpu=NAME -mattr=+x,-y", '
    'JSON such as {"kind": "llvm", "mcpu": "znver4"}, a tag such as "raspberry-pi/4", or "cuda -arch=sm_90"'
)


@dataclass(frozen=True)
class Arch:
    """One instruction set architecture, as LLVM, uname and /proc/cpuinfo spell it.

    `flags` maps LLVM's names of the features that generated code may use to those of /proc/cpuinfo. Features that
    code generation never uses by itself are left out on purpose: LLVM's cortex-a72 has AES and SHA-2, the one of
    a Raspberry Pi 4 has not, and an artifact must not be refused for it.
    """

    name: str
    triple: str
    machines: tuple[str, ...]
    default_cpu: str
    flags: Mapping[str, str]


_X86_FLAGS = {
    "sse3": "pni",
    "ssse3": "ssse3",
    "sse4.1": "sse4_1",
    "sse4.2": "sse4_2",
    "popcnt": "popcnt",
    "movbe": "movbe",
    "lzcnt": "abm",
    "bmi": "bmi1",
    "bmi2": "bmi2",
    "f16c": "f16c",
    "fma": "fma",
    "avx": "avx",
    "avx2": "avx2",
    "avxvnni": "avx_vnni",
    "gfni": "gfni",
    "avx512f": "avx512f",
    "avx512bw": "avx512bw",
    "avx512cd": "avx512cd",
    "avx512dq": "avx512dq",
    "avx512vl": "avx512vl",
    "avx512ifma": "avx512ifma",
    "avx512vbmi": "avx512vbmi",
    "avx512vbmi2": "avx512_vbmi2",
    "avx512vnni": "avx512_vnni",
    "avx512bitalg": "avx512_bitalg",
    "avx512vpopcntdq": "avx512_vpopcntdq",
    "avx512bf16": "avx512_bf16",
    "avx512fp16": "avx512_fp16",
    "amx-tile": "amx_tile",
    "amx-int8": "amx_int8",
    "amx-bf16": "amx_bf16",
}
_AARCH64_FLAGS = {
    "fp-armv8": "fp",
    "neon": "asimd",
    "dotprod": "asimddp",
    "fullfp16": "asimdhp",
    "rdm": "asimdrdm",
    "lse": "atomics",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
    "sve2": "sve2",
}

# Where a processor name exists in several architectures, the first row wins. An architecture without a row is refused:
# LLVM ends the whole program over some of them (RISC-V's code generator does over networks of the usual size).
ARCHES = (
    Arch("x86_64", "x86_64-linux-gnu", ("x86_64", "amd64"), "x86-64", _X86_FLAGS),
    Arch("aarch64", "aarch64-linux-gnu", ("aarch64", "arm64"), "generic", _AARCH64_FLAGS),
    Arch("arm", "armv7l-linux-gnueabihf", ("armv7l", "armv6l", "armv8l", "arm"), "generic", {"neon": "neon"}),
)


@dataclass(frozen=True)
class Isa:
    """One family of schedules: the features that it needs, and what its registers hold.

    `lanes32` is the vector width in 32-bit lanes that schedules block by; `popcount` names how bits are counted, and
    `matrix` the unit that multiplies tiles of bytes, if there is one.
    """

    name: str
    arch: str
    needs: frozenset[str]
    vector_bits: int
    lanes32: int
    registers: int
    popcount: str
    matrix: str = ""


_AVX512 = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq"})

# The first row whose needs are met wins: the specific before the fallback.
ISAS = (
    Isa("amx", "x86_64", _AVX512 | {"avx512vpopcntdq", "amx-int8"}, 512, 16, 32, "vpopcntdq", "amx"),
    Isa("avx512", "x86_64", _AVX512 | {"avx512vpopcntdq"}, 512, 16, 32, "vpopcntdq"),
    Isa("avx512", "x86_64", _AVX512, 512, 16, 32, "nibble"),
    Isa("avx2", "x86_64", frozenset({"avx2", "fma"}), 256, 8, 16, "nibble"),
    Isa("neon", "aarch64", frozenset({"neon"}), 128, 4, 32, "cnt"),
    Isa("neon", "arm", frozenset({"neon"}), 128, 4, 16, "cnt"),
    # 8 lanes are two 128-bit registers on what is common, and LLVM splits them further where it must
    Isa("generic", "", frozenset(), 128, 8, 16, "scalar"),
)


@dataclass(frozen=True)
class Board:
    """What LLVM's table does not say of a processor: its usual number of cores, and whether it runs code as written."""

    cpu: str
    cores: int
    in_order: bool = False


BOARDS = (
    Board("cortex-a7", 4, in_order=True),
    Board("cortex-a53", 4, in_order=True),
    Board("cortex-a55", 4, in_order=True),
    Board("cortex-a57", 4),
    Board("cortex-a72", 4),
    Board("cortex-a73", 4),
    Board("cortex-a76", 4),
    Board("cortex-a78", 8),
    Board("neoverse-n1", 4),
    Board("neoverse-v1", 4),
    Board("neoverse-n2", 4),
    Board("neoverse-v2", 4),
    Board("apple-m1", 8),
    Board("apple-m2", 8),
    Board("apple-m3", 8),
    Board("apple-m4", 10),
)

# Names that LLVM's code generator accepts and its list leaves out.
CPU_ALIASES = {"apple-m1": "apple-a14", "apple-m2": "apple-a15", "apple-m3": "apple-a16"}

# Our own tags; TVM's tags are looked up after them.
TAGS = {
    "raspberry-pi/3": "llvm -mcpu=cortex-a53 -num-cores=4",
    "raspberry-pi/zero2": "llvm -mcpu=cortex-a53 -num-cores=4",
    "raspberry-pi/4": "llvm -mcpu=cortex-a72 -num-cores=4",
    "raspberry-pi/5": "llvm -mcpu=cortex-a76 -num-cores=4",
}


@dataclass(frozen=True)
class Target:
    """One processor to compile for; made by `resolve`.

    name: short text for file names and tuning logs, such as "znver4", "cortex-a72" or "cuda-sm_90".
    isa: "amx", "avx512", "avx2", "neon" or "generic": which schedules fit.
    triple, cpu, mattr: what LLVM is told; mattr holds only what differs from the processor's own features.
    features: every feature in force, as ("+avx2", ...), sorted.
    required_features: the names in /proc/cpuinfo without which the code must not run.
    vector_bits, lanes32, registers, popcount, matrix: see `Isa`.
    multiplies_bits: whether bits go to the matrix unit as bytes of +1 and -1, rather than being counted; the option
    "bits" decides it, which is "tiles" or "counts".
    threads: how many threads the artifact uses by default.
    native: whether this machine can run the code.
    gpu: the GPU that kernels run on; what is said of the processor is then of the code that starts them, but for
    lanes32 (a warp's threads), registers (a thread's) and popcount.
    in_order: whether the processor takes instructions in their order, so that a load takes time of its own.
    """

    name: str
    isa: str
    triple: str
    cpu: str
    mattr: tuple[str, ...]
    features: tuple[str, ...]
    required_features: tuple[str, ...]
    vector_bits: int
    lanes32: int
    registers: int
    popcount: str
    matrix: str
    multiplies_bits: bool
    threads: int
    native: bool
    in_order: bool = False
    gpu: Gpu | None = None

    @property
    def arch(self) -> str:
        """Architecture of the triple, in LLVM's spelling ("x86_64", "aarch64", "arm", ...)."""
        return arch_of(self.triple)

    def has(self, feature: str) -> bool:
        """Whether LLVM may use `feature` (its name in LLVM, such as "avx512bitalg")."""
        return f"+{feature}" in self.features

    @property
    def fuses(self) -> bool:
        """Whether it has an instruction for a * b + c of floats, rounded once, which LLVM takes."""
        return self.arch == "aarch64" or self.has("fma")

    def config(self) -> dict[str, Any]:
        """The target as the dictionary that TVM accepts."""
        config: dict[str, Any] = {
            "kind": "llvm",
            "mtriple": self.triple,
            "mcpu": self.cpu,
            "num-cores": self.threads,
        }
        if self.mattr:
            config["mattr"] = list(self.mattr)
        if self.gpu is None:
            return config
        return {
            "kind": CUDA,
            "arch": self.gpu.arch,
            "max_threads_per_block": MOST_THREADS,
            "thread_warp_size": WARP,
            "max_shared_memory_per_block": self.gpu.shared_memory,
            "host": config,
        }

    def text(self) -> str:
        """The target as one line for `--target`, with which another machine compiles for this one."""
        if self.gpu is not None:
            return f"{CUDA} -arch={self.gpu.arch} -mtriple={self.triple}"
        mattr = f" -mattr={','.join(self.mattr)}" if self.mattr else ""
        bits = f" -bits={COUNTS}" if self.matrix and not self.multiplies_bits else ""
        return f"llvm -mtriple={self.triple} -mcpu={self.cpu}{mattr}{bits} -num-cores={self.threads}"

    def tvm(self) -> Any:
        """The `tvm.target.Target` to compile kernels with."""
        import tvm

        config = self.config()
        config.get("host", config)["cl-opt"] = list(LLVM_OPTIONS)
        return tvm.target.Target(config)

    def manifest(self) -> dict[str, Any]:
        """What an artifact records, and `check_runs_here` reads; "gpu" is there where kernels run on one."""
        gpu = {} if self.gpu is None else {"gpu": self.gpu.arch}
        return {
            "name": self.name,
            "isa": self.isa,
            "triple": self.triple,
            "cpu": self.cpu,
            "mattr": list(self.mattr),
            "required_features": list(self.required_features),
            "threads": self.threads,
            **gpu,
        }


def resolve(text: str, threads: int | None = None, gpu: bool = False) -> Target:
    """Turn the text of a target into a `Target`.

    text: see `ACCEPTED`; an LLVM name of a processor implies its architecture (Linux is assumed).
    threads: overrides the default, which is every CPU that this process may use if the target runs here, else the
    number of cores in `BOARDS`. Kernels of a GPU are launched by one thread whatever is asked.
    gpu: whether a GPU will do as well.

    Raises TargetError for text that is none of these, and for an unknown processor, triple, feature or option.
    """
    if threads is not None and threads < 1:
        raise TargetError(f"found {threads} threads; at least 1 is needed")
    options = _parse(text.strip())
    if "arch" in options:
        if not gpu:
            raise TargetError(f"found the GPU target {text!r} where only processors are taken so far")
        return _with_gpu(options)
    triple, cpu, mattr = _complete(options)
    _check_cpu(cpu, triple)
    _check_mattr(mattr, triple)
    mattr = _without_redundant(triple, cpu, mattr)
    features = _llvm_features(triple, cpu, mattr)
    arch = _arch_row(triple)
    required = tuple(sorted(flag for name, flag in arch.flags.items() if name in features))
    isa = _isa_row(triple, features)
    native = _runs_here(triple, required)
    if threads is None:
        threads = _threads(options.get("num-cores"), cpu, native)
    detected = not options.keys() & {"mcpu", "mtriple", "mattr"}
    in_tiles = _in_tiles(options.get("bits"), isa, detected)
    name = _name(triple, cpu, mattr)
    return Target(
        name=name if in_tiles or not isa.matrix else f"{name}-{COUNTS}",
        isa=isa.name,
        triple=triple,
        cpu=cpu,
        mattr=mattr,
        features=tuple(sorted(f"+{feature}" for feature in features)),
        required_features=required,
        vector_bits=isa.vector_bits,
        lanes32=isa.lanes32,
        registers=isa.registers,
        popcount=isa.popcount,
        matrix=isa.matrix,
        multiplies_bits=in_tiles,
        threads=threads,
        native=native,
        in_order=any(board.cpu == cpu and board.in_order for board in BOARDS),
    )


def host(threads: int | None = None) -> Target:
    """This machine as a target: LLVM's name for its processor, corrected by what /proc/cpuinfo really shows."""
    return resolve("llvm", threads)


def _with_gpu(options: Mapping[str, Any]) -> Target:
    """A machine with a GPU: any processor of its architecture will do, and one thread, since it only starts kernels."""
    gpu, found = gpu_of(options["arch"]), version_here()
    triple = options.get("mtriple") or _arch_row(f"{host_arch()}-linux-gnu").triple
    processor = resolve(f"{LLVM} -mtriple={triple}", 1)
    name = f"{CUDA}-{gpu.arch}"
    return replace(
        processor,
        name=name if arch_of(triple) == ARCHES[0].name else f"{name}-{arch_of(triple)}",
        isa=CUDA,
        vector_bits=WARP * 32,
        lanes32=WARP,
        registers=255,
        popcount="popc",
        native=processor.native and found is not None and gpu.runs_on(found),
        gpu=gpu,
    )


def available_cpus() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def arch_of(triple: str) -> str:
    """Architecture of an LLVM triple, in the spelling of LLVM's list of targets."""
    name = triple.split("-")[0].lower()
    if re.fullmatch(r"i[3-6]86", name):
        return "i386"
    if name.startswith("armv") or name == "arm":
        return "arm"
    return {"arm64": "aarch64", "amd64": "x86_64"}.get(name, name)


def check_runs_here(manifest_target: Mapping[str, Any]) -> None:
    """Check that this machine can run code made for `manifest_target` (the dictionary of `Target.manifest`).

    Raises ArtifactError that names the wrong architecture, the missing CPU features or GPU.
    """
    check_runs_on(manifest_target, host_arch(), platform.system(), host_flags())
    if "gpu" in manifest_target:
        check_gpu_here(manifest_target["gpu"])


def check_runs_on(
    manifest_target: Mapping[str, Any],
    arch: str,
    system: str,
    flags: Set[str],
    machine: str = "this machine",
    target: str = "llvm",
) -> None:
    """Check that a machine can run code made for `manifest_target` (the dictionary of `Target.manifest`).

    arch: its architecture, in LLVM's spelling. system: as uname tells. flags: see `host_flags`.
    machine: what it is called. target: what to compile for there.

    Raises ArtifactError that names the wrong architecture or the missing CPU features.
    """
    name, triple = manifest_target["name"], manifest_target["triple"]
    if arch_of(triple) != arch or "linux" not in triple:
        raise ArtifactError(
            f"the artifact was compiled for {name} ({triple}), {machine} is {arch} with {system}; "
            f'run it on such a machine, or compile it again with --target "{target}"'
        )
    missing = _missing_flags(manifest_target["required_features"], flags)
    if missing:
        raise ArtifactError(
            f"the artifact was compiled for {name}, and {machine} lacks {', '.join(missing)}; "
            f'compile it again with --target "{target}"'
        )


def host_arch() -> str:
    """Architecture of this machine, in LLVM's spelling."""
    return arch_of(platform.machine())


@functools.cache
def host_flags() -> frozenset[str]:
    """Features that this process may use, as /proc/cpuinfo names them; empty where there is no such file."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    found = re.search(r"^(?:flags|Features)[ \t]*:(.*)$", text, flags=re.MULTILINE)
    flags = frozenset(found.group(1).split()) if found else frozenset()
    if "amx_tile" in flags and not _tiles_permitted():
        return frozenset(flag for flag in flags if not flag.startswith("amx_"))
    return flags


def code_flags() -> frozenset[str]:
    """Those of `host_flags` that generated code may use."""
    return host_flags() & frozenset(_arch_row(f"{host_arch()}-linux-gnu").flags.values())


def _tiles_permitted() -> bool:
    """Ask Linux for the tile registers of AMX, which a process has only on request; True where it grants them."""
    arch_prctl, request_permission, tile_data = 158, 0x1023, 18  # of x86-64 and <asm/prctl.h>
    try:
        return bool(ctypes.CDLL(None).syscall(arch_prctl, request_permission, tile_data) == 0)
    except (OSError, AttributeError):
        return False


def _missing_flags(required: Iterable[str], flags: Set[str]) -> list[str]:
    return sorted(set(required) - flags) if flags else []


def _runs_here(triple: str, required: Iterable[str]) -> bool:
    return arch_of(triple) == host_arch() and "linux" in triple and not _missing_flags(required, host_flags())


# --- reading the text -------------------------------------------------------------------------------------------


def _parse(text: str) -> dict[str, Any]:
    """Options of the target: mcpu, mtriple, mattr (tuple), num-cores, bits, or of a GPU; only those that were given."""
    if text.startswith("{"):
        try:
            return _options(json.loads(text))
        except json.JSONDecodeError as error:
            raise TargetError(f"target {text!r} looks like JSON and is not: {error}") from None
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise TargetError(f"target {text!r} cannot be split into words: {error}") from None
    if not words:
        raise TargetError(f"the target is empty; accepted are {ACCEPTED}")
    if words[0] in TAGS:
        return _parse(TAGS[words[0]])
    if "/" in words[0] and len(words) == 1:
        return _tag(words[0])
    return _options({"kind": words[0], **dict(_split_option(word, text) for word in words[1:])})


def _split_option(word: str, text: str) -> tuple[str, str]:
    found = re.fullmatch(r"--?([a-z-]+)=(.+)", word)
    if not found:
        raise TargetError(f"{word!r} in target {text!r} is no option of the form -name=value; accepted are {ACCEPTED}")
    return found.group(1), found.group(2)


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    kind = config.get("kind")
    if kind not in KINDS:
        hint = f' (did you mean "llvm -mcpu={kind}"?)' if kind in _all_cpus() else _did_you_mean(str(kind), KINDS)
        raise TargetError(f"unknown target kind {kind!r}{hint}; accepted are {ACCEPTED}")
    options = _known(config, OPTIONS, ()) if kind == LLVM else _known(config, GPU_OPTIONS, GPU_LIMITS)
    if kind == CUDA and "arch" not in options:
        raise TargetError('a GPU target needs its architecture: try "cuda -arch=sm_90"')
    if "mattr" in options:
        given = options["mattr"].split(",") if isinstance(options["mattr"], str) else options["mattr"]
        options["mattr"] = tuple(str(item).strip() for item in given if str(item).strip())
    if "num-cores" in options:
        options["num-cores"] = _core_count(options["num-cores"])
    if options.get("bits", TILES) not in BITS:
        raise TargetError(f"target option 'bits' must be one of {', '.join(BITS)}, found {options['bits']!r}")
    for key in ("mcpu", "mtriple", "arch"):
        if key in options and not isinstance(options[key], str):
            raise TargetError(f"target option {key!r} must be text, found {options[key]!r}")
    return options


def _known(config: Mapping[str, Any], known: tuple[str, ...], ignored: tuple[str, ...]) -> dict[str, Any]:
    """The options of a target's kind that were given."""
    ignored = ("kind", *IGNORED_OPTIONS, *ignored)
    for key in config:
        if key not in known and key not in ignored:
            raise TargetError(f"unknown target option {key!r}{_did_you_mean(key, known)}; known: {', '.join(known)}")
    return {key: value for key, value in config.items() if key not in ignored}


def _core_count(value: Any) -> int:
    if not re.fullmatch(r"[1-9][0-9]*", str(value)):
        raise TargetError(f"target option 'num-cores' must be a whole number from 1 up, found {value!r}")
    return int(value)


def _tag(tag: str) -> dict[str, Any]:
    import tvm

    try:
        target = tvm.target.Target(tag)
    except ValueError:
        known = {*TAGS, *(str(name) for name in tvm.target.list_tags())}
        raise TargetError(f"unknown target tag {tag!r}{_did_you_mean(tag, known)}; accepted are {ACCEPTED}") from None
    given = {key: target.attrs[key] for key in (*OPTIONS, *GPU_OPTIONS) if key in target.attrs}
    return _options({"kind": target.kind.name, **given})


def _complete(options: dict[str, Any]) -> tuple[str, str, tuple[str, ...]]:
    """Triple, processor and mattr, each taken from the others or from this machine where it was not given."""
    triple, cpu, mattr = options.get("mtriple"), options.get("mcpu"), options.get("mattr", ())
    if triple is not None:
        return triple, cpu or _arch_row(triple).default_cpu, mattr
    if cpu in (None, "native"):
        triple, cpu, corrections = _detect()
        return triple, cpu, (*corrections, *mattr)
    # "generic" is a processor of every architecture: this machine's is meant
    arches = sorted(ARCHES, key=lambda arch: arch.name != host_arch()) if cpu == "generic" else ARCHES
    for arch in arches:
        if cpu in _cpus(arch.triple):
            return arch.triple, cpu, mattr
    raise TargetError(
        f"unknown processor {cpu!r}{_did_you_mean(cpu, _all_cpus())}; "
        f"accepted is any name that LLVM knows for {', '.join(arch.name for arch in ARCHES)}, "
        f'or "llvm" for this machine, or a name with its -mtriple'
    )


def _detect() -> tuple[str, str, tuple[str, ...]]:
    """This machine: triple, LLVM's name of its processor, and where /proc/cpuinfo disagrees with LLVM's table.

    A virtual machine may hide features of its processor, and a processor newer than LLVM is known to it by an
    older name: both are mended here.
    """
    from tvm.target import codegen

    arch = _arch_row(f"{host_arch()}-linux-gnu")
    cpu, flags = str(codegen.llvm_get_system_cpu()), host_flags()
    if cpu not in _cpus(arch.triple):
        cpu = arch.default_cpu
    if not flags:
        return arch.triple, cpu, ()
    known = _llvm_features(arch.triple, cpu, ())
    differing = [name for name, flag in arch.flags.items() if (flag in flags) != (name in known)]
    corrections = [f"-{name}" if name in known else f"+{name}" for name in differing]
    return arch.triple, cpu, tuple(sorted(corrections))


def _threads(num_cores: int | None, cpu: str, native: bool) -> int:
    if num_cores is not None:
        return num_cores
    if native:
        return available_cpus()
    return next((board.cores for board in BOARDS if board.cpu == cpu), FOREIGN_THREADS)


def _in_tiles(bits: str | None, isa: Isa, detected: bool) -> bool:
    """Whether bits are multiplied by a matrix unit: as asked, else where there is one that nobody else uses.

    The matrix unit of a core serves both of its threads, and while both are busy a thread's loads of tiles do not
    overlap its products: those of bits, which need many loads, then take three times as long, and counting bits 1.4
    times (docs/performance.md). In a virtual machine, the other thread may be another one's.
    """
    if bits == TILES and not isa.matrix:
        raise TargetError(f"found -bits={TILES}; this processor has no matrix unit: leave it out")
    if bits is not None:
        return bits == TILES
    return isa.matrix != "" and not (detected and "hypervisor" in host_flags())


def _name(triple: str, cpu: str, mattr: tuple[str, ...]) -> str:
    """Short and fit for a file name: the processor, with the architecture where it leaves that open, and with the
    schedules that it gets where features make them others than that processor's.

    A machine has one name, whether it is detected or described by its `text`.
    """
    arch = arch_of(triple)
    first = next((row.name for row in ARCHES if cpu in _cpus(row.triple)), arch)
    name = cpu if first == arch and cpu != "generic" else f"{cpu}-{arch}"
    if "linux" not in triple:
        name += f"-{triple.split('-', 1)[-1]}"
    isa, usual = (_isa_row(triple, _llvm_features(triple, cpu, features)) for features in (mattr, ()))
    if isa is not usual:
        name += f"-{isa.name}-{isa.popcount}"
    return re.sub(r"[^A-Za-z0-9_.+-]", "_", name)


# --- asking LLVM ------------------------------------------------------------------------------------------------


def _arch_row(triple: str) -> Arch:
    for arch in ARCHES:
        if arch.name == arch_of(triple):
            return arch
    found = triple.split("-")[0]
    raise TargetError(
        f"no code is made for the architecture {found!r} of {triple}"
        f"{_did_you_mean(found, (machine for arch in ARCHES for machine in arch.machines))}; "
        f"accepted are triples such as {', '.join(arch.triple for arch in ARCHES)}"
    )


def _isa_row(triple: str, features: frozenset[str]) -> Isa:
    return next(row for row in ISAS if row.arch in ("", arch_of(triple)) and row.needs <= features)


def _without_redundant(triple: str, cpu: str, mattr: tuple[str, ...]) -> tuple[str, ...]:
    """mattr less what the processor has anyway, so that equal targets have equal names."""
    for item in mattr:
        rest = tuple(other for other in mattr if other != item)
        if _llvm_features(triple, cpu, rest) == _llvm_features(triple, cpu, mattr):
            mattr = rest
    return mattr


def _llvm_target(**options: Any) -> Any:
    import tvm

    return tvm.target.Target({"kind": "llvm", **options})


@functools.cache
def _cpus(triple: str) -> frozenset[str]:
    """Every processor name that LLVM accepts for the triple."""
    from tvm.target import codegen

    names = {str(name) for name in codegen.llvm_get_cpu_archlist(_llvm_target(mtriple=triple))}
    return frozenset(names | {alias for alias, name in CPU_ALIASES.items() if name in names})


def _all_cpus() -> frozenset[str]:
    return frozenset().union(*(_cpus(arch.triple) for arch in ARCHES))


@functools.cache
def _llvm_features(triple: str, cpu: str, mattr: tuple[str, ...]) -> frozenset[str]:
    from tvm.target import codegen

    options: dict[str, Any] = {"mtriple": triple, "mcpu": cpu}
    if mattr:
        options["mattr"] = list(mattr)
    return frozenset(str(name) for name in codegen.llvm_get_cpu_features(_llvm_target(**options)))


def _check_cpu(cpu: str, triple: str) -> None:
    known = _cpus(triple)
    if cpu not in known:
        raise TargetError(
            f"unknown processor {cpu!r} for {triple}{_did_you_mean(cpu, known)}; LLVM knows {len(known)} names for it"
        )


def _check_mattr(mattr: tuple[str, ...], triple: str) -> None:
    if not mattr:
        return
    # LLVM's whole list of features is not exposed: every feature that some processor has stands for it
    known = frozenset().union(*(_llvm_features(triple, cpu, ()) for cpu in sorted(_cpus(triple))))
    for item in mattr:
        if item[:1] not in ("+", "-"):
            raise TargetError(f"found {item!r} in -mattr; every feature is written +name or -name")
        if item[1:] not in known:
            raise TargetError(f"unknown feature {item[1:]!r} for {triple}{_did_you_mean(item[1:], known)}")


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, sorted(known), n=3, cutoff=0.6)
    return f" (did you mean {', '.join(close)}?)" if close else ""
