"""Indices that are quotients or rests of sums with constants, below a condition on a fused index."""

import numpy as np
import pytest
import tvm
from tvm.script import tirx as T

from tvm_bnn.schedules.divided_indices import with_hidden_divisions

# mypy: disable-error-code="valid-type"
# (TVMScript writes shapes where Python expects types)

NUMBERS = np.arange(99 * 16, dtype="int32").reshape(99, 16)


def quotients(divisor: int, constant: int):
    """Rows ``(a + y % 16 + constant) // divisor + 4``, of which y is a fused index."""

    @T.prim_func(s_tir=True)
    def main(g: T.Buffer((99, 16), "int32"), o: T.Buffer((3, 4, 32, 16), "int32")):
        T.func_attr({"global_symbol": "main"})
        for b, ty, tx, a in T.grid(16, 4, 32, 3):
            if ty * 32 + b * 16 + tx < 256:
                o[a, ty, tx, b] = g[(a + (ty * 2 + tx // 16 + b) % 16 + constant) // divisor + 4, 0]

    return main


def rests(divisor: int, constant: int):
    """Rows ``(a + y % 16 + constant) % divisor``."""

    @T.prim_func(s_tir=True)
    def main(g: T.Buffer((99, 16), "int32"), o: T.Buffer((3, 4, 32, 16), "int32")):
        T.func_attr({"global_symbol": "main"})
        for b, ty, tx, a in T.grid(16, 4, 32, 3):
            if ty * 32 + b * 16 + tx < 256:
                o[a, ty, tx, b] = g[(a + (ty * 2 + tx // 16 + b) % 16 + constant) % divisor, 0]

    return main


def expected(row) -> np.ndarray:
    """row : of the sum without its constant."""
    a, ty, tx, b = np.indices((3, 4, 32, 16))
    place = row(a + (ty * 2 + tx // 16 + b) % 16)
    return np.where(ty * 32 + b * 16 + tx < 256, NUMBERS[place, 0], 0)


def run(func) -> np.ndarray:
    result = tvm.runtime.tensor(np.zeros((3, 4, 32, 16), "int32"))
    tvm.compile(tvm.IRModule({"main": func}), target="llvm")["main"](tvm.runtime.tensor(NUMBERS), result)
    return result.numpy()


@pytest.mark.parametrize("divisor", [2, 3, 4, 6])
@pytest.mark.parametrize("constant", [-3, -1, 0, 1, 5])
def test_they_are_as_written(divisor, constant):
    found = run(with_hidden_divisions(quotients(divisor, constant)))
    np.testing.assert_array_equal(found, expected(lambda place: (place + constant) // divisor + 4))
    found = run(with_hidden_divisions(rests(divisor, constant)))
    np.testing.assert_array_equal(found, expected(lambda place: (place + constant) % divisor))


def test_tvm_forgets_the_constant():
    """Where this fails, what the module under test does is no longer needed."""
    assert (run(quotients(2, 1)) != expected(lambda place: (place + 1) // 2 + 4)).any()
