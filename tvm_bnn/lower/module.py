"""The whole function: a Relax module whose ``main`` only calls kernels.

Each region becomes one ``call_tir``. Values between kernels take the layout that suits them; a view that a kernel
cannot read in place (bits that straddle words, an operator without a kernel of ours, a result in PyTorch's layout) is
stored by a copy kernel first. Operators without a kernel of ours stay Relax calls on plain tensors, for TVM to lower.
"""

from dataclasses import dataclass

import numpy as np
import tvm
import tvm_ffi
from tvm import relax

from tvm_bnn.lower.anchors import builder_of
from tvm_bnn.lower.anchors.convolution import multiplied
from tvm_bnn.lower.anchors.reduction import summed_bits
from tvm_bnn.lower.argmax_resize import argmax_of_resize
from tvm_bnn.lower.in_place import write_in_place
from tvm_bnn.lower.kernel import Kernel, KernelBuilder
from tvm_bnn.lower.layout import WORD, Layout, choose_layout, padded_channels, stored_dtype, stored_shape
from tvm_bnn.lower.matrix import TILE_CHANNELS
from tvm_bnn.lower.memory_order import memory_order
from tvm_bnn.lower.reader import Reader
from tvm_bnn.lower.words import has_words
from tvm_bnn.relay_passes.hoist_upsample import is_pointwise
from tvm_bnn.relay_passes.partition import Kernels, Partition, Region, partition
from tvm_bnn.relay_passes.readers import operands
from tvm_bnn.relay_passes.rewriter import dtype_of, op_name, shape_of


@dataclass
class Lowered:
    """A module of kernels before scheduling.

    family_of : kernel name -> family of schedules.
    kernel_of : name of a source value -> name of the kernel that makes it.
    """

    module: tvm.IRModule
    family_of: dict[str, str]
    kernel_of: dict[str, str]


def _kernels(target) -> Kernels:
    """What the families of schedules can do for a target."""

    def matrix(call: relax.Call) -> bool:
        return op_name(call) == "bnn.bconv2d" and multiplied(call, target, {})

    def pairs(first: relax.Call, second: relax.Call) -> bool:
        if op_name(second) == "bnn.weighted_mean":
            return op_name(first) == "bnn.bmatmul"
        if op_name(second) == "bnn.bmatmul":
            whole_words = min(padded_channels(shape_of(call)[1]) for call in (first, second)) >= WORD
            return op_name(first) == "bnn.bmatmul" and whole_words
        whole_tiles = matrix(first) and shape_of(first)[1] % TILE_CHANNELS == 0
        return whole_tiles and matrix(second) and is_pointwise(second)

    def sum_rows(call: relax.Call) -> bool:
        return op_name(call) == "bnn.bconv2d" and (matrix(call) or padded_channels(shape_of(call)[1]) >= WORD)

    def masks(call: relax.Call) -> bool:
        return shape_of(call)[1] >= WORD

    def take_members(call: relax.Call) -> bool:
        return builder_of(call) is not None

    if target.gpu is not None:
        return Kernels(take_members=take_members, absorbs=lambda resize: True, keeps_rows=False)
    return Kernels(take_members=take_members, pairs=pairs, sum_rows=sum_rows, masks=masks)


class _Lowering:
    def __init__(self, module: tvm.IRModule, target) -> None:
        self.function = module["main"]
        self.partition: Partition = partition(self.function, _kernels(target))
        self.layout_of: dict[relax.Var, Layout] = dict.fromkeys(self.function.params, Layout.PLAIN)
        self.target = target
        self.builder = relax.BlockBuilder()
        self.kernels = KernelBuilder(self.partition, self.layout_of, target)
        self.value: dict[relax.Var, relax.Expr] = {}
        self.kernel_of: dict[str, str] = {}
        self.family_of: dict[str, str] = {}
        calls = [value for value in self.partition.definition.values() if op_name(value) == "bnn.bmatmul"]
        self._packed = {operand for call in calls for operand in operands(call)}
        self._shared: dict[object, relax.GlobalVar] = {}
        self._constants: dict[tuple, relax.Expr] = {}

    def run(self) -> Lowered:
        params = [relax.Var(p.name, p.ty) for p in self.function.params]
        self.value.update(zip(self.function.params, params, strict=True))
        with self.builder.function("main", params):
            with self.builder.dataflow():
                for region in self.partition.regions:
                    if region.outputs:  # else nobody reads what it makes
                        self._region(region)
                output = self.builder.emit_output(self._result(self.function.body.body))
            self.builder.emit_func_output(output)
        return Lowered(self.builder.get(), self.family_of, self.kernel_of)

    def _region(self, region: Region) -> None:
        if region.anchor is not None:
            call = self.partition.definition[region.anchor]
            if region.absorbed is not None and self.target.gpu is None:
                self._argmax_of_resize(region, call)
                return
            if builder_of(call) is None:
                self._foreign(region.anchor, call)
                return
            counted = summed_bits(call, self.partition.definition)
            if counted in self._packed:
                self._make_words_readable(counted)
        for anchor in [*region.anchors, *(region.source.anchors if region.source else [])]:
            call = self.partition.definition[anchor]
            for operand in {"bnn.bconv2d": call.args[:1], "bnn.bmatmul": call.args}.get(op_name(call), []):
                if self.partition.region_of.get(operand) is not region:
                    self._make_words_readable(operand)
        for var in region.outputs:
            self.layout_of[var] = choose_layout(shape_of(var), dtype_of(var))
        self._emit(self.kernels.region(region))
        name = self.kernel_of.get(region.outputs[0].name, "") if region.outputs else ""
        for var in region.values:
            self.kernel_of.setdefault(var.name, name)

    def _argmax_of_resize(self, region: Region, call: relax.Call) -> None:
        resize = self.partition.definition[region.absorbed]
        data = resize.args[0]
        if self.layout_of.get(data) is not Layout.MAP:
            self._store(data, Layout.MAP)
        self.layout_of[region.anchor] = Layout.PLAIN
        self._emit(argmax_of_resize(region.anchor, call, resize, self.target))

    def _foreign(self, anchor: relax.Var, call: relax.Call) -> None:
        """An operator that TVM lowers: plain tensors in, plain tensors out."""

        def plain(expr: relax.Expr) -> relax.Expr:
            if isinstance(expr, relax.Tuple):
                return relax.Tuple([plain(field) for field in expr.fields])
            return self._plain(expr) if isinstance(expr, relax.Var) else expr

        called = relax.Call(call.op, [plain(a) for a in call.args], call.attrs, call.ty_args, call.span)
        self.value[anchor] = self.builder.emit(called)
        self.kernel_of[anchor.name] = f"tvm:{op_name(call)}"
        self.layout_of[anchor] = Layout.PLAIN

    def _make_words_readable(self, data: relax.Expr) -> None:
        if not has_words(Reader(self.partition, self.layout_of, None), data):
            self._store(data, Layout.BITS)

    def _store(self, var: relax.Var, layout: Layout) -> None:
        """Copy a value into a layout of its own; its readers then find it there."""
        self._emit(self.kernels.copy(var, layout))
        self.layout_of[var] = layout

    def _plain(self, var: relax.Var) -> relax.Expr:
        if self.layout_of.get(var) is Layout.PLAIN:
            return self.value[var]
        stored = self._stored_alike(var)
        if stored is not None:
            return self.builder.emit(relax.op.reshape(self.value[stored], shape_of(var)))
        kernel = self.kernels.copy(var, Layout.PLAIN)
        return self._call(kernel)[0]

    def _stored_alike(self, var: relax.Var) -> relax.Var | None:
        """A stored value whose memory holds var's elements in var's own order, if there is one."""
        if dtype_of(var) == "bool":
            return None
        found = memory_order(var, self.layout_of, self.partition.definition, computed=False)
        if found is None or found[0] in self.function.params or found[1].moves:
            return None
        return found[0]

    def _result(self, expr: relax.Expr) -> relax.Expr:
        bound = self.partition.definition.get(expr, expr) if isinstance(expr, relax.Var) else expr
        if isinstance(bound, relax.Tuple):
            return relax.Tuple([self._result(field) for field in bound.fields])
        if isinstance(expr, relax.Var):
            return self._plain(expr)
        return expr

    def _emit(self, kernel: Kernel) -> None:
        for (var, _), value in zip(kernel.outputs, self._call(kernel), strict=True):
            self.value[var] = value

    def _call(self, kernel: Kernel) -> list[relax.Expr]:
        name = self._add(kernel)
        for var, _ in kernel.outputs:
            self.kernel_of.setdefault(var.name, name.name_hint)
        types = [
            relax.TensorType(stored_shape(shape_of(var), layout), stored_dtype(dtype_of(var), layout))
            for var, layout in kernel.outputs
        ]
        arguments = [self._argument(argument) for argument in kernel.arguments]
        call = relax.call_tir(name, arguments, types if len(types) > 1 else types[0])
        result = self.builder.emit(call)
        if len(types) == 1:
            return [result]
        return [self.builder.emit(relax.TupleGetItem(result, i)) for i in range(len(types))]

    def _add(self, kernel: Kernel) -> relax.GlobalVar:
        """Add a kernel to the module; structurally equal ones are shared."""
        key = (tvm_ffi.structural_hash(kernel.func.without_attr("global_symbol")), kernel.family)
        if key not in self._shared:
            var = self.builder.add_func(kernel.func.without_attr("global_symbol"), kernel.name)
            self._shared[key] = var
            self.family_of[var.name_hint] = kernel.family
        return self._shared[key]

    def _argument(self, argument: relax.Var | np.ndarray) -> relax.Expr:
        if isinstance(argument, relax.Var):
            return self.value[argument]
        key = (argument.shape, str(argument.dtype), argument.tobytes())
        if key not in self._constants:
            self._constants[key] = relax.const(np.ascontiguousarray(argument))
        return self._constants[key]


def lower(module: tvm.IRModule, target, in_place: bool = True) -> Lowered:
    """Lower ``main`` to kernels for a target; in_place : let them write over maps that nobody reads any more."""
    lowered = _Lowering(module, target).run()
    if in_place:
        lowered.module = write_in_place(lowered.module, lowered.family_of)
    return lowered
