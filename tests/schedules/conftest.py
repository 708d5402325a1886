"""The kernel grid: many small cases in one module, compiled once a target and compared with the reference.

A file of the grid has a dictionary ``CASES``: name -> function of a ``Case``, which returns the Relax expression (or
tuple) to compute. ``test_equals_the_reference(grid, case, target)`` is parametrised from it: each case runs on one
target in rotation, every tenth on all of them. A case that cannot be compiled with the others is compiled alone, so
that it fails alone.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from tvm_bnn import ops, targets
from tvm_bnn.lower import Lowered, lower
from tvm_bnn.reference import evaluate
from tvm_bnn.schedules import schedule_module

TARGETS = {
    "avx512": "llvm -mcpu=x86-64-v4 -mattr=+avx512vpopcntdq",
    "avx2": "llvm -mcpu=x86-64-v3",
    "generic": "llvm -mcpu=x86-64-v2",
    "generic with fma": "llvm -mcpu=x86-64-v2 -mattr=+fma",
}
ROTATION = ["avx512", "avx2", "generic"]  # unless the file has its own ``TARGETS``
TOGETHER = 40  # cases in one module


class Case:
    """What a case is written with: arguments of the model with their data, seeded constants, shorthands."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.variables: list[relax.Var] = []
        self.data: list[np.ndarray] = []

    def argument(self, *shape: int, dtype: str = "float32", data: np.ndarray | None = None) -> relax.Var:
        """An argument of the model: normal floats or fair bits, or the given data."""
        if data is None:
            data = self.rng.standard_normal(shape).astype(np.float32)
            data = data > 0 if dtype == "bool" else data.astype(dtype)
        variable = relax.Var("x", relax.TensorType(data.shape, str(data.dtype)))
        self.variables.append(variable)
        self.data.append(data)
        return variable

    def emit(self, expr: relax.Expr) -> relax.Var:
        """Bind an expression."""
        return relax.BlockBuilder.current().emit(expr)

    def part(self, expr: relax.Expr, index: int) -> relax.Var:
        """One field of a tuple."""
        return self.emit(relax.TupleGetItem(self.emit(expr), index))

    def constant(self, *shape: int) -> relax.Expr:
        """Normal float32 constants."""
        return relax.const(self.rng.standard_normal(shape).astype(np.float32))

    def signs(self, *shape: int) -> relax.Expr:
        """Fair bits."""
        return relax.const(self.rng.random(shape) < 0.5)

    def bits(self, *shape: int) -> relax.Var:
        """Bits as a network makes them: a comparison of an argument."""
        return self.positive(self.argument(*shape))

    def positive(self, expr: relax.Expr) -> relax.Var:
        """expr >= 0."""
        return self.emit(relax.op.greater_equal(expr, relax.const(np.float32(0))))

    def scaled(self, expr: relax.Expr) -> relax.Var:
        """A random affine map per channel (the channel is axis 1), negative and zero scales among them."""
        channels = int(expr.ty.shape[1])
        scale = self.rng.standard_normal(channels).astype(np.float32)
        scale[channels // 2] = 0.0
        shape = (1, channels) + (1,) * (len(expr.ty.shape) - 2)
        return self.emit(ops.affine(expr, relax.const(scale.reshape(shape)), self.constant(*shape)))


@pytest.fixture(scope="session")
def target_of() -> Callable[[str], targets.Target]:
    """Call with a name of TARGETS; skips where this CPU lacks what it needs."""

    def resolved(name: str) -> targets.Target:
        target = targets.resolve(TARGETS[name], threads=1)
        assert target.isa == isa_of(name)
        if not target.native:
            pytest.skip(f"this CPU cannot run code for {TARGETS[name]!r}")
        return target

    return resolved


def scheduled(module: tvm.IRModule, target: targets.Target) -> tuple[Lowered, tvm.IRModule]:
    """A Relax module lowered to kernels, and those with their schedules."""
    lowered = lower(module, target)
    return lowered, schedule_module(lowered.module, lowered.family_of, target)


def compile_and_run(module: tvm.IRModule, data: list[np.ndarray], target: targets.Target) -> list[np.ndarray]:
    """The results of a module, as a flat list."""
    executable = tvm.compile(scheduled(module, target)[1], target=target.tvm())
    machine = relax.VirtualMachine(executable, tvm.cpu())
    return _flat(machine["main"](*map(tvm.runtime.tensor, data)))


def _flat(value: Any) -> list[np.ndarray]:
    return [value.numpy()] if hasattr(value, "numpy") else [leaf for field in value for leaf in _flat(field)]


class Grid:
    """Results of the cases of one file, compiled in groups on first use."""

    def __init__(self, cases: dict[str, Callable[[Case], relax.Expr]], rotation: list[str]) -> None:
        self.cases, self.rotation = cases, rotation
        self.names = list(cases)
        self._results: dict[tuple[str, str], Any] = {}
        self._tried: set[tuple[int, str]] = set()

    def check(self, name: str, target: targets.Target) -> None:
        """Compare one case on one target with the reference, bit for bit."""
        group = self.names.index(name) // TOGETHER
        if (group, target.isa) not in self._tried:
            self._tried.add((group, target.isa))
            first = group * TOGETHER
            wanted = enumerate(self.names[first : first + TOGETHER], first)
            self._run([n for i, n in wanted if target.isa in map(isa_of, targets_of(i, self.rotation))], target)
        if (name, target.isa) not in self._results:
            self._run_together([name], target)
        got, expected = self._results[name, target.isa]
        assert len(got) == len(expected)
        for mine, theirs in zip(got, expected, strict=True):
            assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
            np.testing.assert_array_equal(mine, theirs)

    def _run(self, names: list[str], target: targets.Target) -> None:
        try:
            self._run_together(names, target)
        except Exception:  # each case then runs, and fails, for itself
            return

    def _run_together(self, names: list[str], target: targets.Target) -> None:
        module, data, fields = build(self.cases, names, self.names)
        got, expected = compile_and_run(module, data, target), list(evaluate(module, data))
        for name, count in zip(names, fields, strict=True):
            self._results[name, target.isa] = got[:count], expected[:count]
            del got[:count], expected[:count]


def build(
    cases: dict[str, Callable[[Case], relax.Expr]], names: list[str], order: list[str]
) -> tuple[tvm.IRModule, list[np.ndarray], list[int]]:
    """One module that computes the named cases; its arguments; how many results belong to each case."""
    builder = relax.BlockBuilder()
    variables: list[relax.Var] = []
    data: list[np.ndarray] = []
    counts, results = [], []
    with builder.function("main"):
        with builder.dataflow():
            for name in names:
                case = Case(seed=order.index(name))
                result = cases[name](case)
                fields = list(result.fields) if isinstance(result, relax.Tuple) else [result]
                results += [f if isinstance(f, relax.Var) else builder.emit(f) for f in fields]
                counts.append(len(fields))
                variables += case.variables
                data += case.data
            output = builder.emit_output(relax.Tuple(results))
        builder.emit_func_output(output, variables)
    return builder.get(), data, counts


def isa_of(name: str) -> str:
    """Family of schedules of a name of TARGETS."""
    return name.split()[0]


def targets_of(index: int, rotation: list[str]) -> list[str]:
    """The targets that a case runs on."""
    return rotation if index % 10 == 0 else [rotation[index % len(rotation)]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Cases of a grid file, each with its targets."""
    if "case" in metafunc.fixturenames:
        rotation = getattr(metafunc.module, "TARGETS", ROTATION)
        pairs = [(n, t) for i, n in enumerate(metafunc.module.CASES) for t in targets_of(i, rotation)]
        metafunc.parametrize(("case", "target"), pairs, ids=[f"{name}-{target}" for name, target in pairs])


@pytest.fixture(scope="module")
def grid(request: pytest.FixtureRequest) -> Grid:
    """The grid of the file."""
    return Grid(request.module.CASES, getattr(request.module, "TARGETS", ROTATION))


@pytest.fixture(name="build_cases")
def build_fixture() -> Callable[..., tuple[tvm.IRModule, list[np.ndarray], list[int]]]:
    """Call with (cases, names, order): one module of these cases, its arguments, results a case."""
    return build


@pytest.fixture(name="compile_and_run")
def compile_fixture() -> Callable[..., list[np.ndarray]]:
    """Call with (module, data, target): its results."""
    return compile_and_run


@pytest.fixture(name="scheduled")
def scheduled_fixture() -> Callable[..., tuple[Lowered, tvm.IRModule]]:
    """Call with (module, target): the lowered module, and the scheduled one."""
    return scheduled
