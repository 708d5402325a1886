"""Operands of different types: ``(x > 0) * 0.5`` is a float tensor, and ``3 / 4`` of integers is 0.75.

PyTorch brings the operands of an operator to one type first. TVM's importer brings a number to the type of the tensor
beside it instead, so that 0.5 becomes 0 beside an integer, and divides integers as integers.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx
from tvm import relax

_ARITHMETIC = frozenset(
    "add sub rsub mul div true_divide floor_divide remainder fmod pow maximum minimum where "
    "clamp clamp_min clamp_max".split()
)
_COMPARISONS = frozenset("eq ne lt le gt ge".split())


def casts(
    node: fx.Node, values: Mapping[fx.Node, relax.Expr], emit: Callable[[relax.Expr], relax.Var]
) -> dict[fx.Node, relax.Var]:
    """What stands for the operands of a node that PyTorch computes in another type than they have."""
    dtype = common_type(node)
    if dtype is None:
        return {}
    first = 1 if _operator(node) == "where" else 0
    return {
        operand: emit(relax.op.astype(values[operand], str(dtype).removeprefix("torch.")))
        for operand in dict.fromkeys(node.args[first:])
        if isinstance(operand, fx.Node) and isinstance(_value(operand), torch.Tensor) and _value(operand).dtype != dtype
    }


def common_type(node: fx.Node) -> torch.dtype | None:
    """The type that PyTorch computes a node's operands in; None for operators that do not bring them to one."""
    operator = _operator(node)
    if not isinstance(_value(node), torch.Tensor):  # a number that was read out of a tensor
        return None
    if operator in _ARITHMETIC:
        return _value(node).dtype
    if operator in _COMPARISONS:
        left, right = (_value(operand) for operand in node.args[:2])
        dtype = torch.result_type(left, right)
        # LLVM has no comparison of bits
        return torch.int32 if dtype == torch.bool else dtype
    return None


def _operator(node: fx.Node) -> str:
    packet = getattr(node.target, "overloadpacket", None)
    return str(packet).removeprefix("aten.") if packet is not None else ""


def _value(operand: Any) -> Any:
    return operand.meta.get("val") if isinstance(operand, fx.Node) else operand
