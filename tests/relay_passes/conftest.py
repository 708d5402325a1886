"""Small Relax modules, a pass run with its invariants checked, and a comparison of what two modules compute."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import torch
import tvm
from tvm import relax
from tvm.relax.ir.instrument import WellFormedInstrument

from tvm_bnn.frontend import import_program
from tvm_bnn.reference import evaluate

Shape = tuple[int, ...]


def emit(expr: relax.Expr) -> relax.Var:
    """Bind an expression that is read more than once."""
    return relax.BlockBuilder.current().emit(expr)


class _Lambda(torch.nn.Module):
    def __init__(self, function: Callable):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def inputs_of(module: tvm.IRModule, seed: int = 0) -> list[np.ndarray]:
    """Random arguments of ``main``: normal floats, fair bits."""
    rng = np.random.default_rng(seed)
    arrays = []
    for parameter in module["main"].params:
        shape = tuple(int(extent) for extent in parameter.ty.shape)
        value = rng.standard_normal(shape).astype(np.float32)
        arrays.append(value > 0 if str(parameter.ty.dtype) == "bool" else value)
    return arrays


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small are slower on threads that wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def build() -> Callable[..., tvm.IRModule]:
    """Call with (function of variables, *shapes, dtypes=...): the module whose ``main`` returns its result."""

    def make(function: Callable[..., relax.Expr], *shapes: Shape, dtypes: Sequence[str] = ()) -> tvm.IRModule:
        builder = relax.BlockBuilder()
        dtypes = dtypes or ("float32",) * len(shapes)
        variables = [
            relax.Var(f"x{i}", relax.TensorType(shape, dtype))
            for i, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True))
        ]
        with builder.function("main", variables):
            with builder.dataflow():
                result = function(*variables)
                bound = isinstance(result, relax.Var | relax.Tuple)
                out = builder.emit_output(result if bound else builder.emit(result))
            builder.emit_func_output(out)
        return builder.get()

    return make


@pytest.fixture
def imported() -> Callable[..., tvm.IRModule]:
    """Call with (torch module or function, *example inputs): the imported module."""

    def make(model: Callable, *inputs: torch.Tensor) -> tvm.IRModule:
        model = model if isinstance(model, torch.nn.Module) else _Lambda(model)
        return import_program(torch.export.export(model.eval(), inputs)).module

    return make


@pytest.fixture
def run() -> Callable[..., tvm.IRModule]:
    """Call with (module, *passes): the result, well-formed after each pass; the passes left their input alone."""

    def rewrite(module: tvm.IRModule, *passes) -> tvm.IRModule:
        before = module.script(show_meta=True)
        with tvm.transform.PassContext(instruments=[WellFormedInstrument()]):
            after = tvm.ir.transform.Sequential(list(passes))(module)
        assert module.script(show_meta=True) == before, "a pass changed the module that it was given"
        return after

    return rewrite


@pytest.fixture
def agree() -> Callable[..., None]:
    """Call with (before, after, relative=...): equal results, and equal values under the names that survived.

    relative : 0 asks for the same bits; else the error allowed, relative to the largest value.
    inputs : what to run on, instead of random arrays.
    """

    def check(
        before: tvm.IRModule, after: tvm.IRModule, relative: float = 0.0, inputs: Sequence[np.ndarray] | None = None
    ) -> None:
        inputs = inputs_of(before) if inputs is None else inputs
        seen: list[dict[str, np.ndarray]] = [{}, {}]
        old, new = (
            evaluate(module, inputs, observe=values.__setitem__)
            for module, values in zip((before, after), seen, strict=True)
        )
        for mine, theirs in zip(new, old, strict=True):
            _close(mine, theirs, relative, "result")
        for name in seen[0].keys() & seen[1].keys():
            if isinstance(seen[0][name], np.ndarray):
                _close(seen[1][name], seen[0][name], relative, name)

    return check


def _close(mine: np.ndarray, theirs: np.ndarray, relative: float, name: str) -> None:
    assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype), name
    if relative and theirs.dtype.kind == "f":
        bound = relative * float(np.abs(theirs).max(initial=0))
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=bound, err_msg=name)
    else:
        np.testing.assert_array_equal(mine, theirs, err_msg=name)


def operators(module: tvm.IRModule) -> list[str]:
    """Names of the operators that ``main`` calls, in order."""
    names = []
    for block in module["main"].body.blocks:
        for binding in block.bindings:
            if isinstance(binding.value, relax.Call) and isinstance(binding.value.op, tvm.ir.Op):
                names.append(binding.value.op.name)
    return names


@pytest.fixture(name="operators")
def operators_fixture() -> Callable[[tvm.IRModule], list[str]]:
    """Call with a module: the operators that ``main`` calls, in order."""
    return operators


@pytest.fixture(name="emit")
def emit_fixture() -> Callable[[relax.Expr], relax.Var]:
    """Call while a module is built: binds an expression that is read more than once."""
    return emit
