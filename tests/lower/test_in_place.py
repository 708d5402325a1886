"""Which kernels write over an argument, and that results stay what they were."""

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax import op

from tvm_bnn import ops, targets
from tvm_bnn.lower import lower
from tvm_bnn.reference import evaluate
from tvm_bnn.relay_passes.rewriter import bindings_of, op_name
from tvm_bnn.schedules import schedule_module
from tvm_bnn.schedules.apply import machine_code

SHAPE = (1, 64, 6, 16)


def emit(expr):
    return relax.BlockBuilder.current().emit(expr)


def stored(x):
    """A map that a kernel of its own makes."""
    return emit(op.nn.max_pool2d(x, (3, 3), strides=(1, 1), padding=(1, 1)))


def bconv(x, seed=0):
    rng = np.random.default_rng(seed)
    scale, shift = (relax.const(rng.standard_normal((1, 64, 1, 1)).astype(np.float32)) for _ in "ab")
    bits = emit(op.greater_equal(x, relax.const(np.float32(0))))
    weight = relax.const(rng.random((64, 64, 3, 3)) < 0.5)
    integer = emit(ops.bconv2d(bits, weight, ops.BConv2DAttrs(padding=(1, 1, 1, 1))))
    return emit(ops.affine(integer, scale, shift))


def blocks(x):
    """Three residual blocks: each map is read by its own block alone."""
    value = stored(x)
    for seed in range(3):
        value = emit(op.add(bconv(value, seed), value))
    return value


def shortcuts(x):
    """Branches that each add a convolution to one map, which nothing else reads: one of them takes its memory."""
    first = stored(x)
    return relax.Tuple([emit(op.add(bconv(x, seed), first)) for seed in range(3)])


def in_place(lowered) -> list[str]:
    return [b.value.args[0].name_hint for b in bindings_of(lowered.module["main"]) if _is_in_place(b.value)]


def _is_in_place(value) -> bool:
    return op_name(value) == "relax.call_tir_inplace"


def flipped(x):
    first = stored(x)
    return emit(op.add(bconv(x), emit(op.flip(first, 3))))


def read_later(x):
    first = stored(x)
    second = emit(op.add(bconv(x), first))
    return emit(op.add(bconv(second, 1), first))


def returned(x):
    first = stored(x)
    return relax.Tuple([emit(op.add(bconv(x), first)), first])


def read_twice(x):
    """Once where it lies, once moved: by stages of one kernel."""
    first = stored(x)
    return emit(op.add(emit(op.add(bconv(x), first)), emit(op.flip(first, 2))))


def of_another_size(x):
    first = stored(x)
    small = emit(op.nn.max_pool2d(first, (2, 2), strides=(2, 2)))
    return emit(op.add(bconv(x), emit(op.image.resize2d(
        small, SHAPE[2:], layout="NCHW", method="nearest_neighbor",
        coordinate_transformation_mode="asymmetric", rounding_method="floor",
    ))))  # fmt: skip


def of_an_argument(x):
    return emit(op.add(bconv(x), x))


def left_to_tvm(x):
    """What TVM's own operators make or read may share its memory with other values."""
    first = emit(op.nn.layer_norm(x, *(relax.const(np.ones(16, np.float32)) for _ in "ab"), axes=[3]))
    return emit(op.add(bconv(x), first))


def of_one_pixel(x):
    """Bits of a map of one pixel, which every filter of the next layer reads as a whole."""
    pixel = emit(op.mean(x, axis=[2, 3], keepdims=True))
    for seed in range(3):
        pixel = bconv(pixel, seed)
    return pixel


DECLINED = [flipped, returned, read_twice, of_another_size, of_an_argument, of_one_pixel, left_to_tvm]


def test_residual_blocks_write_over_their_maps(build, target):
    lowered = lower(build(blocks, SHAPE), target)
    # the last result is copied to PyTorch's layout, by an elementwise kernel that is no block
    assert len(in_place(lowered)) == 3
    assert all(lowered.family_of[name] == "conv" for name in in_place(lowered))


@pytest.mark.parametrize("cpu", ["sapphirerapids", "x86-64-v4", "x86-64-v3"])
def test_one_of_several_branches_writes_over_what_all_read(build, cpu):
    lowered = lower(build(shortcuts, SHAPE), targets.resolve(f"llvm -mcpu={cpu}", threads=1))
    (name,) = in_place(lowered)
    assert lowered.family_of[name] in ("conv", "matrix_conv")


@pytest.mark.parametrize("function", DECLINED, ids=lambda f: f.__name__)
def test_declines(build, target, function):
    assert in_place(lower(build(function, SHAPE), target)) == []


def test_only_the_last_reader_writes_over_a_map(build, target):
    lowered = lower(build(read_later, SHAPE), target)
    calls = [b.value for b in bindings_of(lowered.module["main"]) if op_name(b.value).startswith("relax.call_tir")]
    kinds = [_is_in_place(call) for call in calls if lowered.family_of[call.args[0].name_hint] == "conv"]
    assert kinds == [False, True]


NATIVE = [text for text in ("llvm", "llvm -mcpu=x86-64-v3") if targets.resolve(text).native]


@pytest.mark.parametrize("text", NATIVE)
@pytest.mark.parametrize("function", [blocks, read_later, shortcuts, *DECLINED[:-1]], ids=lambda f: f.__name__)
def test_results_are_those_of_the_reference(build, function, text):
    target = targets.resolve(text)
    module = build(function, SHAPE)
    lowered = lower(module, target)
    scheduled = schedule_module(lowered.module, lowered.family_of, target)
    machine = relax.VirtualMachine(machine_code(scheduled, target), tvm.cpu())
    for seed in range(2):  # the second run finds the memory of the first
        data = [np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32)]
        result = machine["main"](*map(tvm.runtime.tensor, data))
        results = [result] if hasattr(result, "numpy") else list(result)
        for mine, theirs in zip(results, evaluate(module, data), strict=True):
            np.testing.assert_array_equal(mine.numpy(), theirs)
