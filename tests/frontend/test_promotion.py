"""Operands of different types are brought to one by PyTorch's rules."""

import numpy as np
import pytest
import torch

from tvm_bnn.frontend.importer import import_program
from tvm_bnn.reference import evaluate

COUNTS = torch.arange(9)

MIXED = {
    "bool * float": lambda x: (x > 0) * 0.5,
    "bool * 2 - 1": lambda x: (x > 0) * 2 - 1,
    "bool * 2. - 1.": lambda x: (x > 0) * 2.0 - 1.0,
    "bool * tensor": lambda x: (x > 0) * x,
    "bool == bool": lambda x: (x > 0) == (x > -1),
    "bool + bool": lambda x: (x > 0) + (x > 1),
    "int * float": lambda x: (x > 0).int() * 0.5,
    "float - int": lambda x: 1 - (x > 0).int() * 0.5,
    "int + tensor": lambda x: (x > 0).int() + x,
    "int / int": lambda x: (4 * x).int() / 4,
    "int // int": lambda x: (4 * x).int() // 4,
    "int > float": lambda x: (4 * x).int() > 0.5,
    "int, clamped by floats": lambda x: (4 * x).int().clamp(0.5, 2.5),
    "int64 constant / int": lambda x: x + COUNTS / 4,
    "float64 * float": lambda x: x.double() * 0.3,
    "where of int and float": lambda x: torch.where(x > 0, 1.5, -1),
    "where of int and tensor": lambda x: torch.where(x > 0, COUNTS, x),
}


class Function(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize("function", MIXED.values(), ids=list(MIXED))
def test_types_are_pytorchs(function):
    x = (2 * torch.randint(-8, 8, (2, 3, 5, 9), generator=torch.Generator().manual_seed(0)) + 1) / 8
    module = import_program(torch.export.export(Function(function), (x,))).module
    (found,) = evaluate(module, [x.numpy()])
    expected = function(x).numpy()
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
