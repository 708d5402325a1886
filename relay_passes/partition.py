"""Fuse: cut the graph into regions, each of which becomes one kernel.

A region is at most one *anchor* (convolution, pooling, reduction, resize ...) and elementwise members behind it that
share its shape. An elementwise operator joins the *latest* region among those that its operands come from. That keeps
the graph of regions free of cycles without any search: number regions by creation; a member's operands all come from
its own region or from lower numbers, so region g only ever reads regions below g. Predicates of the same maps (signs of
branches, each with thresholds of its own) are then one region, which reads these maps once.

Where members add results of two binary convolutions, the later region takes in the earlier one, so that neither result
is ever stored, as long as nothing before the later region reads the earlier one. So it does where both read the same
map of numbers element for element (branches that each add a convolution of bits of their own to one shortcut): the map
is then read once. So do regions without an anchor, such as the sum of maps of which each is weighed by itself first.

A region that only one other reads may be its *source*, made in its kernel a few rows at a time: a float convolution (a
stem) whose large map only a max-pooling reads; a binary convolution whose bits 1x1 convolutions read, or scores of an
attention whose bits the product with the values reads, where the target has a kernel for that. So may the maps of
branches over which a mask is spread that was made of them, position by position (attention over positions): neither the
maps nor the mask are then stored.

*Views* (reshape, slice, concat, nearest resize, ...) belong to no region: whoever reads a view computes where its
elements lie. A value is an output of its region when another region, or the caller, reads it, directly or through
views.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod

from tvm import relax

from tvm_bnn.relay_passes.elementwise import ELEMENTWISE
from tvm_bnn.relay_passes.fold_constants import is_constant
from tvm_bnn.relay_passes.hoist_upsample import is_nearest
from tvm_bnn.relay_passes.readers import operands, readers_of
from tvm_bnn.relay_passes.rewriter import bindings_of, dtype_of, op_name, shape_of
from tvm_bnn.relay_passes.simplify_views import REDUCTIONS

#: Convolutions that one kernel adds up.
MOST_SUMMANDS = 8
#: Filters that read a row of computed input, so that it is computed once.
MOST_READERS = 32
#: Elements of a map that does not stay in a cache until it is pooled.
LARGE_MAP = 1 << 18
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


@dataclass(eq=False)
class Region:
    """One kernel-to-be: anchor (None for a purely elementwise region), members in order, outputs in order.

    branches : earlier convolutions of the same shape whose results members add to the anchor's, or to a map that other
    members add to the anchor's; none is ever stored.
    joints : with branches, or a source whose maps members read, the members through which all outputs depend on them:
    one that joins them, or a value of each branch alone (several outputs may mix these in different ways, as gates do).
    row_sums : sums along the rows of a member's map, added up where the map is made.
    source : the region of a convolution that only this one reads, a few rows of it at a time.
    mask : the region of a float 1x1 convolution of the source's maps, with one filter, that members spread over these
    maps. Such a region has no anchor, and its source has joints.
    absorbed : a linear resize that only the anchor reads, an argmax over the channels: full-resolution logits are then
    never stored. Such a region takes no members.
    """

    index: int
    shape: tuple[int, ...]
    anchor: relax.Var | None = None
    members: list[relax.Var] = field(default_factory=list)
    outputs: list[relax.Var] = field(default_factory=list)
    branches: list[relax.Var] = field(default_factory=list)
    joints: list[relax.Var] = field(default_factory=list)
    absorbed: relax.Var | None = None
    source: "Region | None" = None
    mask: "Region | None" = None
    row_sums: list[relax.Var] = field(default_factory=list)

    @property
    def anchors(self) -> list[relax.Var]:
        """The anchor and its branches."""
        return [] if self.anchor is None else [self.anchor, *self.branches]

    @property
    def values(self) -> list[relax.Var]:
        """All that the region computes, in order."""
        made_before = [var for part in (self.source, self.mask) if part is not None for var in part.values]
        return [*made_before, *self.anchors[::-1], *self.members, *self.row_sums]

    @property
    def is_elementwise(self) -> bool:
        """Whether its kernel computes members alone."""
        return self.anchor is None and self.source is None


#: For each value of a region: the regions that read it, None for the caller, and whether through a view.
Reading = dict[relax.Var, list[tuple[Region | None, bool]]]


@dataclass
class Partition:
    """Regions in an order in which they can run, and what every variable is bound to."""

    regions: list[Region]
    definition: dict[relax.Var, relax.Expr]
    region_of: dict[relax.Var, Region]


def absorbed_resizes(function: relax.Function) -> set[relax.Var]:
    """Linear resizes whose one reader is an argmax over the channels."""
    readers, found = readers_of(function), set()
    for binding in bindings_of(function):
        value = binding.value
        if op_name(value) != "relax.image.resize2d" or str(value.attrs.method) != "linear":
            continue
        if len(readers[binding.var]) != 1:
            continue
        (reader,) = readers[binding.var]
        if reader is not None and op_name(reader.value) == "relax.argmax":
            attrs = reader.value.attrs
            if int(attrs.axis) == 1 and not attrs.keepdims:
                found.add(binding.var)
    return found


@dataclass(frozen=True)
class Kernels:
    """What a target's kernels can do, asked of an anchor's call.

    take_members : whether elementwise operators may join its region.
    pairs : whether a second binary sum, which reads bits of a first one, can share its kernel row by row.
    sum_rows : whether its region can add up the rows of its maps.
    masks : whether the kernel of a binary sum can make a mask of its map and spread it, a few pixels at a time.
    absorbs : whether an argmax over its channels, which alone reads it, can compute a linear resize.
    keeps_rows : whether a kernel can keep a few rows of a convolution that is pooled or followed.
    """

    take_members: Callable[[relax.Call], bool] = lambda call: True
    pairs: Callable[[relax.Call, relax.Call], bool] = lambda first, second: False
    sum_rows: Callable[[relax.Call], bool] = lambda call: False
    masks: Callable[[relax.Call], bool] = lambda call: False
    absorbs: Callable[[relax.Call], bool] = lambda resize: 4 < shape_of(resize)[1] <= 64
    keeps_rows: bool = True


class _Partitioner:
    def __init__(self, function: relax.Function, kernels: Kernels) -> None:
        self.function = function
        self.kernels = kernels
        self.definition: dict[relax.Var, relax.Expr] = {}
        self.regions: list[Region] = []
        self.region_of: dict[relax.Var, Region] = {}
        self.depends: dict[relax.Var, int] = {param: -1 for param in function.params}
        self.resizes = absorbed_resizes(function)
        self.absorbed: set[relax.Var] = set()

    def run(self) -> Partition:
        for binding in bindings_of(self.function):
            var, value = binding.var, binding.value
            self.definition[var] = value
            if var in self.resizes and self.kernels.absorbs(value):
                self.absorbed.add(var)
            passed_on = not isinstance(value, relax.Call) or is_view(value) or var in self.absorbed
            if passed_on:
                self.depends[var] = max((self.depends[operand] for operand in operands(value)), default=-1)
            elif op_name(value) in ELEMENTWISE:
                self._place(var, value)
            elif self._adds_rows(value):
                region = self.region_of[value.args[0]]
                region.row_sums.append(var)
                self.region_of[var], self.depends[var] = region, region.index
            else:
                self._new_region(var, anchor=var)
                self.regions[-1].absorbed = next((o for o in operands(value) if o in self.absorbed), None)
        self._merge_where(self._adds_up)
        self._merge_where(self._has_its_maps)
        self._take_sources()
        self._take_masked_maps()
        self._compute_rows()
        self._compute_where_read()
        self._merge_where(self._has_maps)  # later: what a reader computes is not stored
        self._compare_together()
        self._find_outputs()
        return Partition(self.regions, self.definition, self.region_of)

    def _place(self, var: relax.Var, value: relax.Call) -> None:
        latest = max((self.depends[operand] for operand in operands(value)), default=-1)
        region = self.regions[latest] if latest >= 0 else None
        direct = [o for o in operands(value) if self.depends[o] == latest]
        if (
            region is None
            or region.absorbed is not None
            or (region.anchor is not None and not self.kernels.take_members(self.definition[region.anchor]))
            or region.shape != shape_of(var)
            or any(self.region_of.get(operand) is not region for operand in direct)
        ):
            self._new_region(var)
            return
        region.members.append(var)
        self.region_of[var] = region
        self.depends[var] = region.index

    def _adds_rows(self, value: relax.Call) -> bool:
        """Whether a sum along rows joins the region that makes the map."""
        if op_name(value) != "relax.sum" or not value.attrs.keepdims or [int(a) for a in value.attrs.axis or ()] != [3]:
            return False
        region = self.region_of.get(value.args[0]) if isinstance(value.args[0], relax.Var) else None
        if region is None or region.anchor is None or value.args[0] not in region.members:
            return False
        return self._is_plain_sum(region.anchor) and self.kernels.sum_rows(self.definition[region.anchor])

    def _new_region(self, var: relax.Var, anchor: relax.Var | None = None) -> None:
        shape = shape_of(var) if isinstance(var.ty, relax.TensorType) else ()
        region = Region(len(self.regions), shape, anchor, [] if anchor is not None else [var])
        self.regions.append(region)
        self.region_of[var] = region
        self.depends[var] = region.index

    def _merge_where(self, may: Callable[[Region, Region, Reading], bool]) -> None:
        """Let a region whose members read another one, or what that one reads, element for element take that region
        in, where it may.
        """
        reading = self._reading()
        for index in range(len(self.regions)):
            region, merged = self.regions[index], True
            while merged and region.index == index:  # what has been merged stands in its region's place
                merged = False
                for earlier in [*self._summands(region), *self._siblings(region, reading)]:
                    if self._may_follow(earlier, region, reading) and may(earlier, region, reading):
                        self._merge(earlier, region, self._joints_of_sum(earlier, region, reading))
                        merged = True
                        break

    def _reading(self) -> Reading:
        """Who reads what, of the regions as they are."""
        reading: Reading = {var: [] for var in self.region_of}

        def note(var: relax.Var, reader: Region | None, through_view: bool) -> None:
            if var in reading:
                reading[var].append((reader, through_view))
            elif var in self.definition:
                for operand in operands(self.definition[var]):
                    note(operand, reader, True)

        for var, region in self.region_of.items():
            for operand in operands(self.definition[var]):
                note(operand, region, var in region.anchors)
        for var in operands(self.function.body.body):
            note(var, None, False)
        return reading

    def _summands(self, region: Region) -> list[Region]:
        """Other regions that members read directly, the last first."""
        found = {
            other.index: other
            for member in region.members
            for operand in operands(self.definition[member])
            if (other := self.region_of.get(operand)) is not None and other is not region
        }
        return [found[index] for index in sorted(found, reverse=True)]

    def _siblings(self, region: Region, reading: Reading) -> list[Region]:
        """Regions before that of a convolution whose members read a map of numbers that its members read, the last
        first.
        """
        if region.anchor is None:
            return []
        maps = {
            operand
            for member in region.members
            for operand in operands(self.definition[member])
            if self.region_of.get(operand) not in (None, region)
            and shape_of(operand) == region.shape
            and dtype_of(operand) == "float32"
        }
        readers = (self._home(reader) for var in maps for reader, through_view in reading[var] if not through_view)
        found = {other.index: other for other in readers if other is not None and other.index < region.index}
        return [found[index] for index in sorted(found, reverse=True)]

    def _may_follow(self, earlier: Region, region: Region, reading: Reading) -> bool:
        """Whether a region can be computed no sooner than a later one of its shape, element for element with it."""
        if earlier.shape != region.shape or len(region.shape) != 4:
            return False
        for var in earlier.values:
            for reader, through_view in reading[var]:
                home = self._home(reader)
                if home is region and through_view:
                    return False
                if home is not None and home is not earlier and home.index < region.index:
                    return False
        return True

    def _adds_up(self, earlier: Region, region: Region, reading: Reading) -> bool:
        """Whether one kernel can add up the convolutions of both."""
        if not earlier.anchors or not region.anchors or region.shape[1] < 32:
            return False
        anchors = [*earlier.anchors, *region.anchors]
        if len(anchors) > MOST_SUMMANDS or not all(map(self._is_plain_sum, anchors)):
            return False
        return bool(self._joints_of_sum(earlier, region, reading))

    def _has_maps(self, earlier: Region, region: Region, reading: Reading) -> bool:
        """Whether both are elementwise."""
        return earlier.is_elementwise and region.is_elementwise

    def _has_its_maps(self, earlier: Region, region: Region, reading: Reading) -> bool:
        """Whether both are elementwise, and no other region reads the earlier one."""
        homes = {self._home(reader) for var in earlier.values for reader, _ in reading[var]}
        return self._has_maps(earlier, region, reading) and homes <= {earlier, region}

    def _take_sources(self) -> None:
        """Let a max-pooling, a 1x1 convolution or a product take in the sum that it alone reads."""
        if not self.kernels.keeps_rows:
            return
        reading = self._reading()
        for region in list(self.regions):
            source = self._poolable(region, reading) or self._followed(region, reading)
            if source is None:
                continue
            if self._reads_maps(region, source):
                region.joints = self._joint_of_rows(source, region, reading)
            region.source = source
            for var in source.values:
                self.region_of[var] = region
            self.regions[source.index] = region

    def _poolable(self, region: Region, reading) -> Region | None:
        """The convolution that a region pools, if nothing else reads it and it is worth a loop of its own."""
        if region.anchor is None or op_name(self.definition[region.anchor]) != "relax.nn.max_pool2d":
            return None
        data, attrs = self.definition[region.anchor].args[0], self.definition[region.anchor].attrs
        if any(int(step) > int(window) for step, window in zip(attrs.strides, attrs.pool_size, strict=True)):
            return None  # rows that no window reads
        source = self.region_of.get(data) if isinstance(data, relax.Var) else None
        if source is None or source.anchor is None or source.branches or source.shape[1] < 32:
            return None
        call = self.definition[source.anchor]
        if op_name(call) != "relax.nn.conv2d" or int(call.attrs.groups) != 1 or not is_constant(call.args[1]):
            return None
        outside = [v for v in source.values if any(self._home(r) is not source for r, _ in reading[v])]
        if outside != [data] or len(reading[data]) != 1 or prod(source.shape) < LARGE_MAP:
            return None
        if not self._alike_in_rows(source):
            return None  # rows of padding are made like any other
        return source if str(data.ty.dtype) == "float32" else None

    def _alike_in_rows(self, region: Region) -> bool:
        """Whether members compute the same for every row of what their anchor made: what else they read has one."""
        read = [argument for member in region.members for argument in self.definition[member].args]
        others = [a for a in read if isinstance(a.ty, relax.TensorType) and a not in region.values]
        return all(len(shape_of(other)) < 3 or shape_of(other)[-2] == 1 for other in others)

    def _followed(self, region: Region, reading) -> Region | None:
        """The sums whose bits, or scores, a region's own sums read, if no other region reads anything of theirs."""
        if region.anchor is None or self._home(region) is not region:
            return None
        calls = [self.definition[anchor] for anchor in region.anchors]
        weighs = op_name(calls[0]) == "bnn.weighted_mean"
        if not weighs and not all(self._counts_bits(anchor) for anchor in region.anchors):
            return None
        read = [call.args[0] for call in calls]
        source = self.region_of.get(read[0]) if isinstance(read[0], relax.Var) else None
        if source is None or source is region or source.source is not None or source.anchor is None:
            return None
        if len(source.joints) > 1 or not self._pairs_with_all(source, calls) or self._shares_branches(source):
            return None
        maps = [o for member in region.members for o in operands(self.definition[member]) if o in source.values]
        if maps and not source.joints and not self._passes(maps, {*source.anchors}, source.members, read):
            return None  # bits of the sum itself: its tile would have two readers
        for var in source.values:
            for reader, through_view in reading[var]:
                if self._home(reader) not in (source, region) or (through_view and var not in read):
                    return None
        if weighs:
            return source if source.values == read and not self._reads_maps(region, source) else None
        return source if self._joint_of_rows(source, region, reading) or not self._reads_maps(region, source) else None

    def _pairs_with_all(self, source: Region, calls: list[relax.Call]) -> bool:
        """Whether a kernel makes rows of a source for some calls, all of which read their first operand of it alone."""
        read = [call.args[0] for call in calls]
        if any(data not in source.values for data in read):
            return False
        if any(operand in source.values for call in calls for operand in operands(call) if operand not in read):
            return False
        makers = [self.definition[anchor] for anchor in source.anchors if self._counts_bits(anchor)]
        pairs = [self.kernels.pairs(first, second) for first in makers for second in calls]
        return len(makers) == len(source.anchors) and all(pairs)

    def _shares_branches(self, region: Region) -> bool:
        """Whether several branches are upsampled: sums shared before that buy more than rows that stay in a cache."""
        inputs = (self.definition[anchor].args[0] for anchor in region.anchors)
        return sum(is_nearest(self.definition.get(data)) for data in inputs) > 1

    def _take_masked_maps(self) -> None:
        """Let a region that spreads a mask over maps take in both, where it alone reads these."""
        if not self.kernels.keeps_rows:
            return
        for mask in list(self.regions):
            if mask.anchor is None or mask.source is not None or not self._weighs_channels(mask):
                continue
            reading = self._reading()
            region = self._spread_together(mask, reading)
            sources = self._masked_maps(region, mask, reading) if region is not None else []
            if region is None or not sources:
                continue
            joints = [joint for source in sources for joint in self._joints_of_maps(source, reading)]
            *earlier, last = sources
            for source in earlier:
                self._merge(source, last, joints)
            last.joints = joints
            region.source, region.mask, region.joints = last, mask, self._spread(region, sources)
            for part in (last, mask):
                self.regions[part.index] = region
                for var in part.values:
                    self.region_of[var] = region

    def _spread_together(self, mask: Region, reading: Reading) -> Region | None:
        """The last region that reads a mask, once it has taken in the others, as far as it may."""
        readers = {self._home(reader) for var in mask.values for reader, _ in reading[var]} - {mask}
        if not readers or None in readers or not all(region.is_elementwise for region in readers if region is not None):
            return None
        *earlier, last = sorted((r for r in readers if r is not None), key=lambda region: region.index)
        for region in reversed(earlier):
            if self._may_follow(region, last, reading):
                self._merge(region, last, [])
        return last

    def _masked_maps(self, region: Region, mask: Region, reading: Reading) -> list[Region]:
        """The sums of whose maps alone a mask is made, if only the mask and a region that spreads it read these."""
        assert mask.anchor is not None
        made_of = {self.region_of.get(var) for var in self._behind_views(self.definition[mask.anchor].args[0])}
        sources = sorted((source for source in made_of if source is not None), key=lambda source: source.index)
        if None in made_of or sum(len(source.anchors) for source in sources) > MOST_SUMMANDS:
            return []
        if not all(self._can_be_masked(source, region) and self._joints_of_maps(source, reading) for source in sources):
            return []
        for part in (*sources, mask):
            inside = {part, mask, region}
            for reader, through_view in (found for var in part.values for found in reading[var]):
                if self._home(reader) not in inside or (self._home(reader) is region and through_view):
                    return []
        # a vector of booleans is no register
        return [] if any(dtype_of(member) == "bool" for member in self._spread(region, sources)) else sources

    def _spread(self, region: Region, sources: list[Region]) -> list[relax.Var]:
        """The members of a region that read maps of its sources: all outputs depend on these through them."""
        made = {var for source in sources for var in source.values}
        return [m for m in region.members if any(o in made for o in operands(self.definition[m]))]

    def _joints_of_maps(self, source: Region, reading: Reading) -> list[relax.Var]:
        """What is read of a region, if these are values of each convolution alone, or one value of all."""
        read = [v for v in source.values if any(self._home(reader) is not source for reader, _ in reading[v])]
        if len(source.joints) > 1 and set(read) <= set(source.joints):
            return source.joints
        return read if self._passes(read, {*source.anchors}, source.members, read) and len(read) == 1 else []

    def _weighs_channels(self, mask: Region) -> bool:
        """Whether a region's anchor is a 1x1 convolution of floats with one filter, pixel by pixel."""
        assert mask.anchor is not None
        call = self.definition[mask.anchor]
        if op_name(call) != "relax.nn.conv2d" or not is_constant(call.args[1]) or dtype_of(call.args[0]) != "float32":
            return False
        filters, _, *kernel = shape_of(call.args[1])
        steps = [int(v) for v in (*call.attrs.strides, *call.attrs.padding)]
        return kernel == [1, 1] and filters == 1 and steps == [1, 1, 0, 0, 0, 0] and not mask.row_sums

    def _can_be_masked(self, source: Region, region: Region) -> bool:
        """Whether a kernel can make a region's source a few pixels at a time, and its mask."""
        if source.source is not None or source.row_sums or source.shape != region.shape or not source.anchors:
            return False
        calls = [self.definition[anchor] for anchor in source.anchors]
        if any(is_nearest(self.definition.get(call.args[0])) for call in calls):
            return False  # sums shared before the upsampling buy more
        return all(map(self._is_plain_sum, source.anchors)) and all(map(self.kernels.masks, calls))

    def _behind_views(self, var: relax.Expr) -> list[relax.Expr]:
        """What a value shows: itself, or what the views that it is of read."""
        value = self.definition.get(var) if isinstance(var, relax.Var) else None
        if var in self.region_of or value is None or not is_view(value):
            return [var]
        return [found for operand in operands(value) for found in self._behind_views(operand)]

    def _compute_rows(self) -> None:
        """Let a convolution compute the elementwise values that it alone reads, row by row.

        That is a 1x1 convolution of floats (a head), or one of an image that is normalised or rounded (a stem).
        """
        reading = self._reading()
        homes = [region for region in self.regions if self._home(region) is region]
        makers = [maker for region in homes for maker in (region, region.source) if maker is not None]
        for anchor in [anchor for maker in makers for anchor in maker.anchors]:
            call = self.definition[anchor]
            if op_name(call) != "relax.nn.conv2d" or not is_constant(call.args[1]) or int(call.attrs.groups) != 1:
                continue
            filters, channels, *kernel = shape_of(call.args[1])
            data = call.args[0]
            source = self.region_of.get(data) if isinstance(data, relax.Var) else None
            if source is None or not source.is_elementwise:
                continue
            head = kernel == [1, 1] and filters <= MOST_READERS
            if not head and channels > 4:
                continue
            outside = [v for v in source.values if any(self._home(r) is not source for r, _ in reading[v])]
            if outside == [data] and len(reading[data]) == 1 and len(source.shape) == 4:
                self._dissolve(source)

    def _compute_where_read(self) -> None:
        """Let a reduction, or what packs a product's operand, compute the elementwise values that it alone reads."""
        readers = readers_of(self.function)
        for region in self.regions:
            if not region.is_elementwise or self._home(region) is not region or not region.members:
                continue
            last = region.members[-1]
            inside = [b.var for var in region.members[:-1] for b in readers[var] if b is not None]
            enclosed = all(None not in readers[var] for var in region.members) and set(inside) <= set(region.members)
            if enclosed and self._is_read_once(last, readers):
                self._dissolve(region)

    def _compare_together(self) -> None:
        """Let the first region of predicates of some maps take in the others of the same maps."""
        first: dict[tuple, Region] = {}
        for region in list(self.regions):
            last = region.members[-1] if region.members else None
            if not region.is_elementwise or last is None or dtype_of(last) != "bool" or len(region.shape) != 4:
                continue
            read = [o for member in region.members for o in operands(self.definition[member])]
            outside = dict.fromkeys(operand for operand in read if self.region_of.get(operand) is not region)
            home = first.setdefault((region.shape, *outside), region)
            if home is not region:
                home.members += region.members
                for var in region.members:
                    self.region_of[var] = home
                self.regions[region.index] = home

    def _is_read_once(self, var: relax.Var, readers) -> bool:
        """Whether one kernel alone reads a value, each element once: a reduction, or, through views, a packing."""
        if len(readers[var]) != 1 or readers[var][0] is None:
            return False
        (reader,) = readers[var]
        if op_name(reader.value) in REDUCTIONS:
            return True
        packing = "bnn.bmatmul" if dtype_of(var) == "bool" else "bnn.weighted_mean"
        viewed = is_view(reader.value) and isinstance(reader.value, relax.Call)
        while viewed and len(readers[reader.var]) == 1 and readers[reader.var][0] is not None:
            if not is_view(readers[reader.var][0].value):
                break
            (reader,) = readers[reader.var]
        return viewed and any(b is not None and op_name(b.value) == packing for b in readers[reader.var])

    def _dissolve(self, region: Region) -> None:
        """Take values out of all regions: who reads them computes them."""
        for var in region.values:
            del self.region_of[var]
        region.members = []

    def _joints_of_sum(self, earlier: Region, region: Region, reading) -> list[relax.Var]:
        """The member of both regions through which all depends on their convolutions, or one of each of these."""
        if not region.anchors:
            return []
        values = [*earlier.values, *region.values]
        outputs = [v for v in values if any(self._home(r) not in (earlier, region) for r, _ in reading[v])]
        anchors, members = [*region.anchors, *earlier.anchors], [*earlier.members, *region.members]
        joint = self._joint({*anchors}, members, outputs)
        if joint is not None:
            return [joint]
        made_of = self._made_of(anchors, members)
        own = [[m for m in reversed(members) if made_of[m] == {a} and dtype_of(m) == "float32"] for a in anchors]
        found = [self._joint({a}, members, outputs, among) for a, among in zip(anchors, own, strict=True)]
        return [joint for joint in found if joint is not None] if None not in found else []

    def _made_of(self, anchors: list[relax.Var], members: list[relax.Var]) -> dict[relax.Var, set[relax.Var]]:
        """The anchors that each member depends on."""
        made_of = {anchor: {anchor} for anchor in anchors}
        for member in members:  # in an order in which they can be computed
            read = operands(self.definition[member])
            made_of[member] = set().union(*(made_of.get(operand, set()) for operand in read))
        return made_of

    def _joint_of_rows(self, source: Region, region: Region, reading) -> list[relax.Var]:
        """The member of a region through which all depends on its convolutions, and on what it reads of its source, or
        the joints of its branches, if all does through these.
        """
        outputs = [v for v in region.values if any(self._home(r) is not region for r, _ in reading[v])]
        made = {*region.anchors, *source.values}
        joint = self._joint(made, region.members, outputs)
        if joint is not None:
            return [joint]
        return region.joints if self._passes(region.joints, made, region.members, outputs) else []

    def _reads_maps(self, region: Region, source: Region) -> bool:
        """Whether members of a region read what its source computes."""
        made = set(source.values)
        return any(operand in made for member in region.members for operand in operands(self.definition[member]))

    def _joint(
        self,
        anchors: set[relax.Var],
        members: list[relax.Var],
        outputs: list[relax.Var],
        among: list[relax.Var] | None = None,
    ) -> relax.Var | None:
        """The first number among the members that every path from an anchor to an output passes through."""
        for member in members if among is None else among:
            # a vector of booleans is no register
            if dtype_of(member) != "bool" and self._passes([member], anchors, members, outputs):
                return member
        return None

    def _passes(
        self, joints: list[relax.Var], anchors: set[relax.Var], members: list[relax.Var], outputs: list[relax.Var]
    ) -> bool:
        """Whether every path from an anchor to an output passes through one of some members."""
        inside, waiting, seen = {*anchors, *members}, list(outputs), set(joints)
        while waiting:
            var = waiting.pop()
            if var in seen:
                continue
            seen.add(var)
            waiting += [o for o in operands(self.definition[var]) if o in inside and var not in anchors]
        return not anchors & seen

    def _home(self, reader: Region | None) -> Region | None:
        """What a region has been merged into, which may have been merged since."""
        while reader is not None and self.regions[reader.index] is not reader:
            reader = self.regions[reader.index]
        return reader

    def _is_plain_sum(self, anchor: relax.Var) -> bool:
        call = self.definition[anchor]
        return op_name(call) == "bnn.bconv2d" and int(call.attrs["groups"]) == 1

    def _counts_bits(self, anchor: relax.Var) -> bool:
        return op_name(self.definition[anchor]) == "bnn.bmatmul" or self._is_plain_sum(anchor)

    def _merge(self, earlier: Region, region: Region, joints: list[relax.Var]) -> None:
        region.joints = joints
        region.branches = [*region.branches, *earlier.anchors]
        region.members = [*earlier.members, *region.members]
        region.row_sums = [*earlier.row_sums, *region.row_sums]
        for var in earlier.values:
            self.region_of[var] = region
        self.regions[earlier.index] = region

    def _find_outputs(self) -> None:
        wanted: set[relax.Var] = set()

        def want(var: relax.Var, reader: Region | None) -> None:
            region = self.region_of.get(var)
            if region is not None:
                if region is not reader:
                    wanted.add(var)
                return
            for operand in operands(self.definition[var]) if var in self.definition else ():
                want(operand, reader)  # its own only as a mask of its source's maps

        for var, region in self.region_of.items():
            for operand in operands(self.definition[var]):
                want(operand, region)
        for var in operands(self.function.body.body):
            want(var, None)
        self.regions = [r for index, r in enumerate(self.regions) if r.index == index and r.values]
        for region in self.regions:
            region.outputs = [var for var in region.values if var in wanted]


def partition(function: relax.Function, kernels: Kernels = Kernels()) -> Partition:
    """Cut a straight-line function into regions, each of which a target's kernels can compute."""
    return _Partitioner(function, kernels).run()
