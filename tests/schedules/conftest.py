"""The kernel grid: many small kernels in one module, compiled once a target and compared with the reference.

A file of the grid has a dictionary ``CASES``: name -> function of a ``Case``, which returns the Relax expression (or
tuple) to compute. ``test_equals_the_reference(grid, case, target)`` is parametrised from it: each runs on one
target in rotation, a few on all of them. A case that cannot be compiled with the others is compiled alone, so that it
fails alone.

Weights, thresholds and tables are arguments of a compiled kernel, so each runs with several sets of them and of data: a
case of the grid is (schedule, shape, padding, thresholds, data).
"""

import functools
import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from tests import emulator
from tests.thorough import thorough
from tvm_bnn import ops, targets
from tvm_bnn.emulated import processor
from tvm_bnn.linker import shared_object
from tvm_bnn.lower import Lowered, lower
from tvm_bnn.reference import evaluate
from tvm_bnn.relay_passes.rewriter import op_name
from tvm_bnn.schedules import schedule_module
from tvm_bnn.schedules.apply import define_module, machine_code

EMULATED = "cortex-a72"  # has all that code for the others needs
TARGETS = {
    "amx": "llvm -mcpu=x86-64-v4 -mattr=+avx512vpopcntdq,+amx-tile,+amx-int8",
    "amx with bf16": "llvm -mcpu=x86-64-v4 -mattr=+avx512vpopcntdq,+amx-tile,+amx-int8,+amx-bf16",
    "avx512": "llvm -mcpu=x86-64-v4 -mattr=+avx512vpopcntdq",
    "avx512 by tables": "llvm -mcpu=x86-64-v4",
    "avx2": "llvm -mcpu=x86-64-v3",
    "generic": "llvm -mcpu=x86-64-v2",
    "generic with fma": "llvm -mcpu=x86-64-v2 -mattr=+fma",
    "neon": f"llvm -mcpu={EMULATED}",
    "neon in order": "llvm -mcpu=cortex-a53",
}
ROTATION = ["avx512", "avx2", "generic"]  # unless the file has its own ``TARGETS``
EVERYWHERE = 11 if thorough() else 33  # of so many cases one runs on all targets of the file
TOGETHER = 40  # names in one module

#: Kinds of constants and of data, see ``Case``; another word makes other numbers of the kind. Every kernel runs with
#: every pair, or with those that its file names in ``FILLINGS``.
CONSTANTS = ("normal", "ties", "high")
DATA = (
    "normal", "ties", "high", "low", "sparse",
    *(f"{kind} {number}" for number in range(1, 6) for kind in ("normal", "ties", "sparse")),
)  # fmt: skip
FILLINGS = tuple(itertools.product(CONSTANTS, DATA))


class Case:
    """What a case is written with: arguments of the model with their data, seeded constants, shorthands.

    Constants, or data, are

    normal : normally distributed, and fair bits;
    ties : small whole numbers, so that sums meet thresholds exactly and zeros are common;
    high, low : all +1, all -1: the largest sums that there are;
    sparse : zeros, but for one in eight.

    A constant of a single number is part of a kernel's code: all kinds share it.
    """

    def __init__(self, seed: int, constants: str = "normal", data: str = "normal") -> None:
        self.rng = np.random.default_rng([seed, CONSTANTS.index(constants)])
        self.seed = seed
        self.data_rng = self.rng_of_data(data)
        self.shared = np.random.default_rng(seed)
        self.made = 0
        self.filled_up = 0
        self.of_constants, self.of_data = constants, data
        self.variables: list[relax.Var] = []
        self.data: list[np.ndarray] = []
        self.drawn: list[tuple[tuple[int, ...], str] | None] = []  # shape and dtype, of data that was not given

    @staticmethod
    def filled(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> np.ndarray:
        """float32 numbers of a kind."""
        normal = np.asarray(rng.standard_normal(shape), np.float32)
        zero = np.zeros_like(normal)
        return {
            "normal": normal,
            "ties": np.rint(2 * normal) + zero,  # no -0: kernels may depend on where constants have those
            "high": zero + 1,
            "low": zero - 1,
            "sparse": np.where(rng.random(shape) < 0.125, normal, zero),
        }[kind.split()[0]]

    def coefficients(self, shape: tuple[int, ...]) -> np.ndarray:
        """float32 numbers for a constant; its ends are its own, since equal arrays, or numbers, are passed once."""
        if np.prod(shape) == 1:
            return self.shared.standard_normal(shape).astype(np.float32)
        values = self.filled(self.rng, self.of_constants, shape)
        self.made += 1
        values.flat[0], values.flat[-1] = self.made, self.made + 0.5
        return values

    def argument(self, *shape: int, dtype: str = "float32", data: np.ndarray | None = None) -> relax.Var:
        """An argument of the model: normal floats or fair bits, or the given data."""
        self.drawn.append((shape, dtype) if data is None else None)
        self.data.append(self.draw(shape, dtype) if data is None else data)
        variable = relax.Var("x", relax.TensorType(self.data[-1].shape, str(self.data[-1].dtype)))
        self.variables.append(variable)
        return variable

    def draw(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """Data of an argument."""
        data = self.filled(self.data_rng, self.of_data, shape)
        return data > 0 if dtype == "bool" else data.astype(dtype)

    def refill(self, of_data: str) -> list[np.ndarray]:
        """The arguments' data of another kind: what a case made with that kind has."""
        self.of_data, self.data_rng = of_data, self.rng_of_data(of_data)
        return [data if one is None else self.draw(*one) for data, one in zip(self.data, self.drawn, strict=True)]

    def rng_of_data(self, of_data: str) -> np.random.Generator:
        """What data of a kind is drawn from."""
        return np.random.default_rng([self.seed, 8 + DATA.index(of_data)])

    def emit(self, expr: relax.Expr) -> relax.Var:
        """Bind an expression."""
        return relax.BlockBuilder.current().emit(expr)

    def part(self, expr: relax.Expr, index: int) -> relax.Var:
        """One field of a tuple."""
        return self.emit(relax.TupleGetItem(self.emit(expr), index))

    def constant(self, *shape: int) -> relax.Expr:
        """float32 constants."""
        return relax.const(self.coefficients(shape))

    def signs(self, *shape: int) -> relax.Expr:
        """Weights [O, C, KH, KW] of bits: fair, or all set but for one that tells the second such array from the first.

        The third has two such bits, and so on; they belong to a tap that is padded at the left of a map, at none of its
        rows.
        """
        bits = self.rng.random(shape) < (1.0 if self.of_constants == "high" else 0.5)
        if self.of_constants == "high":
            self.filled_up += 1
            bits[:, :, shape[2] // 2, 0].flat[: self.filled_up - 1] = False
        return relax.const(bits)

    def bits(self, *shape: int) -> relax.Var:
        """Bits as a network makes them: a comparison of an argument."""
        return self.positive(self.argument(*shape))

    def positive(self, expr: relax.Expr) -> relax.Var:
        """expr >= 0."""
        return self.emit(relax.op.greater_equal(expr, relax.const(np.float32(0))))

    def scaled(self, expr: relax.Expr) -> relax.Var:
        """A random affine map per channel (the channel is axis 1), negative and zero scales among them."""
        channels = int(expr.ty.shape[1])
        scale = self.coefficients((channels,))
        scale[channels // 2] = 0.0
        shape = (1, channels) + (1,) * (len(expr.ty.shape) - 2)
        return self.emit(ops.affine(expr, relax.const(scale.reshape(shape)), self.constant(*shape)))


@pytest.fixture(scope="session")
def target_of() -> Callable[[str], targets.Target]:
    """Call with a name of TARGETS; skips where this CPU lacks what it needs."""

    def resolved(name: str) -> targets.Target:
        target = resolved_target(name)
        assert target.isa == isa_of(name)
        if target.isa == "neon":
            emulator.need()
        elif not target.native:
            pytest.skip(f"this CPU cannot run code for {TARGETS[name]!r}")
        return target

    return resolved


def scheduled(module: tvm.IRModule, target: targets.Target) -> tuple[Lowered, tvm.IRModule]:
    """A Relax module lowered to kernels, and those with their schedules."""
    lowered = lower(module, target)
    return lowered, schedule_module(lowered.module, lowered.family_of, target)


def compile_and_run(module: tvm.IRModule, data: list[np.ndarray], target: targets.Target) -> list[np.ndarray]:
    """The results of a module, as a flat list."""
    machine = relax.VirtualMachine(machine_code(scheduled(module, target)[1], target), tvm.cpu())
    return _flat(machine["main"](*map(tvm.runtime.tensor, data)))


def definition(lowered: Lowered, data: list[np.ndarray]) -> dict[str, tuple[list[np.ndarray], list[np.ndarray]]]:
    """What the kernels of a module are called with, and what these arrays hold when each has run as it is defined."""
    defined = machine_code(define_module(lowered.module, lowered.family_of), targets.host(1))
    machine = relax.VirtualMachine(defined, tvm.cpu())
    calls: dict[str, list[list[np.ndarray]]] = {}

    def watch(_function, name, before, _result, *arguments):
        if name in lowered.family_of:
            calls.setdefault(name, []).append([each.numpy().copy() for each in arguments])
        return 0

    machine.set_instrument(watch)
    machine["main"](*map(tvm.runtime.tensor, data))
    return {name: (before, after) for name, (before, after, *_) in calls.items()}


class Kernels:
    """The kernels of some cases, compiled once; constants are arguments."""

    def __init__(self, module: tvm.IRModule, target: targets.Target) -> None:
        self.target = target
        lowered = lower(module, target)
        self.interface, self.own_constants = lifted(lowered.module)
        made = schedule_module(self.interface, lowered.family_of, target)
        self.executable = machine_code(made, target, {"tirx.disable_assert": True})

    def constants(self, module: tvm.IRModule) -> list[np.ndarray]:
        """The constants of a module that differs from the compiled one in nothing else; its own are known."""
        interface, constants = lifted(lower(module, self.target).module)
        tvm.ir.assert_structural_equal(interface, self.interface)
        return constants

    @contextmanager
    def ready(self) -> Iterator[Callable[[list[np.ndarray], list[np.ndarray]], list[np.ndarray]]]:
        """A function from data and constants to the results; on an emulated processor where this one cannot be."""
        if self.target.native:
            machine = relax.VirtualMachine(self.executable, tvm.cpu())
            yield lambda data, constants: _flat(machine["main"](*map(tvm.runtime.tensor, [*data, *constants])))
            return
        with processor.session(EMULATED) as remote:
            network = processor.Network(remote, shared_object(self.executable, self.target.triple))

            def run(data: list[np.ndarray], constants: list[np.ndarray]) -> list[np.ndarray]:
                network.set_inputs([*data, *constants])
                return network.run()

            yield run


def lifted(module: tvm.IRModule) -> tuple[tvm.IRModule, list[np.ndarray]]:
    """Make the constants that kernels are called with parameters of ``main``; returns the arrays to pass."""
    main, values = module["main"], []
    variables: list[relax.Var] = []

    def lift(argument: relax.Expr) -> relax.Expr:
        if not isinstance(argument, tvm.ir.GenericConst):
            return argument
        variables.append(relax.Var(f"constant{len(variables)}", argument.ty))
        values.append(argument.value.numpy())
        return variables[-1]

    blocks = []
    for block in main.body.blocks:
        bindings = []
        for binding in block.bindings:
            value = binding.value
            if isinstance(value, relax.Call) and op_name(value).startswith("relax.call_tir"):
                arguments = relax.Tuple([lift(argument) for argument in value.args[1].fields])
                value = relax.Call(
                    value.op, [value.args[0], arguments, *value.args[2:]], value.attrs, value.ty_args, value.span
                )
            bindings.append(relax.VarBinding(binding.var, value))
        blocks.append(relax.DataflowBlock(bindings) if isinstance(block, relax.DataflowBlock) else block)
    function = relax.Function([*main.params, *variables], relax.SeqExpr(blocks, main.body.body), main.ret_ty)
    result = module.clone()
    result.update_func(module.get_global_var("main"), function.with_attr("global_symbol", "main"))
    return relax.transform.Normalize()(result), values


def _flat(value: Any) -> list[np.ndarray]:
    return [value.numpy()] if hasattr(value, "numpy") else [leaf for field in value for leaf in _flat(field)]


class Grid:
    """Results of the cases of one file, compiled in groups on first use."""

    def __init__(
        self, cases: dict[str, Callable[[Case], relax.Expr]], rotation: list[str], fillings: Sequence[tuple[str, str]]
    ) -> None:
        self.cases, self.rotation, self.fillings = cases, rotation, fillings
        self.names = list(cases)
        self._results: dict[tuple[str, targets.Target], list[tuple[list[np.ndarray], list[np.ndarray]]]] = {}
        self._tried: set[tuple[int, targets.Target]] = set()

    def check(self, name: str, target: targets.Target) -> None:
        """Compare one name's cases on one target with the reference, bit for bit."""
        group = self.names.index(name) // TOGETHER
        if (group, target) not in self._tried:
            self._tried.add((group, target))
            first = group * TOGETHER
            wanted = enumerate(self.names[first : first + TOGETHER], first)
            self._run([n for i, n in wanted if target in map(resolved_target, targets_of(i, self.rotation))], target)
        if (name, target) not in self._results:
            self._run_together([name], target)
        for filling, (got, expected) in zip(self.fillings, self._results[name, target], strict=True):
            assert len(got) == len(expected)
            for mine, theirs in zip(got, expected, strict=True):
                assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
                np.testing.assert_array_equal(mine, theirs, f"constants, data: {filling}")

    def _run(self, names: list[str], target: targets.Target) -> None:
        try:
            self._run_together(names, target)
        except Exception:  # each case then runs, and fails, for itself
            return

    def _run_together(self, names: list[str], target: targets.Target) -> None:
        compiled, *_ = parts = _parts(self.cases, names, self.names, self.fillings[0][0])
        kernels = Kernels(compiled, target)
        results: dict[str, list[tuple[list[np.ndarray], list[np.ndarray]]]] = {name: [] for name in names}
        with kernels.ready() as run:
            for kind in dict.fromkeys(constants for constants, _ in self.fillings):
                if kind != self.fillings[0][0]:
                    parts = _parts(self.cases, names, self.names, kind)
                module, made, fields = parts
                constants = kernels.own_constants if module is compiled else kernels.constants(module)
                for of_data in (data for made_of, data in self.fillings if made_of == kind):
                    data = [array for case in made for array in case.refill(of_data)]
                    got, expected = run(data, constants), list(evaluate(module, data))
                    for name, count in zip(names, fields, strict=True):
                        results[name].append((got[:count], expected[:count]))
                        del got[:count], expected[:count]
        self._results.update({(name, target): found for name, found in results.items()})


def build(
    cases: dict[str, Callable[[Case], relax.Expr]],
    names: list[str],
    order: list[str],
    constants: str = "normal",
    data_kind: str = "normal",
) -> tuple[tvm.IRModule, list[np.ndarray], list[int]]:
    """One module that computes the named cases; its arguments; how many results belong to each case."""
    module, made, counts = _parts(cases, names, order, constants, data_kind)
    return module, [array for case in made for array in case.data], counts


def _parts(
    cases: dict[str, Callable[[Case], relax.Expr]],
    names: list[str],
    order: list[str],
    constants: str,
    data_kind: str = "normal",
) -> tuple[tvm.IRModule, list[Case], list[int]]:
    """One module that computes the named cases, these, and how many results belong to each."""
    builder = relax.BlockBuilder()
    made: list[Case] = []
    counts, results = [], []
    with builder.function("main"):
        with builder.dataflow():
            for name in names:
                case = Case(order.index(name), constants, data_kind)
                result = cases[name](case)
                fields = list(result.fields) if isinstance(result, relax.Tuple) else [result]
                results += [f if isinstance(f, relax.Var) else builder.emit(f) for f in fields]
                counts.append(len(fields))
                made.append(case)
            output = builder.emit_output(relax.Tuple(results))
        builder.emit_func_output(output, [variable for case in made for variable in case.variables])
    return builder.get(), made, counts


@functools.cache
def resolved_target(name: str) -> targets.Target:
    """The target of a name of TARGETS."""
    return targets.resolve(TARGETS[name], threads=1)


def isa_of(name: str) -> str:
    """Family of schedules of a name of TARGETS."""
    return name.split()[0]


def targets_of(index: int, rotation: list[str]) -> list[str]:
    """The targets that a case runs on."""
    return rotation if index % EVERYWHERE == 0 else [rotation[index % len(rotation)]]


def one_each(names: Sequence[str], rotation: Sequence[str], all_of: Collection[str] = ()) -> list[tuple[str, str]]:
    """Pairs of name and target: one target a name, in rotation; those of ``all_of`` with each."""
    few = [(name, rotation[i % len(rotation)]) for i, name in enumerate(names) if name not in all_of]
    return few + [(name, on) for name in names if name in all_of for on in rotation]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Cases of a grid file, each with its targets."""
    if "case" in metafunc.fixturenames:
        rotation = getattr(metafunc.module, "TARGETS", ROTATION)
        pairs = [(n, t) for i, n in enumerate(metafunc.module.CASES) for t in targets_of(i, rotation)]
        metafunc.parametrize(("case", "target"), pairs, ids=[f"{name}-{target}" for name, target in pairs])


@pytest.fixture(scope="module")
def grid(request: pytest.FixtureRequest) -> Grid:
    """The grid of the file."""
    module = request.module
    return Grid(module.CASES, getattr(module, "TARGETS", ROTATION), getattr(module, "FILLINGS", FILLINGS))


@pytest.fixture(name="build_cases")
def build_fixture() -> Callable[..., tuple[tvm.IRModule, list[np.ndarray], list[int]]]:
    """Call with (cases, names, order): one module of these cases, its arguments, results a case."""
    return build


@pytest.fixture(name="compile_and_run")
def compile_fixture() -> Callable[..., list[np.ndarray]]:
    """Call with (module, data, target): its results."""
    return compile_and_run


@pytest.fixture
def kernels() -> Callable[..., Kernels]:
    """Call with (module, target): its kernels, which run on an emulated processor where this one cannot be."""
    return Kernels


@pytest.fixture(name="scheduled")
def scheduled_fixture() -> Callable[..., tuple[Lowered, tvm.IRModule]]:
    """Call with (module, target): the lowered module, and the scheduled one."""
    return scheduled
