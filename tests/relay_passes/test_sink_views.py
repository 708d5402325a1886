"""SinkViews: chains of rearrangements shrink, elementwise operators move before those of a product."""

import numpy as np
import pytest
import tvm
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tvm import relax
from tvm.relax.op import add, exp, greater, multiply, permute_dims, reshape

from tvm_bnn import ops
from tvm_bnn.relay_passes.arrangement import Arrangement
from tvm_bnn.relay_passes.sink_views import SinkViews

BITS = (2, 33, 3, 4), (2, 33, 1, 5)  # a product of [2, 5, 3, 4]


def emit(expr):
    return relax.BlockBuilder.current().emit(expr)


# --- arrangements ---------------------------------------------------------------------------------------------------


def factors(number):
    return [f for f in range(1, number + 1) if number % f == 0]


@st.composite
def chains(draw):
    """A shape, and steps: ("permute", axes) or ("reshape", shape)."""
    shape = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 4, 6, 8]), min_size=1, max_size=4)))
    first, steps = shape, []
    for _ in range(draw(st.integers(1, 5))):
        if draw(st.booleans()):
            axes = draw(st.permutations(range(len(shape))))
            steps.append(("permute", axes))
            shape = tuple(shape[axis] for axis in axes)
            continue
        left, cut = int(np.prod(shape)), []
        while left > 1 and len(cut) < 4:
            cut.append(draw(st.sampled_from(factors(left))))
            left //= cut[-1]
        shape = (*cut, left)
        steps.append(("reshape", shape))
    return first, steps


def moved(array, arrangement):
    return array.reshape(arrangement.atoms).transpose(arrangement.order).reshape(arrangement.shape)


def arranged(shape, steps):
    """The arrangement of a chain, up to a step that none can tell."""
    arrangement = Arrangement.identity(shape)
    for kind, argument in steps:
        after = arrangement.permuted(argument) if kind == "permute" else arrangement.reshaped(argument)
        if after is None:
            break
        arrangement = after
    return arrangement


@settings(max_examples=300, deadline=None)
@given(chains(), st.data())
def test_a_constant_is_taken_back(chain, data):
    arrangement = arranged(*chain)
    extents = [extent if data.draw(st.booleans()) else 1 for extent in arrangement.shape]
    alike = data.draw(st.booleans())
    value = np.zeros(extents) if alike else np.arange(np.prod(extents)).reshape(extents)
    expected = moved(np.broadcast_to(value, arrangement.shape), arrangement.inverse())
    taken = arrangement.taken_back(value)
    if taken is None:
        assert arrangement.place([0] * len(arrangement.shape)) is None
        return
    np.testing.assert_array_equal(np.broadcast_to(taken, expected.shape), expected)
    for axis, extent in enumerate(taken.shape):
        first = np.take(taken, [0], axis)
        assert extent == 1 or not np.array_equal(np.broadcast_to(first, taken.shape), taken)


@settings(max_examples=2000, deadline=None)
@given(chains())
@example(((2, 3), [("reshape", (3, 2)), ("permute", (1, 0))]))
def test_a_chain_is_one_permutation_of_atoms(chain):
    shape, steps = chain
    array = np.arange(np.prod(shape)).reshape(shape)
    arrangement, expected = Arrangement.identity(shape), array
    for kind, argument in steps:
        after = arrangement.permuted(argument) if kind == "permute" else arrangement.reshaped(argument)
        if after is None:
            assert kind == "reshape"
            break
        arrangement = after
        expected = expected.transpose(argument) if kind == "permute" else expected.reshape(argument)
    np.testing.assert_array_equal(moved(array, arrangement), expected)
    np.testing.assert_array_equal(moved(expected, arrangement.inverse()), array)
    axes = arrangement._axes()
    if axes is not None:
        np.testing.assert_array_equal(array.transpose(axes), expected)
    assert arrangement.moves == (not np.array_equal(expected.reshape(-1), array.reshape(-1)))
    for index in [tuple(0 for _ in expected.shape), tuple(e - 1 for e in expected.shape), expected.shape]:
        inside = tuple(i % e if i < e else e // 2 for i, e in zip(index, expected.shape, strict=True))
        place = arrangement.place(inside)
        assert place is None or array[tuple(place)] == expected[inside]
    for ours, its in np.ndindex(expected.ndim, array.ndim):
        if arrangement.keeps(ours, its):
            assert np.diff(expected, axis=ours).ravel()[:1] == array.strides[its] // array.itemsize
    axis = arrangement.innermost()
    if axis is not None:
        assert (np.diff(expected, axis=axis)[(slice(None),) * axis + (slice(0, 1),)] == 1).all()


@settings(max_examples=500, deadline=None)
@given(chains())
@example(((4, 5), [("reshape", (5, 4)), ("permute", (1, 0))]))
def test_factors_of_an_axis_go_to_axes(chain):
    """Neighbours along the last factor that goes to an axis alone are neighbours on it."""
    forward = arranged(*chain)
    for arrangement in (forward, forward.inverse()):
        for axis, extent in enumerate(arrangement.source):
            factors = arrangement.factors_of(axis)
            if factors is None:
                assert forward.place([0] * len(forward.shape)) is None
                continue
            assert np.prod([size for size, _ in factors], dtype=int) == extent
            numbers = np.arange(extent).reshape([-1 if a == axis else 1 for a in range(len(arrangement.source))])
            places = moved(np.broadcast_to(numbers, arrangement.source), arrangement)
            varies = {a for a in range(places.ndim) if np.any(np.diff(places, axis=a))}
            assert {to for _, to in factors} == varies


def test_a_reshape_across_factors_has_no_form():
    turned = Arrangement.identity((3, 4)).permuted((1, 0))
    assert turned.reshaped((6, 2)) is None and turned.reshaped((2, 6)) is not None


# --- the pass -------------------------------------------------------------------------------------------------------

SHORT = {
    "there and back": (lambda x: permute_dims(emit(permute_dims(x, (0, 2, 1))), (0, 2, 1)), lambda x: x),
    "two reshapes": (lambda x: reshape(emit(reshape(x, (6, 20))), (2, 60)), lambda x: reshape(x, (2, 60))),
    "two permutations": (
        lambda x: permute_dims(emit(permute_dims(x, (1, 0, 2))), (2, 1, 0)),
        lambda x: permute_dims(x, (2, 0, 1)),
    ),
    "a transposition through a batch": (
        lambda x: reshape(emit(permute_dims(emit(reshape(x, (1, 2, 3, 20))), (0, 1, 3, 2))), (2, 20, 3)),
        lambda x: permute_dims(x, (0, 2, 1)),
    ),
    "one that has to stay": (lambda x: permute_dims(x, (0, 2, 1)), lambda x: permute_dims(x, (0, 2, 1))),
}


@pytest.mark.parametrize("kind", SHORT)
def test_chains_become_the_shortest(build, run, agree, kind):
    before, expected = SHORT[kind]
    shape = (2, 3, 20)
    module = build(lambda x: exp(emit(before(emit(exp(x))))), shape)
    after = run(module, SinkViews())

    def shortest(x):
        value = expected(emit(exp(x)))
        return exp(value if isinstance(value, relax.Var) else emit(value))

    tvm.ir.assert_structural_equal(after, build(shortest, shape))
    agree(module, after)


def turned(value):
    """[2, 5, 3, 4] as [2, 12, 5]."""
    return emit(permute_dims(emit(reshape(value, (2, 5, 12))), (0, 2, 1)))


def scores(a, b):
    return emit(
        ops.affine(emit(ops.bmatmul(a, b)), *(relax.const(np.full((1, 1, 1, 1), v, np.float32)) for v in (1, 0)))
    )


def test_a_comparison_moves_before_the_transposition(build, run, agree):
    half = relax.const(np.float32(0.5))
    module = build(
        lambda a, b: greater(emit(multiply(turned(scores(a, b)), half)), half), *BITS, dtypes=("bool", "bool")
    )
    expected = build(
        lambda a, b: turned(emit(greater(emit(multiply(scores(a, b), half)), half))), *BITS, dtypes=("bool", "bool")
    )
    after = run(module, SinkViews())
    tvm.ir.assert_structural_equal(after, expected)
    agree(module, after)


def test_operands_that_are_moved_alike_meet_before(build, run, agree, operators):
    def total(a, b):
        value = scores(a, b)
        return add(turned(value), turned(emit(exp(value))))

    module = build(total, *BITS, dtypes=("bool", "bool"))
    after = run(module, SinkViews())
    assert operators(after)[-3:] == ["relax.add", "relax.reshape", "relax.permute_dims"]
    agree(module, after)


def test_a_constant_a_channel_is_taken_back(build, run, agree):
    """The last axis of the transposed product is its channels."""
    values = np.arange(5, dtype=np.float32)
    kinds = {"dtypes": ("bool", "bool")}
    module = build(lambda a, b: multiply(turned(scores(a, b)), relax.const(values)), *BITS, **kinds)
    before = relax.const(values.reshape(1, 5, 1, 1))
    expected = build(lambda a, b: turned(emit(multiply(scores(a, b), before))), *BITS, **kinds)
    after = run(module, SinkViews())
    tvm.ir.assert_structural_equal(after, expected)
    agree(module, after)


def interleaved(x, channels=6):
    """Four convolutions of one map as the phases of one twice as large."""
    rng = np.random.default_rng(0)
    phases = []
    for _ in range(4):
        weight = relax.const(rng.random((channels, 33, 2, 2)) < 0.5)
        integer = emit(ops.bconv2d(x, weight, ops.BConv2DAttrs(padding=(1, 1, 0, 0))))
        phases.append(emit(relax.op.astype(integer, "float32")))
    joined = emit(reshape(emit(relax.op.concat(phases, 1)), (1, 2, 2, channels, 3, 4)))
    return emit(reshape(emit(permute_dims(joined, (0, 3, 4, 1, 5, 2))), (1, channels, 6, 8)))


def test_each_phase_is_normalised_and_compared(build, run, agree, operators):
    rng = np.random.default_rng(1)
    gamma, beta, mean = (relax.const(rng.standard_normal(6).astype(np.float32)) for _ in range(3))
    variance = relax.const(np.ones(6, np.float32))

    def function(x):
        tuple_of = emit(relax.op.nn.batch_norm(interleaved(x), gamma, beta, mean, variance, 1, training=False))
        return greater(emit(relax.TupleGetItem(tuple_of, 0)), relax.const(np.float32(0)))

    module = build(function, (1, 33, 3, 4), dtypes=("bool",))
    after = run(module, SinkViews())
    names = operators(after)
    assert names.count("relax.greater") == names.count("relax.nn.batch_norm") == 4
    assert names[-4:] == ["relax.concat", "relax.reshape", "relax.permute_dims", "relax.reshape"]
    agree(module, after)


KEPT = {
    "moved in two ways": lambda a, b: add(turned(scores(a, b)), emit(reshape(scores(a, b), (2, 12, 5)))),
    "a constant a pixel": lambda a, b: multiply(
        turned(scores(a, b)), relax.const(np.arange(12, dtype=np.float32).reshape(12, 1))
    ),
    "something that is no product": lambda a, b: exp(emit(reshape(emit(relax.op.astype(a, "float32")), (2, 33, 12)))),
}


@pytest.mark.parametrize("kind", KEPT)
def test_declines(build, run, kind):
    module = build(KEPT[kind], *BITS, dtypes=("bool", "bool"))
    tvm.ir.assert_structural_equal(run(module, SinkViews()), module)
