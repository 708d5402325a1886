"""Fuse: cut the graph into regions, each of which becomes one kernel.

A region is at most one *anchor* (convolution, pooling, reduction, resize ...) and elementwise members behind it that
share its shape. An elementwise operator joins the *latest* region among those that its operands come from. That keeps
the graph of regions free of cycles without any search: number regions by creation; a member's operands all come from
its own region or from lower numbers, so region g only ever reads regions below g.

*Views* (reshape, slice, concat, nearest resize, ...) belong to no region: whoever reads a view computes where its
elements lie. A value is an output of its region when another region, or the caller, reads it, directly or through
views.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from tvm import relax

from tvm_bnn.relay_passes.elementwise import ELEMENTWISE
from tvm_bnn.relay_passes.fold_constants import is_constant
from tvm_bnn.relay_passes.hoist_upsample import is_nearest
from tvm_bnn.relay_passes.readers import operands, readers_of
from tvm_bnn.relay_passes.rewriter import bindings_of, op_name, shape_of

#: Rearrangements that readers resolve by index arithmetic.
VIEWS = frozenset(
    "relax.reshape relax.permute_dims relax.expand_dims relax.squeeze relax.strided_slice relax.concat relax.split "
    "relax.broadcast_to relax.nn.pad relax.take relax.tile relax.flatten relax.flip bnn.border_bias".split()
)


def is_view(expr: relax.Expr) -> bool:
    """Whether a bound expression is resolved by its readers."""
    if op_name(expr) == "relax.take":  # by picks that are known, along one axis
        picks = expr.args[1]
        return expr.attrs.axis is not None and is_constant(picks) and len(shape_of(picks)) < 2
    return isinstance(expr, relax.TupleGetItem | relax.Tuple) or op_name(expr) in VIEWS or is_nearest(expr)


@dataclass
class Region:
    """One kernel-to-be: anchor (None for a purely elementwise region), members in order, outputs in order.

    absorbed : a linear resize that only the anchor reads, an argmax over the channels: full-resolution logits are then
    never stored. Such a region takes no members.
    """

    index: int
    shape: tuple[int, ...]
    anchor: relax.Var | None = None
    members: list[relax.Var] = field(default_factory=list)
    outputs: list[relax.Var] = field(default_factory=list)
    absorbed: relax.Var | None = None


@dataclass
class Partition:
    """Regions in an order in which they can run, and what every variable is bound to."""

    regions: list[Region]
    definition: dict[relax.Var, relax.Expr]
    region_of: dict[relax.Var, Region]


def absorbed_resizes(function: relax.Function) -> set[relax.Var]:
    """Linear resizes of at most 64 channels whose one reader is an argmax over the channels."""
    readers, found = readers_of(function), set()
    for binding in bindings_of(function):
        value = binding.value
        if op_name(value) != "relax.image.resize2d" or str(value.attrs.method) != "linear":
            continue
        if not 4 < shape_of(value)[1] <= 64 or len(readers[binding.var]) != 1:
            continue
        (reader,) = readers[binding.var]
        if reader is not None and op_name(reader.value) == "relax.argmax":
            attrs = reader.value.attrs
            if int(attrs.axis) == 1 and not attrs.keepdims:
                found.add(binding.var)
    return found


class _Partitioner:
    def __init__(self, function: relax.Function, takes_members: Callable[[relax.Call], bool]) -> None:
        self.function = function
        self.takes_members = takes_members
        self.definition: dict[relax.Var, relax.Expr] = {}
        self.regions: list[Region] = []
        self.region_of: dict[relax.Var, Region] = {}
        self.depends: dict[relax.Var, int] = {param: -1 for param in function.params}
        self.absorbed = absorbed_resizes(function)

    def run(self) -> Partition:
        for binding in bindings_of(self.function):
            var, value = binding.var, binding.value
            self.definition[var] = value
            passed_on = not isinstance(value, relax.Call) or is_view(value) or var in self.absorbed
            if passed_on:
                self.depends[var] = max((self.depends[operand] for operand in operands(value)), default=-1)
            elif op_name(value) in ELEMENTWISE:
                self._place(var, value)
            else:
                self._new_region(var, anchor=var)
                self.regions[-1].absorbed = next((o for o in operands(value) if o in self.absorbed), None)
        self._find_outputs()
        return Partition(self.regions, self.definition, self.region_of)

    def _place(self, var: relax.Var, value: relax.Call) -> None:
        latest = max((self.depends[operand] for operand in operands(value)), default=-1)
        region = self.regions[latest] if latest >= 0 else None
        direct = [o for o in operands(value) if self.depends[o] == latest]
        if (
            region is None
            or region.absorbed is not None
            or (region.anchor is not None and not self.takes_members(self.definition[region.anchor]))
            or region.shape != shape_of(var)
            or any(self.region_of.get(operand) is not region for operand in direct)
        ):
            self._new_region(var)
            return
        region.members.append(var)
        self.region_of[var] = region
        self.depends[var] = region.index

    def _new_region(self, var: relax.Var, anchor: relax.Var | None = None) -> None:
        shape = shape_of(var) if isinstance(var.ty, relax.TensorType) else ()
        region = Region(len(self.regions), shape, anchor, [] if anchor is not None else [var])
        self.regions.append(region)
        self.region_of[var] = region
        self.depends[var] = region.index

    def _find_outputs(self) -> None:
        wanted: set[relax.Var] = set()

        def want(var: relax.Var, reader: Region | None) -> None:
            region = self.region_of.get(var)
            if region is not None:
                if region is not reader:
                    wanted.add(var)
                return
            for operand in operands(self.definition[var]) if var in self.definition else ():
                want(operand, None)

        for var, region in self.region_of.items():
            for operand in operands(self.definition[var]):
                want(operand, region)
        for var in operands(self.function.body.body):
            want(var, None)
        for region in self.regions:
            everything = ([region.anchor] if region.anchor is not None else []) + region.members
            region.outputs = [var for var in everything if var in wanted]


def partition(function: relax.Function, takes_members: Callable[[relax.Call], bool] = lambda call: True) -> Partition:
    """Cut a straight-line function into regions.

    takes_members : whether elementwise operators may join the region of an anchor.
    """
    return _Partitioner(function, takes_members).run()
