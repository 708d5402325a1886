"""The least time that a network can take on a machine whose limits are measured.

    limit = binary multiply-accumulates / popcount ceiling + float multiply-accumulates / FMA ceiling
            + those of int8 or bfloat16 operands / the best ceiling that the machine has for them
            + sum over the tensors that must exist of  bytes / copy bandwidth at that size

Both kinds of arithmetic share the processor's vector units, and today's kernels overlap memory and arithmetic only
within a layer, so the parts are added. Multiply-accumulates count padded taps, and no operator but products has a
cost: the limit is meant to be too low rather than too high.

*Which tensors must exist* is a fact of the network, not of how it happens to be fused. Contractions (convolutions,
matrix products) run one after the other; anything else can be computed on the way into or out of them. Then a value
has to be stored where

1. a contraction reads it (of a product of two activations the second operand: rows of the first can be made as they
   are read), or
2. an operator reads it together with the outcome of a contraction, or of a reduction over the whole map, that starts
   from it: the residual around a convolution, the map that attention weighs by its own mean.

Instead of a value, what it is computed from is stored where that is smaller or stored anyway: a map before its
upsampling, or before its sign. Inputs, outputs and constants exist too. Bits are charged as bits. Each tensor is moved
once: its bytes are charged once, at a bandwidth that counts bytes read plus bytes written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import tvm
from tvm import relax

from tvm_bnn.relay_passes.fold_constants import is_constant
from tvm_bnn.relay_passes.readers import operands
from tvm_bnn.relay_passes.rewriter import bindings_of, dtype_of, op_name, shape_of
from tvm_bnn.report.machine import Limits

CONTRACTIONS = frozenset(
    "bnn.bconv2d bnn.bmatmul bnn.weighted_mean relax.nn.conv1d relax.nn.conv2d relax.nn.conv3d "
    "relax.nn.conv2d_transpose relax.matmul relax.nn.attention".split()
)
#: Products of two activations, of which rows of the first can be made as they are read.
PRODUCTS = frozenset({"bnn.bmatmul", "bnn.weighted_mean"})
#: Reductions; those over more than the channels end only when the whole map is known.
REDUCTIONS = frozenset("relax.mean relax.sum relax.max relax.min relax.nn.softmax relax.nn.adaptive_avg_pool2d".split())
CHANNELS = 1
#: Binary multiply-accumulates that papers count as one operation: those of a machine word.
WORD = 64


@dataclass
class Work:
    """What a network has to do at least.

    binary_macs, float_macs : of one inference. int8_macs, bfloat16_macs : of float layers on bytes, or on bfloat16.
    tensors : name -> bytes of every tensor that must exist; constants together have the name "constants".
    """

    binary_macs: int = 0
    float_macs: int = 0
    tensors: dict[str, float] = field(default_factory=dict)
    int8_macs: int = 0
    bfloat16_macs: int = 0

    def seconds(self, limits: Limits) -> float:
        """The limit on a machine."""
        computing = [
            (self.binary_macs, limits.binary),
            (self.float_macs, limits.fp32),
            (self.int8_macs, max(limits.fp32, limits.int8 or 0, limits.tiles or 0)),
            (self.bfloat16_macs, max(limits.fp32, (limits.tiles or 0) / 2)),  # half as many fit a tile
        ]
        return sum(macs / rate for macs, rate in computing) + self.moving(limits)

    def bound(self, limits: Limits) -> Literal["compute", "bandwidth"]:
        """Which part of the limit is the larger one."""
        return "bandwidth" if 2 * self.moving(limits) > self.seconds(limits) else "compute"

    def moving(self, limits: Limits) -> float:
        """The part of it that moves tensors, in seconds."""
        return sum(size / limits.bandwidth(size) for size in self.tensors.values())


def work_of(module: tvm.IRModule) -> Work:
    """The work in `main` of an optimised module of Relax operators (before lowering), shapes static."""
    return _Walk(module["main"]).work


class _Walk:
    """One walk over the bindings. `behind[v]`: what v depends on through a contraction or a whole-map reduction."""

    def __init__(self, function: relax.Function) -> None:
        self.work = Work()
        self.definition: dict[relax.Var, relax.Expr] = {}
        self.ancestors: dict[relax.Var, frozenset[relax.Var]] = {}
        self.behind: dict[relax.Var, frozenset[relax.Var]] = {}
        self.stored: set[relax.Var] = set()
        for param in function.params:
            self.ancestors[param] = self.behind[param] = frozenset()
            self._store({param})
        for binding in bindings_of(function):
            self._bind(binding.var, binding.value)
        for result in operands(function.body.body):
            # a tuple of results is no tensor
            tuple_of = self.definition.get(result)
            self._store(set(operands(tuple_of)) if isinstance(tuple_of, relax.Tuple) else {result})

    def _bind(self, var: relax.Var, value: relax.Expr) -> None:
        self.definition[var] = value
        read = list(dict.fromkeys(operands(value)))
        self._count(value)
        for operand in read:
            if op_name(value) in CONTRACTIONS and (op_name(value) not in PRODUCTS or operand in value.args[1:]):
                self._store(self._origins(operand))
            for other in read:
                if other is not operand:
                    self._hold(operand, self.behind[other], set())
        own = frozenset(read).union(*(self.ancestors[operand] for operand in read))
        inherited: frozenset[relax.Var] = frozenset().union(*(self.behind[operand] for operand in read))
        self.ancestors[var] = own
        self.behind[var] = own if self._is_barrier(value) else inherited

    def _is_barrier(self, value: relax.Expr) -> bool:
        name = op_name(value)
        if name in CONTRACTIONS:
            return True
        if name not in REDUCTIONS:
            return False
        axis = getattr(value.attrs, "axis", None)
        axes = [axis] if isinstance(axis, int) else [int(each) for each in axis or ()]
        return axes != [CHANNELS]

    def _is_local(self, var: relax.Var) -> bool:
        """Whether var can be computed wherever its operands are at hand."""
        return var in self.definition and not self._is_barrier(self.definition[var])

    def _hold(self, var: relax.Var, started: frozenset[relax.Var], seen: set[relax.Var]) -> None:
        """Store what var is made of and what something else, now finished, started from."""
        if not started or var in seen:
            return
        seen.add(var)
        if var in started:
            self._store(self._origins(var))
        elif self._is_local(var):
            for operand in operands(self.definition[var]):
                self._hold(operand, started, seen)

    def _origins(self, var: relax.Var, known: dict[relax.Var, set[relax.Var]] | None = None) -> set[relax.Var]:
        """The cheapest values to store so that var can be computed. `known`: answers of this search so far."""
        known = {} if known is None else known
        if var not in known:
            known[var] = set() if var in self.stored else {var}
            if known[var] and self._is_local(var):
                made_of = (self._origins(each, known) for each in operands(self.definition[var]))
                below: set[relax.Var] = set().union(*made_of)
                if sum(map(_size, below)) < _size(var):
                    known[var] = below
        return known[var]

    def _store(self, values: set[relax.Var]) -> None:
        for var in values - self.stored:
            self.stored.add(var)
            self.work.tensors[var.name] = _size(var)

    def _count(self, value: relax.Expr) -> None:
        constants = [argument for argument in getattr(value, "args", ()) if is_constant(argument)]
        if constants:
            size = sum(map(_size, constants))
            self.work.tensors["constants"] = self.work.tensors.get("constants", 0.0) + size
        if is_binary(value):
            self.work.binary_macs += macs(value)
        elif op_name(value) in CONTRACTIONS and dtype_of(value.args[0]) == "int8":
            self.work.int8_macs += macs(value)
        elif op_name(value) in CONTRACTIONS and op_name(self.definition.get(value.args[0])) == "bnn.bfloat16":
            self.work.bfloat16_macs += macs(value)
        elif op_name(value) in CONTRACTIONS:
            self.work.float_macs += macs(value)


def _size(expr: relax.Expr) -> float:
    """Bytes; a bool is a bit. 0 of what is no tensor."""
    if not isinstance(expr.ty, relax.TensorType):
        return 0.0
    dtype = dtype_of(expr)
    return math.prod(shape_of(expr)) * (1 / 8 if dtype == "bool" else tvm.DataType(dtype).itemsize)


def is_binary(value: relax.Expr) -> bool:
    """Whether it is a contraction of bits."""
    return op_name(value) in ("bnn.bconv2d", "bnn.bmatmul")


def macs(call: relax.Call) -> int:
    """Multiply-accumulates of a contraction, padded taps included."""
    out, first, second = (math.prod(shape_of(each)) for each in (call, *call.args[:2]))
    name = op_name(call)
    if name == "bnn.bmatmul":
        return out * shape_of(call.args[0])[1]
    if name == "bnn.weighted_mean":  # [B, keys, H, W] and [B, C, 1, keys]
        return out * shape_of(call.args[0])[1]
    if name == "relax.matmul":
        return out * shape_of(call.args[0])[-1]
    if name == "relax.nn.conv2d_transpose":
        return first * math.prod(shape_of(call.args[1])[1:])
    if name == "relax.nn.attention":
        batch, queries, heads, width = shape_of(call.args[0])
        return 2 * batch * heads * queries * shape_of(call.args[1])[1] * width
    return out * second // shape_of(call.args[1])[0]
