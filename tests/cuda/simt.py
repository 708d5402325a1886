"""Threads of a GPU, run by numpy: a kernel exactly as nvcc gets it from TVM, for all threads of a launch at once.

Every expression is an array with an element a thread, every statement is executed by all threads that come to it
before any goes on to the next. That hides what is wrong between threads, so it is looked for: an element of memory that
one thread has written, and another reads or writes before a barrier (in memory that blocks share: before the launch
ends), is an error, and so is an index outside of a buffer. What threads of a warp exchange is executed as the PTX
manual defines it, lane by lane.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import tvm
from tvm import ir, tirx
from tvm.ir.instrument import pass_instrument
from tvm.tirx.compilation_pipeline import get_tir_pipeline

from tests.cuda import warps
from tvm_bnn import arithmetic
from tvm_bnn.cubin import COPIES
from tvm_bnn.gpus import WARP
from tvm_bnn.schedules.apply import BUILD_CONFIG
from tvm_bnn.schedules.registers import PIPELINE

_NOBODY, _MANY, _ON_THE_WAY = -1, -2, -3
_ACTIVE = "cuda.__activemask"
#: Functions of copies -> how many words they copy.
_SIZES = {name: size // 4 for size, name in COPIES.items()}
#: Axes of a launch, the one whose neighbours are neighbouring threads last.
_AXES = ("blockIdx.z", "blockIdx.y", "blockIdx.x", "threadIdx.z", "threadIdx.y", "threadIdx.x")


@pass_instrument
class _BeforeSplit:
    """Keeps the module as it is where TVM cuts kernels into what the host does and what the GPU does."""

    def __init__(self, kept: list[tvm.IRModule]) -> None:
        self.kept = kept

    def run_before_pass(self, module, info):
        if info.name == "tirx.SplitHostDevice":
            self.kept.append(module)


def lowered(func: tirx.PrimFunc, target) -> tvm.IRModule:
    """A scheduled kernel behind TVM's passes: ``main`` calls what is launched, one after the other."""
    passes, _, device = get_tir_pipeline(PIPELINE)
    kept: list[tvm.IRModule] = []
    with tvm.transform.PassContext(config=BUILD_CONFIG, instruments=[_BeforeSplit(kept)]):
        passes(tirx.transform.BindTarget(target.tvm())(tvm.IRModule({"main": func.with_attr("global_symbol", "main")})))
    return device()(kept[0])


@dataclass
class Memory:
    """A buffer: data [owners, elements], and who touched each element last since the last barrier.

    owners : one for memory of the GPU, one a block for shared memory, one a thread for registers.
    """

    name: str
    scope: str
    data: np.ndarray
    writer: np.ndarray = field(init=False)
    reader: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """A barrier: what was touched before is safe."""
        self.writer = np.full(self.data.shape, _NOBODY, np.int64)
        self.reader = np.full(self.data.shape, _NOBODY, np.int64)


class _Copy(NamedTuple):
    """An element of each of some threads, on its way to shared memory."""

    memory: Memory
    at: tuple[np.ndarray, np.ndarray]
    who: np.ndarray
    value: np.ndarray


class Fault(AssertionError):
    """Threads that race, or an index outside of a buffer."""


def run(func: tirx.PrimFunc, target, arguments: list[np.ndarray]) -> list[np.ndarray]:
    """What the buffers of a scheduled kernel hold behind it; arguments are not written to."""
    made = lowered(func, target)
    held = [np.array(each) for each in arguments]
    memory = {
        buffer: Memory(buffer.name, "global", data.reshape(1, -1))
        for buffer, data in zip(made["main"].params, held, strict=True)
    }
    _Host(made, memory).execute(made["main"].body)
    return held


class _Host:
    """Allocates memory of the GPU, and launches kernels."""

    def __init__(self, module: tvm.IRModule, memory: dict) -> None:
        self.module, self.memory = module, memory

    def execute(self, stmt) -> None:
        """Execute a statement of the host's."""
        if isinstance(stmt, tirx.SeqStmt):
            for part in stmt.seq:
                self.execute(part)
        elif isinstance(stmt, tirx.AttrStmt):
            self.execute(stmt.body)
        elif isinstance(stmt, tirx.AllocBuffer):
            self.memory[stmt.buffer] = allocated(stmt.buffer, 1)
        elif isinstance(stmt, tirx.DeclBuffer):
            self.memory[stmt.buffer] = self.memory[_owner(stmt.data)]
        else:
            assert isinstance(stmt, tirx.Evaluate) and isinstance(stmt.value.op, ir.GlobalVar), stmt
            self.launch(self.module[stmt.value.op], [self.memory[_owner(each)] for each in stmt.value.args])

    def launch(self, kernel: tirx.PrimFunc, memory: list[Memory]) -> None:
        """Launch a kernel, and wait for it."""
        for each in memory:
            each.forget()
        extents = dict(_extents(kernel.body))
        _Threads(dict(zip(kernel.params, memory, strict=True)), extents).execute(kernel.body)


def _owner(data) -> object:
    """The buffer, or parameter, whose memory an expression points to."""
    return data.args[0] if isinstance(data, ir.Call) else data


def allocated(buffer, owners: int) -> Memory:
    """Memory that nobody has written to."""
    dtype = str(buffer.dtype)
    garbage = np.full((owners, math.prod(int(extent) for extent in buffer.shape)), 0x7B).astype(dtype)
    return Memory(buffer.name, str(buffer.scope()), garbage)


class _Threads:
    """Executes statements for all threads of a launch."""

    def __init__(self, memory: dict, extents: dict[str, int]) -> None:
        self.memory = memory
        self.values: dict[tirx.Var, np.ndarray] = {}
        sizes = [extents.get(axis, 1) for axis in _AXES]
        self.count = math.prod(sizes)
        self.of_block = math.prod(sizes[3:])
        self.mask = np.ones(self.count, bool)
        self.number = np.arange(self.count)
        self.place = dict(zip(_AXES, np.unravel_index(self.number, sizes), strict=True))
        self.lane = 0  # of a vector: its elements are computed one after the other
        self.copies: list[list[_Copy]] = [[]]  # that nobody has waited for; the last group is still open

    # --- statements ---------------------------------------------------------------------------------------------

    def execute(self, stmt) -> None:
        if self.mask.any():
            getattr(self, f"_{type(stmt).__name__}")(stmt)

    def _SeqStmt(self, stmt) -> None:
        for part in stmt.seq:
            self.execute(part)

    def _AttrStmt(self, stmt) -> None:
        if stmt.attr_key == "thread_extent":
            self.values[stmt.node.var] = self.place[str(stmt.node.thread_tag)].astype(np.int64)
        if stmt.attr_key == "async_wait_inflight_count":
            self._wait(int(stmt.value))
        self.execute(stmt.body)
        if stmt.attr_key == "async_commit_queue_scope":
            self.copies.append([])

    def _For(self, stmt) -> None:
        first, extent = (np.broadcast_to(self.value(each), self.count) for each in (stmt.min, stmt.extent))
        outer = self.mask
        for step in range(int(extent[outer].max())):
            self.mask = outer & (step < extent)
            self.values[stmt.loop_var] = first + step
            self.execute(stmt.body)
        self.mask = outer

    def _IfThenElse(self, stmt) -> None:
        outer, condition = self.mask, np.broadcast_to(self.value(stmt.condition), self.count)
        self.mask = outer & condition
        self.execute(stmt.then_case)
        if stmt.else_case is not None:
            self.mask = outer & ~condition
            self.execute(stmt.else_case)
        self.mask = outer

    def _AllocBuffer(self, stmt) -> None:
        owners = {"local": self.count, "shared": self.count // self.of_block}[str(stmt.buffer.scope())]
        self.memory[stmt.buffer] = allocated(stmt.buffer, owners)

    def _DeclBuffer(self, stmt) -> None:
        self.memory[stmt.buffer] = self.memory[_owner(stmt.data)]

    def _Bind(self, stmt) -> None:
        self.values[stmt.var] = self.value(stmt.value)

    def _BufferStore(self, stmt) -> None:
        for self.lane in range(_lanes(stmt)):
            self._store(stmt)
        self.lane = 0

    def _store(self, stmt) -> None:
        """Store an element a thread, of those that it stores at once."""
        memory, owner, index = self._element(stmt.buffer, stmt.indices)
        value = np.broadcast_to(self.value(stmt.value), self.count)
        at = owner[self.mask], index[self.mask]
        self._claim(memory, at, stmt)
        memory.data[at] = _bits(value[self.mask].astype(str(stmt.buffer.dtype)), memory.data.dtype)

    def _claim(self, memory: Memory, at: tuple[np.ndarray, np.ndarray], stmt) -> None:
        """Note that threads write elements that nobody else has touched."""
        who = self.number[self.mask]
        if memory.scope != "local":
            for touched in (memory.writer[at], memory.reader[at]):
                if ((touched != _NOBODY) & (touched != who)).any():
                    raise Fault(f"threads race for {memory.name}: {stmt}")
            memory.writer[at] = who
            if (memory.writer[at] != who).any():
                raise Fault(f"threads write the same elements of {memory.name}: {stmt}")

    def _copy(self, stmt, to: tuple[Memory, np.ndarray], source: tuple[Memory, np.ndarray], count: int, there) -> None:
        """Begin to copy neighbours to shared memory: until it is waited for, nobody may touch them."""
        there = np.broadcast_to(there, self.count)[self.mask]
        if (to[1][self.mask] % count).any() or (source[1][self.mask] % count).any():
            raise Fault(f"copies of {count} words, and not at a multiple of so many: {stmt}")
        for offset in range(count):
            (memory, index), (read, first) = to, source
            at = (self.number // self.of_block)[self.mask], index[self.mask] + offset
            self._claim(memory, at, stmt)
            taken = read.data[0, np.where(there, first[self.mask] + offset, 0)]
            memory.writer[at] = _ON_THE_WAY
            value = _bits(np.where(there, taken, taken.dtype.type(0)), memory.data.dtype)
            self.copies[-1].append(_Copy(memory, at, self.number[self.mask], value))

    def _wait(self, left: int) -> None:
        """Wait for all groups of copies but so many: each thread then has what it has copied itself."""
        for group in self.copies[: max(len(self.copies) - 1 - left, 0)]:
            for copy in group:
                copy.memory.data[copy.at], copy.memory.writer[copy.at] = copy.value, copy.who
            group.clear()

    def _Evaluate(self, stmt) -> None:
        self.value(stmt.value)

    def _element(self, buffer, indices) -> tuple[Memory, np.ndarray, np.ndarray]:
        """Memory, whose it is for each thread, and the element in it."""
        memory = self.memory[buffer]
        index = np.zeros(self.count, np.int64)
        for extent, place in zip(buffer.shape, indices, strict=False):
            index = index * int(extent) + self.value(place)
        run = int(indices[-1].lanes) if isinstance(indices[-1], tirx.Ramp) else 1
        if (self.mask & ((index - self.lane) % run != 0)).any():
            raise Fault(f"several elements of {memory.name} at once, and not at a multiple of so many")
        outside = self.mask & ((index < 0) | (index >= memory.data.shape[1]))
        if outside.any():
            raise Fault(f"{memory.name}[{index[outside][0]}] is outside of its {memory.data.shape[1]} elements")
        owner = {"local": self.number, "shared": self.number // self.of_block}.get(memory.scope, self.number * 0)
        return memory, owner, np.where(self.mask, index, 0)

    # --- expressions --------------------------------------------------------------------------------------------

    def value(self, expr) -> np.ndarray:
        """An element a thread, or a single number for all."""
        with np.errstate(all="ignore"):
            return getattr(self, f"_{type(expr).__name__}")(expr)

    def _Var(self, expr):
        return self.values[expr]

    def _IntImm(self, expr):
        return np.array(int(expr.value)).astype(str(expr.ty.dtype))

    def _FloatImm(self, expr):
        return np.array(float(expr.value)).astype(str(expr.ty.dtype))

    def _Ramp(self, expr):
        return self.value(expr.base) + self.lane * self.value(expr.stride)

    def _Broadcast(self, expr):
        return self.value(expr.value)

    def _Cast(self, expr):
        return self.value(expr.value).astype(str(expr.ty.dtype))

    def _Not(self, expr):
        return ~self.value(expr.a)

    _BitwiseNot = _Not

    def _Select(self, expr):
        return np.where(*map(self.value, (expr.condition, expr.true_value, expr.false_value)))

    def _Let(self, expr):
        self.values[expr.var] = self.value(expr.value)
        return self.value(expr.body)

    def _TensorLoad(self, expr):
        memory, owner, index = self._element(expr.source, expr.indices)
        if memory.scope != "local":
            at, who = (owner[self.mask], index[self.mask]), self.number[self.mask]
            writer = memory.writer[at]
            if ((writer != _NOBODY) & (writer != who)).any():
                raise Fault(f"threads read of {memory.name} what others write: {expr}")
            before = memory.reader[at]
            memory.reader[at] = np.where((before == _NOBODY) | (before == who), who, _MANY)
            memory.reader[at] = np.where(memory.reader[at] == who, memory.reader[at], _MANY)
        return _bits(memory.data[owner, index], np.dtype(str(expr.source.dtype)))

    def _Call(self, expr):
        name, arguments = expr.op.name.removeprefix("tirx.").removeprefix("prim."), list(expr.args)
        if name == "if_then_else":
            return self._chosen(*arguments)
        if name in ("call_pure_extern", "call_extern"):
            name, arguments = str(arguments[0].value), arguments[1:]
        if name == "tvm_storage_sync":
            return self._barrier()
        if name in _SIZES:
            to, source, there = arguments
            self._copy(expr, self._address(to), self._address(source), _SIZES[name], self.value(there))
            return np.array(0)
        if name in warps.MOVES or name == _ACTIVE or name.startswith("ptx"):
            return self._exchange(name, arguments)
        return FUNCTIONS[name](expr, *map(self.value, arguments))

    def _address(self, expr) -> tuple[Memory, np.ndarray]:
        """Memory, and the element there that an address means."""
        (load,) = expr.args
        (index,) = load.indices
        return self.memory[load.source], np.broadcast_to(self.value(index), self.count)

    def _chosen(self, condition, yes, no):
        """Each branch is computed by those threads that take it."""
        outer, taken = self.mask, np.broadcast_to(self.value(condition), self.count)
        self.mask = outer & taken
        first = self.value(yes)
        self.mask = outer & ~taken
        second = self.value(no)
        self.mask = outer
        return np.where(taken, first, second)

    def _barrier(self):
        if not self.mask.all():
            raise Fault("some threads do not come to a barrier")
        for memory in self.memory.values():
            if memory.scope == "shared":
                memory.forget()
        for copy in (copy for group in self.copies for copy in group):
            copy.memory.writer[copy.at] = _ON_THE_WAY
        return np.array(0)

    def _exchange(self, name: str, arguments):
        """What the threads of a warp do together: all of them, or none."""
        lanes = self.mask.reshape(-1, WARP)
        if self.of_block % WARP or (lanes.any(axis=1) != lanes.all(axis=1)).any():
            raise Fault(f"{name} by a part of a warp")
        if name == _ACTIVE:
            return np.full(self.count, 0xFFFFFFFF, np.uint32)
        if name in warps.MOVES:
            values = [np.broadcast_to(self.value(each), self.count).reshape(-1, WARP) for each in arguments]
            return warps.MOVES[name](*values).reshape(-1)
        return self._product(arguments)

    def _product(self, arguments):
        """A tile of sums: registers of the result, of both operands and of the sums before; words say which product."""
        words = [str(each.value) for each in arguments if isinstance(each, ir.StringImm)]
        product = warps.product_of(words)
        registers = [each for each in arguments if not isinstance(each, ir.StringImm)]
        values = [np.broadcast_to(self.value(each), self.count).reshape(-1, WARP) for each in registers]
        made = warps.multiply(product, values[len(values) - product.inputs :])
        for register, value in zip(registers, made, strict=False):
            memory, owner, index = self._element(register.source, register.indices)
            sums = value.reshape(-1)[self.mask].astype(str(register.source.dtype))
            memory.data[owner[self.mask], index[self.mask]] = _bits(sums, memory.data.dtype)
        return np.array(0)


def _bits(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The same bits as another dtype: buffers of several share memory."""
    return values if values.dtype == dtype else np.ascontiguousarray(values).view(dtype)


def _extents(stmt) -> Iterator[tuple[str, int]]:
    """The axes of a launch, and how many there are of each."""
    if isinstance(stmt, tirx.SeqStmt):
        for part in stmt.seq:
            yield from _extents(part)
    elif isinstance(stmt, tirx.AttrStmt):
        if stmt.attr_key == "thread_extent":
            yield str(stmt.node.thread_tag), int(stmt.value)
        yield from _extents(stmt.body)


def _lanes(stmt) -> int:
    """How many neighbours in memory a thread stores at once."""
    (index,) = stmt.indices
    return int(index.lanes) if isinstance(index, tirx.Ramp) else 1


def _binary(function: Callable) -> Callable:
    return lambda self, expr: function(self.value(expr.a), self.value(expr.b))


def _rounded_to_zero(a, b):
    if np.issubdtype(np.asarray(a).dtype, np.floating):
        return a / b
    return np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))


_OPERATORS: dict[str, Callable] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": _rounded_to_zero,
    "Mod": lambda a, b: a - _rounded_to_zero(a, b) * b,
    "FloorDiv": np.floor_divide,
    "FloorMod": np.mod,
    "Min": lambda a, b: np.where(a < b, a, b),  # as it is told to nvcc: the second if either is no number
    "Max": lambda a, b: np.where(a > b, a, b),
    "EQ": np.equal,
    "NE": np.not_equal,
    "LT": np.less,
    "LE": np.less_equal,
    "GT": np.greater,
    "GE": np.greater_equal,
    "And": np.logical_and,
    "Or": np.logical_or,
    "LShift": np.left_shift,
    "RShift": np.right_shift,
    "BitwiseAnd": np.bitwise_and,
    "BitwiseOr": np.bitwise_or,
    "BitwiseXor": np.bitwise_xor,
}
for _name, _function in _OPERATORS.items():
    setattr(_Threads, f"_{_name}", _binary(_function))


def _bit_count(expr, x):
    return np.bitwise_count(x).astype(str(expr.ty.dtype))


#: Operators, and functions of CUDA's: (call, values of its arguments) -> value.
FUNCTIONS: dict[str, Callable] = {
    "reinterpret": lambda expr, a: np.ascontiguousarray(a).view(str(expr.ty.dtype)),
    "popcount": _bit_count,
    "__popc": _bit_count,
    "likely": lambda expr, a: a,
    "__fmaf_rn": lambda expr, a, b, c: arithmetic.fma32(a, b, c),
    "__fmul_rn": lambda expr, a, b: a * b,
    "fabsf": lambda expr, a: np.abs(a),
    "sqrtf": lambda expr, a: np.sqrt(a),
    "floorf": lambda expr, a: np.floor(a),
    "ceilf": lambda expr, a: np.ceil(a),
    "nearbyintf": lambda expr, a: np.rint(a),
    "rintf": lambda expr, a: np.rint(a),
}
