"""SimplifyViews: rearrangements that cancel disappear, and nothing else changes."""

import pytest
import tvm
from tvm import relax
from tvm.relax.op import broadcast_to, concat, exp, permute_dims, reshape, split
from tvm.relax.op.image import resize2d

from tvm_bnn.relay_passes.simplify_views import SimplifyViews, split_sizes

SHAPE = (2, 4, 6, 6)


def nearest(x, size):
    return resize2d(
        x,
        size,
        layout="NCHW",
        method="nearest_neighbor",
        coordinate_transformation_mode="asymmetric",
        rounding_method="floor",
    )


IDENTITIES = {
    "concat of one": lambda x: concat([x], 1),
    "split into one": lambda x: split(x, 1, 1),
    "reshape": lambda x: reshape(x, SHAPE),
    "broadcast": lambda x: broadcast_to(x, SHAPE),
    "permute": lambda x: permute_dims(x, (0, 1, 2, 3)),
    "permute, counted from the end": lambda x: permute_dims(x, (-4, -3, -2, -1)),
    "nearest": lambda x: nearest(x, (6, 6)),
}


@pytest.mark.parametrize("view", IDENTITIES.values(), ids=list(IDENTITIES))
def test_removes_what_changes_nothing(build, run, view):
    before = build(lambda x: exp(view(x)), SHAPE)
    tvm.ir.assert_structural_equal(run(before, SimplifyViews()), build(exp, SHAPE))


def _tuple_part(expr, index):
    return relax.TupleGetItem(relax.BlockBuilder.current().emit(expr), index)


DECLINED = {
    "concat of two": lambda x: concat([x, x], 1),
    "reshape": lambda x: reshape(x, (2, 4, 36)),
    "broadcast": lambda x: broadcast_to(reshape(x, (1, *SHAPE)), (3, *SHAPE)),
    "permute": lambda x: permute_dims(x, (0, 1, 3, 2)),
    # sorted as written, and yet no identity
    "permute, counted from the end": lambda x: permute_dims(x, (-2, -1, 0, 1)),
    "permute without axes": lambda x: permute_dims(x),
    "nearest": lambda x: nearest(x, (12, 6)),
    "split": lambda x: _tuple_part(split(x, 2, 1), 1),
    "split along another axis": lambda x: _tuple_part(split(concat([x, x], 1), 2, 2), 1),
    "split at other places": lambda x: _tuple_part(split(concat([x, x], 1), [3], 1), 1),
    "split into other numbers": lambda x: _tuple_part(split(concat([x, x], 1), 4, 1), 1),
    "mean over the joined axis": lambda x: relax.op.mean(concat([x, x], 1), [1, 2]),
    "mean over the joined axis, counted from the end": lambda x: relax.op.mean(concat([x, x], -1), [3]),
    "mean over everything": lambda x: relax.op.mean(concat([x, x], 1)),
}


@pytest.mark.parametrize("view", DECLINED.values(), ids=list(DECLINED))
def test_declines_the_rest(build, run, view):
    before = build(lambda x: exp(view(x)), SHAPE)
    tvm.ir.assert_structural_equal(run(before, SimplifyViews()), before)


@pytest.mark.parametrize("sections", [2, [2], [5]], ids=str)
def test_split_undoes_concat(build, run, sections):
    def parts(join):
        def function(x, y):
            first, second = join(x, y)
            return relax.Tuple([exp(first), exp(second)])

        return function

    def joined(x, y):
        pair = relax.BlockBuilder.current().emit(split(concat([x, y], 1), sections, 1))
        return relax.TupleGetItem(pair, 0), relax.TupleGetItem(pair, 1)

    widths = (4, 4) if sections == 2 else (sections[0], 3)
    shapes = [(2, width, 6, 6) for width in widths]
    after = run(build(parts(joined), *shapes), SimplifyViews())
    tvm.ir.assert_structural_equal(after, build(parts(lambda x, y: (x, y)), *shapes))


@pytest.mark.parametrize("reduction", ["mean", "sum", "max", "min"])
@pytest.mark.parametrize("axis", [1, -3])
@pytest.mark.parametrize(("over", "keep"), [([2, 3], True), ([2, 3], False), ([0], False), ([-1], False)], ids=str)
def test_reductions_move_before_a_concat(build, run, agree, operators, reduction, axis, over, keep):
    reduce = getattr(relax.op, reduction)
    before = build(lambda x, y: reduce(concat([x, y], axis), over, keep), SHAPE, (2, 3, 6, 6))
    after = run(before, SimplifyViews())
    assert operators(after) == [f"relax.{reduction}"] * 2 + ["relax.concat"]
    agree(before, after)


@pytest.mark.parametrize(("sections", "expected"), [(2, [4, 3]), (3, [3, 3, 1]), ([2, 6], [2, 4, 1])], ids=str)
def test_split_sizes(build, sections, expected):
    found = []

    def function(x):
        call = split(x, sections, 1)
        found.extend(split_sizes(relax.BlockBuilder.current().normalize(call)))
        return x

    build(function, (2, 7))
    assert found == expected
