"""One region -> one PrimFunc, with stages whose names schedules rely on.

=========  ==================================================================================
stage      holds
=========  ==================================================================================
(anchor)   ``pad``, ``acc`` and the like, see ``anchors``
``map_i``  what is read of another convolution, where that is made in the same kernel; its own stages end in _0, and
           those of its bits, where they are read as words, in _row
``turned_i`` such a map, each channel's pixels side by side: a mask is made of it
``level_i`` what is spread over such maps: a value of a mask, a position
``joint``  of several convolutions that one epilogue adds up: the value through which all outputs read them; where
           outputs mix them in different ways, a value of each, ``joint_v0`` and so on, in the same loops
``sums_i`` an output that adds up the rows of a map
``out_i``  an output that other kernels read as numbers, or bits that come as whole words
``cond_i`` a predicate per element, False behind the last channel
``mask_i`` the predicates of M neighbouring channels as an integer (M lanes make one compare mask)
``bits_i`` an output of packed bits, put together from masks, or words in another order
``test_i`` a predicate per element [N, H, C, W] where channels lie apart
``word_i`` words of ``test_i`` [N, H, ceil(C/32), W]: pixels are packed side by side
=========  ==================================================================================
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from tvm import relax, te, tirx

from tvm_bnn.lower.anchors import Anchor, builder_of
from tvm_bnn.lower.anchors.convolution import extended
from tvm_bnn.lower.anchors.pooling import pooled_rows
from tvm_bnn.lower.anchors.resize import interpolation
from tvm_bnn.lower.index import Index, Scalar
from tvm_bnn.lower.layout import WORD, Layout, stored_dtype, stored_shape
from tvm_bnn.lower.memory_order import memory_order
from tvm_bnn.lower.reader import Reader
from tvm_bnn.lower.starts import start_sums
from tvm_bnn.lower.words import has_words, word
from tvm_bnn.relay_passes.partition import Partition, Region
from tvm_bnn.relay_passes.readers import operands
from tvm_bnn.relay_passes.rewriter import dtype_of, op_name, shape_of


@dataclass
class Kernel:
    """A PrimFunc before scheduling, and how to call it.

    arguments : what to pass, in order: Relax variables of the source function, or constant arrays.
    outputs : (variable, layout) of each result, in order.
    family : which family of schedules applies.
    """

    func: tirx.PrimFunc
    arguments: list[relax.Var | np.ndarray]
    outputs: list[tuple[relax.Var, Layout]]
    family: str
    name: str


#: Operator of a source, or family of what reads its bits -> family of schedules of their kernel.
_PAIRS = {
    "conv2d": "conv_pool",
    "matrix_conv": "matrix_conv_pair",
    "conv": "product_pair",
    "weighted_mean": "weighted_mean",
}
#: Family of the sums of maps -> family of schedules of the kernel that masks them.
_MASKED = {"conv": "masked_conv", "matrix_conv": "matrix_masked_conv"}


def mask_lanes(target) -> int:
    """How many lanes one compare mask holds: those of a vector of 32-bit lanes (a warp's: a whole word), at least 8."""
    return max(8, target.lanes32)


class KernelBuilder:
    """Builds the kernels of one function for one target."""

    def __init__(self, partition: Partition, layout_of: dict[relax.Var, Layout], target) -> None:
        self.partition = partition
        self.layout_of = layout_of
        self.target = target

    def region(self, region: Region) -> Kernel:
        """The kernel of a region; its outputs take the layouts given in ``layout_of``."""
        reader = Reader(self.partition, self.layout_of, region)
        family, name = "elementwise", "elementwise"
        if region.mask is not None:
            family, name = _MASKED[self._add_masked(reader, region)], "masked_bconv2d"
        elif region.source is not None:
            self._add_source(reader, region, region.source)
        if region.absorbed is not None:
            resize = self.partition.definition[region.absorbed]
            reader.stages[region.absorbed] = interpolation(reader, resize, None)
        if region.anchor is not None:
            name = op_name(self.partition.definition[region.anchor]).split(".")[-1]
            family = self._anchor(reader, region.anchor).family
            self._add_branches(reader, region)
        if region.source is not None and region.mask is None:
            first = op_name(self.partition.definition[region.source.anchor]).split(".")[-1]
            family, name = _PAIRS[first if first == "conv2d" else family], f"{first}_{name}"
        outputs = [(var, self.layout_of[var]) for var in region.outputs]
        return self._assemble(reader, outputs, family, name)

    def _anchor(self, reader: Reader, var: relax.Var) -> Anchor:
        return self._build(reader, var, self.partition.definition[var])

    def _build(self, reader: Reader, var: relax.Var, call: relax.Call, above: int = 0) -> Anchor:
        """The stages of a call that computes a value, and so many rows above it."""
        build = builder_of(call)
        assert build is not None, op_name(call)
        anchor: Anchor = build(reader, call, self.target)
        if above:
            reader.stages[var] = lambda index: anchor.element((index[0], index[1], index[2] + above, index[3]))
        else:
            reader.stages[var] = anchor.element
        if anchor.word is not None:
            reader.word_stages[var] = anchor.word
        if anchor.tally is not None:
            reader.tallies[var] = anchor.tally
        return anchor

    def _add_branches(self, reader: Reader, region: Region) -> None:
        """Build the other convolutions of a region; stages ``joint`` have what all outputs read of them."""
        self._add_sums(reader, region)
        if region.joints:
            self._add_maps(reader, region.joints, stored_shape(region.shape, Layout.MAP), "joint")

    def _add_sums(self, reader: Reader, region: Region) -> None:
        """Build the other convolutions of a region; their stages end in numbers, from 1."""
        whole = reader.suffix
        for number, var in enumerate(region.branches, 1):
            reader.suffix = f"{whole}_{number}"
            self._anchor(reader, var)
        reader.suffix = whole

    def _add_source(self, reader: Reader, region: Region, source: Region) -> None:
        """Build what a region reads row by row: stages of its sums, ending in _0, and its maps, ``map_i``.

        A pooling reads rows of padding too, which are made as if the convolution went on there.
        """
        reader.suffix = "_0"
        first, second = (self.partition.definition[anchor] for anchor in (source.anchor, region.anchor))
        above, rows = 0, source.shape[2]
        if op_name(second) == "relax.nn.max_pool2d":
            above, rows = pooled_rows(second)
            first = extended(first, above, rows)
        family = self._build(reader, source.anchor, first, above).family
        self._add_branches(reader, source)
        reader.suffix = ""
        if op_name(second) == "bnn.weighted_mean":  # reads what the scores are counted by
            return
        bits = second.args[0]
        if family == "conv" and dtype_of(bits) == "bool":  # sums of words read words
            self._add_row(reader, bits)
        readers = [self.partition.definition[var] for var in (*region.anchors, *region.members)]
        read = {operand for call in readers for operand in operands(call)}
        batch, _, width, channels = stored_shape(source.shape, Layout.MAP)
        for number, var in enumerate(v for v in source.values if v in read and dtype_of(v) != "bool"):
            self._add_map(reader, var, (batch, rows, width, channels), f"map_{number}", above)

    def _add_masked(self, reader: Reader, region: Region) -> str:
        """Build the maps that a region masks, ``map_i``, from stages that end in _0, and the mask, ``level_i``; returns
        the family of the maps' sums.
        """
        source, mask = region.source, region.mask
        assert source is not None and mask is not None and mask.anchor is not None
        reader.suffix = "_0"
        family = self._anchor(reader, source.anchor).family
        self._add_sums(reader, source)
        reader.suffix = ""
        for number, var in enumerate(source.joints):
            self._add_map(reader, var, stored_shape(source.shape, Layout.MAP), f"map_{number}")
        maps = {var: reader.stages[var] for var in source.joints}
        _, channels, _, width = source.shape
        if width % self.target.lanes32 == channels % self.target.lanes32 == 0:  # sums of vectors of pixels
            for number, var in enumerate(source.joints):
                reader.stages[var] = self._turned(reader, maps[var], source.shape, f"turned_{number}")
        shown = self.partition.definition[mask.anchor].args[0]
        if shown not in reader.stages:  # a view of maps: not worth a copy
            reader.stages[shown] = reader.view(shown)
        self._anchor(reader, mask.anchor)
        reader.stages.update(maps)
        read = {operand for var in region.members for operand in operands(self.partition.definition[var])}
        for number, var in enumerate(v for v in mask.values if v in read):
            self._add_map(reader, var, stored_shape(mask.shape, Layout.MAP), f"level_{number}")
        self._add_maps(reader, region.joints, stored_shape(region.shape, Layout.MAP), "joint")
        return family

    def _turned(
        self, reader: Reader, element: Callable[[Index], Scalar], shape: tuple[int, ...], name: str
    ) -> Callable[[Index], Scalar]:
        """A stage [N, H, C, W] of a map's elements: each channel's pixels lie side by side."""
        batch, channels, height, width = shape
        stage = reader.compute((batch, height, channels, width), lambda n, y, c, x: element((n, c, y, x)), name)
        return lambda index: stage(index[0], index[2], index[1], index[3])

    def _add_map(self, reader: Reader, var: relax.Var, shape: tuple[int, ...], name: str, above: int = 0) -> None:
        """A stage of a map whose first row is so many rows above the value's."""
        stage = reader.compute(shape, lambda n, y, x, c: reader.element(var, (n, c, y - above, x)), name)
        reader.stages[var] = _of_map(stage, above)

    def _add_maps(self, reader: Reader, variables: list[relax.Var], shape: tuple[int, ...], name: str) -> None:
        """Stages of maps in the same loops."""
        if len(variables) == 1:
            self._add_map(reader, variables[0], shape, name)
            return
        elements = [partial(_map_element, reader, var) for var in variables]
        for var, stage in zip(variables, reader.compute(shape, elements, name), strict=True):
            reader.stages[var] = _of_map(stage)

    def copy(self, var: relax.Var, layout: Layout) -> Kernel:
        """A kernel that stores a value (a view, say) in another layout."""
        reader = Reader(self.partition, self.layout_of, None)
        return self._assemble(reader, [(var, layout)], "elementwise", "copy")

    def _assemble(self, reader: Reader, outputs, family: str, name: str) -> Kernel:
        # numbers first: a predicate may then read the stored number instead of computing it again
        row_sums = reader.region.row_sums if reader.region is not None else []  # last: they add up stored numbers
        order = sorted(range(len(outputs)), key=lambda i: (outputs[i][0] in row_sums, outputs[i][1] is Layout.BITS))
        made: dict[int, te.Tensor] = {}
        for i in order:
            var, layout = outputs[i]
            if var in row_sums:
                made[i] = self._row_sums(reader, var, i)
            else:
                made[i] = self._bits(reader, var, i) if layout is Layout.BITS else self._numbers(reader, var, layout, i)
        tensors = [made[i] for i in range(len(outputs))]
        func = start_sums(te.create_prim_func([*reader.inputs, *tensors]))
        func = func.with_attr("global_symbol", name)
        return Kernel(func, reader.arguments, outputs, family, name)

    def _numbers(self, reader: Reader, var: relax.Var, layout: Layout, number: int) -> te.Tensor:
        shape, dtype = shape_of(var), dtype_of(var)

        def element(*stored):
            return reader.element(var, logical_index(stored, len(shape), layout))

        tensor = reader.compute(stored_shape(shape, layout), element, f"out_{number}")
        assert str(tensor.dtype) == stored_dtype(dtype, layout), (str(tensor.dtype), dtype)
        if reader.region is not None:
            reader.stages[var] = lambda index: tensor(*stored_index(index, len(shape), layout))
        return tensor

    def _row_sums(self, reader: Reader, var: relax.Var, number: int) -> te.Tensor:
        (data,) = self.partition.definition[var].args
        if data not in reader.stages:
            self._add_map(reader, data, stored_shape(shape_of(data), Layout.MAP), f"out_{number}_map")
        kx = reader.reduce_axis(shape_of(data)[3], "kx")

        def total(n, y, x, c):
            return te.sum(reader.element(data, (n, c, y, kx.var)), axis=kx)

        return reader.compute(stored_shape(shape_of(var), Layout.MAP), total, f"sums_{number}")

    def _bits(self, reader: Reader, var: relax.Var, number: int | str) -> te.Tensor:
        shape = shape_of(var)
        if has_words(reader, var):
            return reader.compute(
                stored_shape(shape, Layout.BITS),
                lambda *stored: word(reader, var, stored[:-1], stored[-1]),
                f"out_{number}",
            )
        if self._reads_planes(reader.region) if reader.region is not None else self._has_channels_apart(var):
            return self._bits_of_planes(reader, var, number)
        *pixel, count = stored_shape(shape, Layout.BITS)
        mask, per_word = self._masks(reader, var, number), WORD // mask_lanes(self.target)
        return te.compute(
            (*pixel, count), lambda *stored: _word_of_masks(mask, stored, per_word), name=f"bits_{number}"
        )

    def _add_row(self, reader: Reader, var: relax.Var) -> None:
        """A row of bits that the kernel itself reads as words. It is kept as masks, as they are compared: those of
        a word lie side by side, so that a processor reads them as one.
        """
        lanes = mask_lanes(self.target)
        mask = self._masks(reader, var, "row")
        row = te.compute(tuple(mask.shape), lambda *stored: mask(*stored).astype(f"uint{lanes}"), name="bits_row")
        reader.word_stages[var] = lambda pixel, place: _word_of_masks(row, (*pixel, place), WORD // lanes)

    def _masks(self, reader: Reader, var: relax.Var, number: int | str) -> te.Tensor:
        """Predicates of neighbouring channels as integers, uint32."""
        shape = shape_of(var)
        channels, lanes = shape[1], mask_lanes(self.target)
        per_word = WORD // lanes
        *pixel, count = stored_shape(shape, Layout.BITS)

        def predicate(*stored):
            channel = stored[-1] if channels > 4 else tirx.min(stored[-1], channels - 1)
            value = reader.element(var, logical_index((*stored[:-1], channel), len(shape), Layout.MAP))
            return tirx.And(stored[-1] < channels, value) if channels % WORD else value

        cond = reader.compute((*pixel, count * WORD), predicate, f"cond_{number}")
        lane = te.reduce_axis((0, lanes), "lane")

        def gather(*stored):
            bit = cond(*stored[:-1], stored[-1] * lanes + lane.var)
            return te.sum(tirx.Cast("uint32", bit) << lane.var.astype("uint32"), axis=lane)

        return te.compute((*pixel, count * per_word), gather, name=f"mask_{number}")

    def _has_channels_apart(self, var: relax.Var) -> bool:
        """Whether neighbours along the rows of a value, and not its channels, are neighbours in memory."""
        found = memory_order(var, self.layout_of, self.partition.definition, computed=True)
        return found is not None and found[1].innermost() == 3 and shape_of(var)[3] >= self.target.lanes32

    def _reads_planes(self, region: Region) -> bool:
        """Whether a region makes bits alone, and reads whole maps from arguments in PyTorch's layout alone."""
        if region.anchor is not None or len(region.shape) != 4:
            return False
        if any(self.layout_of[var] is not Layout.BITS for var in region.outputs):
            return False
        members = set(region.members)
        read = {o for var in members for o in operands(self.partition.definition[var]) if o not in members}
        whole = any(shape_of(var)[2:] == region.shape[2:] for var in read)
        plain = all(self.layout_of.get(var) is Layout.PLAIN for var in read)
        return whole and plain and region.shape[3] >= self.target.lanes32

    def _bits_of_planes(self, reader: Reader, var: relax.Var, number: int | str) -> te.Tensor:
        """Bits of a map whose channels lie apart: vectors of pixels gain one bit after the other."""
        batch, channels, height, width = shape_of(var)
        *pixel, count = stored_shape(shape_of(var), Layout.BITS)
        test = reader.compute(
            (batch, height, channels, width), lambda n, y, c, x: reader.element(var, (n, c, y, x)), f"test_{number}"
        )
        bit = reader.reduce_axis(WORD, "bit")

        def gather(n, y, position, x):
            channel = position * WORD + bit.var
            value = tirx.Cast("uint32", test(n, y, reader.inside(channel, channels), x)) << bit.var.astype("uint32")
            if channels % WORD:
                value = tirx.if_then_else(channel < channels, value, tirx.const(0, "uint32"))
            return te.sum(value, axis=bit)

        word = reader.compute((batch, height, count, width), gather, f"word_{number}")
        return te.compute((*pixel, count), lambda n, y, x, position: word(n, y, position, x), name=f"bits_{number}")


def _word_of_masks(masks: te.Tensor, stored: tuple, per_word: int) -> Scalar:
    """Word of bits at a stored position, from the masks that make it."""
    *pixel, position = stored
    value = masks(*pixel, position * per_word).astype("uint32")
    for part in range(1, per_word):
        shift = tirx.const(part * (WORD // per_word), "uint32")
        value = value | (masks(*pixel, position * per_word + part).astype("uint32") << shift)
    return value


def _map_element(reader: Reader, var: relax.Var, n, y, x, c) -> Scalar:
    """Element of a map."""
    return reader.element(var, (n, c, y, x))


def _of_map(stage: te.Tensor, above: int = 0) -> Callable[[Index], Scalar]:
    """Logical index -> element of a stage of a map, the first of whose rows are so many above the value's."""
    return lambda index: stage(index[0], index[2] + above, index[3], index[1])


def logical_index(stored: tuple, rank: int, layout: Layout) -> tuple:
    """Logical index of a stored position (of a MAP, or of the elements of BITS)."""
    if layout is Layout.PLAIN or rank not in (2, 4):
        return tuple(stored)
    return (stored[0], stored[-1], *stored[1:-1])


def stored_index(index: tuple, rank: int, layout: Layout) -> tuple:
    """Stored position of a logical index."""
    if layout is Layout.PLAIN or rank not in (2, 4):
        return tuple(index)
    return (index[0], *index[2:], index[1])
