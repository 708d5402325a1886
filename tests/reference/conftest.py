"""Ways to put a PyTorch module, or one Relax operator, through the reference evaluator."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import tvm
from tvm import relax
from tvm.relax.frontend.torch import from_exported_program

from tvm_bnn.reference import evaluate


class _Module(torch.nn.Module):
    def __init__(self, function: Callable, parts: tuple[torch.nn.Module, ...]):
        super().__init__()
        self.function, self.parts = function, torch.nn.ModuleList(parts)

    def forward(self, *inputs):
        return self.function(*self.parts, *inputs)


def imported(model, *inputs: torch.Tensor) -> tvm.IRModule:
    """A PyTorch module as TVM's importer yields it."""
    return from_exported_program(torch.export.export(model.eval(), inputs), run_ep_decomposition=True)


@pytest.fixture
def check_against_torch() -> Callable:
    """Call with (module or function, *inputs, parts=modules): results must be PyTorch's, to 1e-5 of their range."""

    def check(model, *inputs: torch.Tensor, parts: tuple = (), exact: bool = False) -> None:
        model = model if isinstance(model, torch.nn.Module) else _Module(model, parts)
        got = evaluate(imported(model, *inputs), inputs)
        with torch.no_grad():
            wanted = model(*inputs)
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        for mine, tensor in zip(got, wanted, strict=True):
            theirs = tensor.numpy()
            assert mine.dtype == theirs.dtype
            scale = 0 if exact or theirs.dtype.kind != "f" else 1e-5 * np.abs(theirs).max(initial=0)
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=scale)
            assert mine.shape == theirs.shape

    return check


@pytest.fixture
def run_op() -> Callable[..., Any]:
    """Call with (builder of a Relax call, *arrays): the evaluated result, through a whole module."""

    def run(build: Callable[..., relax.Expr], *arrays: np.ndarray) -> Any:
        builder = relax.BlockBuilder()
        variables = [
            relax.Var(f"x{i}", relax.TensorType(array.shape, str(array.dtype))) for i, array in enumerate(arrays)
        ]
        with builder.function("main", variables):
            with builder.dataflow():
                out = builder.emit_output(builder.emit(build(*variables)))
            builder.emit_func_output(out)
        results = evaluate(builder.get(), arrays)
        return results[0] if len(results) == 1 else results

    return run
