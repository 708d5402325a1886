"""Small modules for the lowering."""

from collections.abc import Callable

import pytest
import tvm
from tvm import relax

from tvm_bnn import targets


@pytest.fixture
def build() -> Callable[..., tvm.IRModule]:
    """Call with (function of variables, *shapes): the module whose ``main`` returns its result."""

    def make(function: Callable[..., relax.Expr], *shapes: tuple[int, ...]) -> tvm.IRModule:
        builder = relax.BlockBuilder()
        variables = [relax.Var(f"x{i}", relax.TensorType(shape, "float32")) for i, shape in enumerate(shapes)]
        with builder.function("main", variables):
            with builder.dataflow():
                result = function(*variables)
                bound = isinstance(result, relax.Var | relax.Tuple)
                out = builder.emit_output(result if bound else builder.emit(result))
            builder.emit_func_output(out)
        return builder.get()

    return make


@pytest.fixture(scope="session")
def target() -> targets.Target:
    """Any target will do: nothing here is run."""
    return targets.resolve("llvm -mcpu=x86-64-v3", threads=1)
