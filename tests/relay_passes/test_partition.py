"""Partition: which operators share a kernel, and that regions can always run in order."""

from functools import reduce

import numpy as np
import pytest
from tvm import relax
from tvm.relax.op import add, argmax, concat, exp, multiply, negative, permute_dims, split
from tvm.relax.op.image import resize2d
from tvm.relax.op.nn import conv2d, max_pool2d

from tvm_bnn import ops
from tvm_bnn.relay_passes.partition import Kernels, Partition, partition
from tvm_bnn.relay_passes.readers import operands
from tvm_bnn.relay_passes.rewriter import dtype_of, op_name

SHAPE = (1, 6, 4, 4)


def weight():
    return relax.const(np.ones((6, 6, 1, 1), np.float32))


def described(parts: Partition) -> list[tuple[str, list[str], int]]:
    """(anchor, members, number of outputs) of each region."""
    name = lambda var: op_name(parts.definition[var]).split(".")[-1]  # noqa: E731
    return [
        (name(r.anchor) if r.anchor is not None else "", [name(m) for m in r.members], len(r.outputs))
        for r in parts.regions
    ]


def check_order(parts: Partition) -> None:
    """Every region reads only outputs of regions before it, through any views."""

    def sources(var):
        region = parts.region_of.get(var)
        if region is not None:
            return [(var, region)]
        return [s for o in (operands(parts.definition[var]) if var in parts.definition else []) for s in sources(o)]

    for region in parts.regions:
        for var in region.values:
            for operand in operands(parts.definition[var]):
                for source, home in sources(operand):
                    assert (home.index < region.index and source in home.outputs) or home is region


def test_elementwise_operators_join_their_anchor(build):
    parts = partition(build(lambda x: negative(exp(conv2d(x, weight()))), SHAPE)["main"])
    assert described(parts) == [("conv2d", ["exp", "negative"], 1)]


def test_both_operands_are_made_before_the_later_anchor_takes_the_member(build, emit):
    def function(x):
        first = emit(conv2d(x, weight()))
        return add(first, conv2d(exp(first), weight()))

    parts = partition(build(function, SHAPE)["main"])
    assert described(parts) == [("conv2d", ["exp"], 2), ("conv2d", ["add"], 1)]
    check_order(parts)


def test_views_belong_to_no_region_and_keep_their_sources(build):
    parts = partition(build(lambda x: exp(permute_dims(exp(x), (0, 1, 3, 2))), SHAPE)["main"])
    assert described(parts) == [("", ["exp"], 1), ("", ["exp"], 1)]
    check_order(parts)


def test_another_shape_starts_another_region(build, emit):
    def function(x):
        small = emit(relax.op.mean(x, [2, 3], keepdims=True))
        return multiply(x, exp(small))

    parts = partition(build(function, SHAPE)["main"])
    assert described(parts) == [("mean", ["exp"], 1), ("", ["multiply"], 1)]
    check_order(parts)


def test_results_are_outputs_even_when_their_region_goes_on(build, emit):
    def function(x):
        value = emit(conv2d(x, weight()))
        return relax.Tuple([value, emit(exp(value))])

    assert described(partition(build(function, SHAPE)["main"])) == [("conv2d", ["exp"], 2)]


def test_a_value_that_nobody_reads_is_no_output(build, emit):
    def function(x):
        emit(max_pool2d(x, (2, 2)))
        return exp(x)

    assert described(partition(build(function, SHAPE)["main"])) == [("max_pool2d", [], 0), ("", ["exp"], 1)]


def test_results_of_several_tensors_take_no_members(build, emit):
    def function(x):
        top = emit(relax.op.topk(x, 2, -1, "both"))
        return exp(relax.TupleGetItem(top, 0))

    assert described(partition(build(function, SHAPE)["main"])) == [("topk", [], 1), ("", ["exp"], 1)]


def test_takes_members_is_asked(build):
    function = build(lambda x: exp(conv2d(x, weight())), SHAPE)["main"]
    parts = partition(function, Kernels(take_members=lambda call: False))
    assert described(parts) == [("conv2d", [], 1), ("", ["exp"], 1)]


@pytest.mark.parametrize(
    ("index", "is_view"),
    [
        (lambda: relax.const(np.array([1, 0])), True),
        (lambda: relax.const(1), True),
        (lambda: relax.const(np.array([[1, 0]])), False),
    ],
    ids=["row of picks", "one pick", "table of picks"],
)
def test_picks_are_views_where_they_are_known(build, index, is_view):
    parts = partition(build(lambda x: exp(relax.op.take(x, index(), axis=1)), SHAPE)["main"])
    assert ("take" not in [anchor for anchor, _, _ in described(parts)]) == is_view


def compared(emit, data, constant):
    """Behind a threshold, bool."""
    return emit(relax.op.greater_equal(emit(relax.op.subtract(data, relax.const(constant, "float32"))), ZERO))


ZERO = relax.const(np.float32(0))
#: What is compared -> regions.
COMPARED = {
    "one map": (lambda x, e: [x, x, x], 1),
    "a map that a kernel makes": (lambda x, e: [e(max_pool2d(x, (1, 1)))] * 2, 1),
    "two maps": (lambda x, e: [x, e(permute_dims(x, (0, 1, 3, 2)))], 2),
    "one of another shape": (lambda x, e: [x, e(relax.op.strided_slice(x, [2], [0], [2]))], 2),
}


@pytest.mark.parametrize(("maps", "regions"), COMPARED.values(), ids=list(COMPARED))
def test_thresholds_of_one_map_are_compared_together(build, emit, maps, regions):
    def function(x):
        return relax.Tuple([compared(emit, data, k) for k, data in enumerate(maps(x, emit))])

    parts = partition(build(function, SHAPE)["main"])
    assert len(parts.regions) == regions
    check_order(parts)


def weighted(x, emit, between=lambda maps: maps):
    """Two pooled maps, each weighed by itself, and their sum."""
    maps = [emit(max_pool2d(x, (1, 1))) for _ in range(2)]
    weights = [emit(relax.op.sigmoid(emit(relax.op.mean(each, axis=[2, 3], keepdims=True)))) for each in maps]
    maps = [emit(multiply(each, weight)) for each, weight in zip(maps, weights, strict=True)]
    return emit(add(*between(maps)))


def test_maps_that_are_weighed_one_by_one_are_added_up_in_one_kernel(build, emit):
    parts = partition(build(lambda x: relax.Tuple([weighted(x, emit)]), SHAPE)["main"])
    assert described(parts)[-1] == ("", ["multiply", "multiply", "add"], 1)
    assert [anchor for anchor, *_ in described(parts)].count("") == 1
    check_order(parts)


def test_maps_are_merged_once_each(build, emit):
    """Also where one merged region reads what another, merged before, has become part of."""

    def function(x):
        first, second = (emit(max_pool2d(x, (1, 1))) for _ in range(2))
        halves = [emit(exp(first)), emit(exp(second))]
        crossed = [emit(add(halves[0], emit(negative(second)))), emit(add(halves[1], emit(negative(first))))]
        return relax.Tuple([emit(multiply(*crossed)), weighted(emit(add(*crossed)), emit)])

    parts = partition(build(function, SHAPE)["main"], Kernels(take_members=lambda call: False))
    check_order(parts)
    members = [var for region in parts.regions for var in region.members]
    assert len(members) == len(set(members)) == 13


def test_maps_that_others_read_too_are_outputs_of_that_kernel(build, emit):
    def function(x):
        kept = []
        total = weighted(x, emit, lambda maps: kept.extend(maps) or maps)
        return relax.Tuple([total, *(emit(compared(emit, each, 1.0)) for each in kept)])

    parts = partition(build(function, SHAPE)["main"])
    assert [anchor for anchor, *_ in described(parts)].count("") == 1
    assert described(parts)[-1][2] == 3
    check_order(parts)


def test_maps_that_another_kernel_reads_in_between_stay_apart(build, emit):
    def function(x):
        pooled = []

        def between(maps):
            pooled.append(emit(relax.op.sigmoid(emit(relax.op.mean(maps[0], axis=[2, 3], keepdims=True)))))
            return [maps[0], emit(multiply(maps[1], pooled[0]))]

        return relax.Tuple([weighted(x, emit, between), *pooled])

    parts = partition(build(function, SHAPE)["main"])
    assert ("", ["multiply"], 1) in described(parts)
    check_order(parts)


def resized(x, method="linear"):
    return resize2d(x, (9, 9), layout="NCHW", method=method, coordinate_transformation_mode="half_pixel")


def test_a_resize_that_only_an_argmax_reads_is_absorbed(build):
    parts = partition(build(lambda x: exp(relax.op.astype(argmax(resized(x), 1), "float32")), SHAPE)["main"])
    assert described(parts) == [("argmax", [], 1), ("", ["astype", "exp"], 1)]
    (absorbing, _) = parts.regions
    assert op_name(parts.definition[absorbing.absorbed]) == "relax.image.resize2d"


def both(x):
    logits = relax.BlockBuilder.current().emit(resized(x))
    return relax.Tuple([logits, relax.BlockBuilder.current().emit(argmax(logits, 1))])


NOT_ABSORBED = {
    "another reader": both,
    "over rows": lambda x: argmax(resized(x), 2),
    "keepdims": lambda x: argmax(resized(x), 1, keepdims=True),
    "cubic": lambda x: argmax(resized(x, "cubic"), 1),
    "few classes": lambda x: argmax(resized(relax.op.strided_slice(x, [1], [0], [4])), 1),
    "many classes": lambda x: argmax(resized(concat([x] * 11, 1)), 1),
}


@pytest.mark.parametrize("function", NOT_ABSORBED.values(), ids=list(NOT_ABSORBED))
def test_declines_to_absorb(build, function):
    assert all(region.absorbed is None for region in partition(build(function, SHAPE)["main"]).regions)


@pytest.mark.parametrize("name", ["few classes", "many classes"])
def test_absorbs_any_number_of_classes_where_kernels_do(build, name):
    parts = partition(build(NOT_ABSORBED[name], SHAPE)["main"], Kernels(absorbs=lambda resize: True, keeps_rows=False))
    assert parts.regions[-1].absorbed is not None


WIDE = (1, 32, 4, 4)


def bits(x):
    return relax.op.greater_equal(x, relax.const(np.float32(0)))


def summand(data, emit):
    """A binary convolution that keeps the shape, scaled."""
    weight = relax.const(np.ones((32, 32, 1, 1), bool))
    return emit(relax.op.astype(emit(ops.bconv2d(data, weight, ops.BConv2DAttrs())), "float32"))


def test_convolutions_that_are_added_share_a_kernel(build, emit):
    def function(x):
        shared = emit(bits(x))
        total = emit(add(summand(shared, emit), summand(shared, emit)))
        return emit(add(total, exp(summand(shared, emit))))

    parts = partition(build(function, WIDE)["main"])
    assert [(len(r.anchors), len(r.outputs)) for r in parts.regions] == [(0, 1), (3, 1)]
    assert sorted(described(parts)[1][1]) == ["add", "add", "astype", "astype", "astype", "exp"]
    check_order(parts)


@pytest.mark.parametrize("count", [2, 5, 8])
def test_many_convolutions_that_are_added_share_a_kernel(build, emit, count):
    def function(x):
        shared = emit(bits(x))
        branches = [summand(shared, emit) for _ in range(count)]
        return reduce(lambda a, b: emit(add(a, b)), branches)

    parts = partition(build(function, WIDE)["main"])
    assert [len(region.anchors) for region in parts.regions] == [0, count]
    check_order(parts)


def gated(x, emit):
    """The signs of each branch with a share of their sum."""
    shared = emit(bits(x))
    branches = [summand(shared, emit) for _ in range(3)]
    total = emit(add(emit(add(branches[0], branches[1])), branches[2]))
    return relax.Tuple([emit(bits(emit(add(branch, total)))) for branch in branches])


def also_read(x, emit):
    """A sum, and a pooling of one of its parts."""
    first = summand((shared := emit(bits(x))), emit)
    return relax.Tuple([emit(add(first, summand(shared, emit))), emit(max_pool2d(first, (2, 2)))])


#: What mixes branches -> (branches, outputs of their kernel, those of them that are numbers).
MIXED = {"gates": (gated, 3, 3, 0), "a part that others read": (also_read, 2, 2, 2)}


@pytest.mark.parametrize(("function", "branches", "outputs", "numbers"), MIXED.values(), ids=list(MIXED))
def test_branches_that_outputs_mix_in_different_ways_share_a_kernel(build, emit, function, branches, outputs, numbers):
    parts = partition(build(lambda x: function(x, emit), WIDE)["main"])
    (region,) = (region for region in parts.regions if region.branches)
    assert len(region.anchors) == len(region.joints) == branches and len(region.outputs) == outputs
    assert sum(dtype_of(var) == "float32" for var in region.outputs) == numbers
    check_order(parts)


def shortcuts(data, emit, count=3):
    """Branches that each add a convolution of bits of their own to one map."""
    own = [emit(bits(emit(add(data, relax.const(np.float32(number)))))) for number in range(count)]
    return [emit(add(summand(read, emit), data)) for read in own]


@pytest.mark.parametrize("count", [2, 5, 8])
def test_convolutions_that_are_added_to_one_map_share_a_kernel(build, emit, count):
    parts = partition(build(lambda x: relax.Tuple(shortcuts(emit(exp(x)), emit, count)), WIDE)["main"])
    compared, merged = parts.regions
    assert compared.anchor is None and [dtype_of(var) for var in compared.outputs] == ["float32", *["bool"] * count]
    assert len(merged.anchors) == count and set(merged.joints) == set(merged.outputs) and len(merged.outputs) == count
    check_order(parts)


UNMERGED = {
    "the second reads the first": lambda x, e: add((first := summand(e(bits(x)), e)), summand(e(bits(first)), e)),
    "something between reads the first": lambda x, e: add(
        (first := summand(e(bits(x)), e)), summand(e(bits(e(max_pool2d(first, (1, 1))))), e)
    ),
    "a view of the first": lambda x, e: add(
        e(permute_dims(summand((b := e(bits(x))), e), (0, 1, 3, 2))), summand(b, e)
    ),
    "a view of what both read": lambda x, e: relax.Tuple(
        [
            add(summand((b := e(bits((y := e(exp(x)))))), e), y),
            add(summand(b, e), e(permute_dims(y, (0, 1, 3, 2)))),
        ]
    ),
    "both read a value for each channel": lambda x, e: relax.Tuple(
        [
            add(summand((b := e(bits(x))), e), (y := e(exp(e(relax.op.mean(x, [2, 3], keepdims=True)))))),
            add(summand(b, e), y),
        ]
    ),
    "the second reads the first, and what it reads": lambda x, e: add(
        summand(e(bits(e(add(summand(e(bits(y := e(exp(x)))), e), y)))), e), y
    ),
}


@pytest.mark.parametrize("function", UNMERGED.values(), ids=list(UNMERGED))
def test_declines_to_merge(build, emit, function):
    parts = partition(build(lambda x: function(x, emit), WIDE)["main"])
    assert all(len(region.anchors) < 2 for region in parts.regions)
    check_order(parts)


LARGE = (1, 3, 128, 128)


def pooled(x, emit, filters=64, others=lambda value, emit: [], before=lambda x: x, added=None):
    weight = relax.const(np.ones((filters, 3, 3, 3), np.float32))
    value = emit(exp(emit(conv2d(before(x), weight, strides=2, padding=1))))
    value = value if added is None else emit(add(value, relax.const(np.ones(added, np.float32))))
    return relax.Tuple([emit(max_pool2d(value, (3, 3), strides=(2, 2))), *others(value, emit)])


def test_a_large_map_is_pooled_where_it_is_made(build, emit):
    parts = partition(build(lambda x: pooled(x, emit), LARGE)["main"])
    (region,) = parts.regions
    assert region.source is not None and [op_name(parts.definition[v]) for v in region.outputs] == [
        "relax.nn.max_pool2d"
    ]
    check_order(parts)


@pytest.mark.parametrize("rounded", [ops.bfloat16, lambda x: ops.bfloat16(relax.BlockBuilder.current().emit(exp(x)))])
def test_a_stem_rounds_what_it_reads(build, emit, rounded):
    parts = partition(build(lambda x: pooled(x, emit, before=lambda x: emit(rounded(x))), LARGE)["main"])
    (region,) = parts.regions
    assert region.source is not None and len(region.outputs) == 1
    check_order(parts)


def test_only_a_stem_or_a_head_computes_what_it_reads(build, emit):
    def function(x):
        return conv2d(emit(ops.bfloat16(x)), relax.const(np.ones((64, 6, 3, 3), np.float32)))

    assert described(partition(build(function, SHAPE)["main"])) == [("", ["bfloat16"], 1), ("conv2d", [], 1)]


def test_a_value_for_each_channel_joins_a_map_that_is_pooled(build, emit):
    (region,) = partition(build(lambda x: pooled(x, emit, added=(64, 1, 1)), LARGE)["main"]).regions
    assert region.source is not None


UNPOOLED = {
    "a member tells rows apart": (lambda x, e: pooled(x, e, added=(1, 64, 64, 1)), LARGE),
    "others read the map": (lambda x, e: pooled(x, e, others=lambda v, e: [e(negative(v))]), LARGE),
    "a small map": (pooled, (1, 3, 32, 32)),
    "few filters": (lambda x, e: pooled(x, e, filters=16), (1, 3, 512, 512)),
}


@pytest.mark.parametrize(("function", "shape"), UNPOOLED.values(), ids=list(UNPOOLED))
def test_declines_to_pool_where_the_map_is_made(build, emit, function, shape):
    parts = partition(build(lambda x: function(x, emit), shape)["main"])
    assert all(region.source is None for region in parts.regions)
    check_order(parts)


PAIRS = Kernels(pairs=lambda first, second: True)


def followed(x, emit, kept=lambda first, second, emit: [emit(add(first, second))]):
    first = summand(emit(bits(x)), emit)
    return relax.Tuple(kept(first, summand(emit(bits(first)), emit), emit))


def test_a_convolution_makes_the_rows_that_it_alone_reads(build, emit):
    module = build(lambda x: followed(x, emit), WIDE)
    assert len(partition(module["main"]).regions) == 3  # where no kernel does both
    parts = partition(module["main"], PAIRS)
    region = parts.regions[1]
    assert len(parts.regions) == 2 and region.source is not None
    (joint,) = region.joints
    assert op_name(parts.definition[joint]) == "relax.add" and region.outputs == [joint]
    check_order(parts)


def test_rows_that_several_convolutions_alone_read(build, emit):
    def function(x):
        return relax.Tuple(shortcuts(summand(emit(bits(x)), emit), emit))

    module = build(function, WIDE)
    assert len(partition(module["main"]).regions) == 3  # where no kernel does both
    parts = partition(module["main"], PAIRS)
    region = parts.regions[1]
    assert len(parts.regions) == 2 and region.source is not None
    assert len(region.anchors) == 3 and set(region.outputs) == set(region.joints)
    check_order(parts)


def rows_summed(x, emit, axis=3, keepdims=True):
    value = summand(emit(bits(x)), emit)
    return relax.Tuple([value, emit(relax.op.sum(value, [axis], keepdims=keepdims))])


def test_rows_are_added_up_where_the_map_is_made(build, emit):
    module = build(lambda x: rows_summed(x, emit), WIDE)
    assert len(partition(module["main"]).regions) == 3  # where no kernel does both
    parts = partition(module["main"], Kernels(sum_rows=lambda call: True))
    region = parts.regions[1]
    assert len(parts.regions) == 2 and region.outputs == [*region.members, *region.row_sums]
    check_order(parts)


@pytest.mark.parametrize("arguments", [(2, True), (3, False)], ids=str)
def test_declines_to_add_up_anything_else(build, emit, arguments):
    module = build(lambda x: rows_summed(x, emit, *arguments), WIDE)
    parts = partition(module["main"], Kernels(sum_rows=lambda call: True))
    assert not any(region.row_sums for region in parts.regions)


UNFOLLOWED = {
    "others read the first map": lambda a, b, e: [e(add(a, b)), e(max_pool2d(a, (2, 2)))],
    "the caller reads it": lambda a, b, e: [e(add(a, b)), a],
    "a view of it": lambda a, b, e: [e(add(e(permute_dims(a, (0, 1, 3, 2))), b))],
    "nothing joins what is read": lambda a, b, e: [e(add(a, b)), e(exp(b))],
}


@pytest.mark.parametrize("kept", UNFOLLOWED.values(), ids=list(UNFOLLOWED))
def test_declines_to_make_rows_for_a_convolution(build, emit, kept):
    parts = partition(build(lambda x: followed(x, emit, kept), WIDE)["main"], PAIRS)
    assert all(region.source is None for region in parts.regions)
    check_order(parts)


def test_branches_that_share_sums_before_their_upsampling_stay_apart_from_their_readers(build, emit):
    def upsampled(x, number):
        pooled = emit(max_pool2d(emit(add(x, relax.const(np.float32(number)))), (2, 2), (2, 2)))
        how = {"method": "nearest_neighbor", "rounding_method": "floor", "coordinate_transformation_mode": "asymmetric"}
        return emit(resize2d(emit(bits(pooled)), (4, 4), layout="NCHW", **how))

    def function(x, count):
        first = summand(upsampled(x, 0), emit)
        for number in range(1, count):
            first = emit(add(first, summand(upsampled(x, number), emit)))
        return relax.Tuple(shortcuts(first, emit, 2))

    for count, apart in ((1, False), (2, True)):
        parts = partition(build(lambda x, count=count: function(x, count), WIDE)["main"], PAIRS)
        assert all(region.source is None for region in parts.regions) is apart


#: What the results of a function are besides branches that read the rows of one map.
UNFOLLOWED_BY_SEVERAL = {
    "the caller reads the map": lambda data, other, emit: [data],
    "another kernel reads it": lambda data, other, emit: [emit(max_pool2d(data, (2, 2)))],
    "a branch reads bits of another": lambda data, other, emit: [emit(add(summand(other, emit), data))],
}


@pytest.mark.parametrize("others", UNFOLLOWED_BY_SEVERAL.values(), ids=list(UNFOLLOWED_BY_SEVERAL))
def test_declines_to_make_rows_for_several_convolutions(build, emit, others):
    def function(x):
        other = emit(bits(emit(add(x, relax.const(np.float32(1))))))
        data = summand(emit(bits(x)), emit)
        return relax.Tuple([*shortcuts(data, emit, 2), *others(data, other, emit)])

    parts = partition(build(function, WIDE)["main"], PAIRS)
    assert all(region.source is None for region in parts.regions)
    assert any(len(region.anchors) > 1 for region in parts.regions)
    check_order(parts)


def head(x, emit, filters=8, kernel=1, others=lambda value, emit: []):
    gate = emit(relax.op.sigmoid(emit(relax.op.mean(x, [2, 3], keepdims=True))))
    value = emit(multiply(x, gate))
    weight = relax.const(np.ones((filters, 32, kernel, kernel), np.float32))
    return relax.Tuple([emit(conv2d(value, weight)), *others(value, emit)])


def test_a_head_computes_the_rows_that_it_alone_reads(build, emit):
    parts = partition(build(lambda x: head(x, emit), WIDE)["main"])
    assert described(parts) == [("mean", ["sigmoid"], 1), ("conv2d", [], 1)]
    check_order(parts)


STORED = {
    "others read it": lambda x, e: head(x, e, others=lambda v, e: [e(max_pool2d(v, (2, 2)))]),
    "a larger kernel": lambda x, e: head(x, e, kernel=3),
    "many filters": lambda x, e: head(x, e, filters=64),
}


@pytest.mark.parametrize("function", STORED.values(), ids=list(STORED))
def test_declines_to_compute_rows(build, emit, function):
    parts = partition(build(lambda x: function(x, emit), WIDE)["main"])
    assert ("", ["multiply"], 1) in described(parts)
    check_order(parts)


MASKS = Kernels(masks=lambda call: True)


def masked(
    x,
    emit,
    others=lambda maps, mask, spread, emit: [],
    kernel=1,
    before=lambda maps, emit: emit(concat(maps, 1)),
    count=2,
):
    """Branches of the same bits, and a mask of all their channels that is spread over both."""
    read = emit(bits(x))
    maps = [summand(read, emit) for _ in range(count)]
    weight = relax.const(np.ones((1, 32 * count, kernel, kernel), np.float32))
    mask = emit(relax.op.nn.relu(emit(conv2d(before(maps, emit), weight, padding=kernel // 2))))
    spread = [emit(multiply(value, mask)) for value in maps]
    results = [*(emit(bits(value)) for value in spread), reduce(lambda a, b: emit(add(a, b)), spread)]
    return relax.Tuple([*results, *others(maps, mask, spread, emit)])


def test_a_mask_over_positions_is_spread_where_its_maps_are_made(build, emit):
    module = build(lambda x: masked(x, emit), WIDE)
    assert all(region.mask is None for region in partition(module["main"]).regions)  # where no kernel does
    parts = partition(module["main"], MASKS)
    packed, region = parts.regions
    assert packed.is_elementwise and not region.is_elementwise and region.anchor is None
    assert len(region.source.anchors) == 2 and len(region.source.joints) == 2
    assert op_name(parts.definition[region.mask.anchor]) == "relax.nn.conv2d"
    assert [op_name(parts.definition[var]) for var in region.joints] == ["relax.multiply"] * 2
    assert sorted(dtype_of(var) for var in region.outputs) == ["bool", "bool", "float32"]
    check_order(parts)


def test_a_head_reads_what_is_masked(build, emit):
    def function(x):
        results = masked(x, emit).fields
        return conv2d(results[-1], relax.const(np.ones((4, 32, 1, 1), np.float32)))

    parts = partition(build(function, WIDE)["main"], MASKS)
    assert [region.mask is not None for region in parts.regions] == [False, True, False]
    check_order(parts)


UNMASKED = {
    "the caller reads a map": lambda x, e: masked(x, e, lambda maps, mask, spread, emit: [maps[0]]),
    "the caller reads the mask": lambda x, e: masked(x, e, lambda maps, mask, spread, emit: [mask]),
    "another kernel reads a map": lambda x, e: masked(
        x, e, lambda maps, mask, spread, emit: [emit(max_pool2d(maps[0], (2, 2)))]
    ),
    "another kernel reads the mask": lambda x, e: masked(
        x, e, lambda maps, mask, spread, emit: [emit(max_pool2d(mask, (2, 2)))]
    ),
    "a view of a map is masked": lambda x, e: masked(
        x, e, lambda maps, mask, spread, emit: [emit(multiply(emit(permute_dims(maps[0], (0, 1, 3, 2))), mask))]
    ),
    "more maps than a kernel adds up": lambda x, e: masked(x, e, count=9),
    "neighbours decide": lambda x, e: masked(x, e, kernel=3),
    "another map decides": lambda x, e: masked(x, e, before=lambda maps, emit: emit(concat([maps[0], x], 1))),
    "values of the maps decide": lambda x, e: masked(
        x, e, before=lambda maps, emit: emit(concat([emit(exp(value)) for value in maps], 1))
    ),
}


@pytest.mark.parametrize("function", UNMASKED.values(), ids=list(UNMASKED))
def test_declines_to_mask_where_maps_are_made(build, emit, function):
    parts = partition(build(lambda x: function(x, emit), WIDE)["main"], MASKS)
    assert all(region.mask is None for region in parts.regions)
    check_order(parts)


def test_operands_of_nested_expressions(build, emit):
    found = []

    def function(x, y):
        parts = emit(split(concat([x, y, x], 1), 2, 1))
        found.append([var.name for var in operands(concat([x, y, x], 1))])
        found.append([var.name for var in operands(relax.TupleGetItem(parts, 1))] == [parts.name])
        return relax.TupleGetItem(parts, 1)

    build(function, SHAPE, SHAPE)
    assert found == [["x0", "x1", "x0"], True]
