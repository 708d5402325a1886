"""The lowered module: which kernels there are, what they share, what is left to TVM, and what is refused."""

import numpy as np
import pytest
import torch
from tvm import relax
from tvm.relax import op

from tvm_bnn import ops
from tvm_bnn.errors import UnsupportedError
from tvm_bnn.frontend import import_program
from tvm_bnn.lower import lower
from tvm_bnn.relay_passes.rewriter import bindings_of
from tvm_bnn.schedules import schedule_module
from tvm_bnn.schedules.apply import RULE_ATTR, RULES

SHAPE = (1, 33, 6, 6)


def emit(expr):
    return relax.BlockBuilder.current().emit(expr)


def constant(*shape, seed=0):
    return relax.const(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def bconv(x, seed=0):
    weight = relax.const(np.random.default_rng(seed).random((33, 33, 3, 3)) < 0.5)
    bits = emit(op.greater_equal(x, relax.const(np.float32(0))))
    integer = emit(ops.bconv2d(bits, weight, ops.BConv2DAttrs(padding=(1, 1, 1, 1))))
    return emit(ops.affine(integer, constant(1, 33, 1, 1, seed=seed), constant(1, 33, 1, 1, seed=seed + 1)))


def families(lowered) -> list[str]:
    return sorted(lowered.family_of.values())


def test_what_follows_a_convolution_is_one_kernel_with_it(build, target):
    def function(x):
        value = emit(op.add(bconv(x), x))
        return emit(op.nn.relu(value))

    lowered = lower(build(function, SHAPE), target)
    # packing the argument, the convolution with residual and relu, the copy to PyTorch's layout
    assert families(lowered) == ["conv", "elementwise", "elementwise"]


def test_chains_of_binary_convolutions_exchange_words(build, target):
    lowered = lower(build(lambda x: bconv(bconv(x), seed=2), SHAPE), target)
    calls = [b.value for b in bindings_of(lowered.module["main"]) if isinstance(b.value, relax.Call)]
    types = [str(call.ty.dtype) for call in calls]
    assert types == ["uint32", "uint32", "float32", "float32"]


def test_equal_kernels_are_shared(build, target):
    lowered = lower(build(lambda x: bconv(bconv(bconv(bconv(x), 2), 4), 6), SHAPE), target)
    assert families(lowered).count("conv") == 2  # bits out, and floats out


def test_equal_constants_are_passed_once(build, target):
    def function(x):
        return op.add(op.multiply(x, constant(1, 33, 1, 1)), constant(1, 33, 1, 1))

    lowered = lower(build(function, SHAPE), target)
    (call,) = [b.value for b in bindings_of(lowered.module["main"]) if isinstance(b.value, relax.Call)][:1]
    assert len(call.args[1].fields) == 2


def test_every_value_knows_its_kernel(build, target):
    module = build(lambda x: op.exp(bconv(x)), SHAPE)
    lowered = lower(module, target)
    names = {name.name_hint for name in lowered.module.get_global_vars()}
    for binding in bindings_of(module["main"]):
        if isinstance(binding.value, relax.Call):
            assert lowered.kernel_of[binding.var.name] in names


def test_dead_values_get_no_kernel(build, target):
    def function(x):
        emit(op.nn.max_pool2d(x, (2, 2)))
        return op.exp(x)

    assert families(lower(build(function, SHAPE), target)) == ["elementwise", "elementwise"]


def test_views_get_no_kernel(build, target):
    def function(x):
        moved = emit(op.permute_dims(op.concat([x, x], 1), (0, 1, 3, 2)))
        return op.mean(moved, [2, 3])

    assert families(lower(build(function, SHAPE), target)) == ["elementwise", "plane_sum"]


LEFT_TO_TVM = {
    "no kernel": (lambda x: op.nn.layer_norm(op.exp(x), constant(6), constant(6), [-1]), "nn.layer_norm"),
    "weights from the input": (lambda x: op.nn.conv2d(op.exp(x), op.exp(x)), "nn.conv2d"),
    "transposed, weights from the input": (
        lambda x: op.nn.conv2d_transpose(x, op.reshape(x, (33, 1, 6, 6))),
        "nn.conv2d_transpose",
    ),
    "a table of picks": (lambda x: op.take(x, relax.const(np.array([[1, 0]])), axis=1), "take"),
    "picks from the input": (lambda x: op.take(x, op.astype(op.max(x), "int64"), axis=1), "take"),
}


@pytest.mark.parametrize(("function", "name"), LEFT_TO_TVM.values(), ids=list(LEFT_TO_TVM))
def test_operators_without_a_kernel_are_left_to_tvm(build, target, function, name):
    lowered = lower(build(function, SHAPE), target)
    assert f"tvm:relax.{name}" in lowered.kernel_of.values()
    assert f"R.{name}" in lowered.module["main"].script()


@pytest.mark.parametrize(
    ("function", "family"),
    [
        (lambda x: op.exp(x), "elementwise"),
        (lambda x: bconv(x), "bconv2d"),
        (lambda x: op.nn.conv2d(x, constant(5, 33, 1, 1)), "conv2d"),
        (lambda x: op.nn.max_pool2d(x, (2, 2)), "reduce"),
        (lambda x: op.mean(x, [2, 3]), "reduce"),
        (lambda x: op.image.resize2d(x, (9, 9), layout="NCHW", method="linear"), "resize"),
    ],
    ids=["elementwise", "bconv2d", "conv2d", "pooling", "mean", "resize"],
)
def test_scheduled_kernels_carry_the_name_of_their_rule(build, target, function, family):
    lowered = lower(build(function, SHAPE), target)
    scheduled = schedule_module(lowered.module, lowered.family_of, target)
    rules = {name: str(scheduled[name].attrs[RULE_ATTR]) for name in lowered.family_of}
    assert all(rule.split("-")[1] == target.isa for rule in rules.values())
    assert any(rule.split("-")[0] == family for rule in rules.values())
    assert not any(RULE_ATTR in lowered.module[name].attrs for name in lowered.family_of)


def test_every_family_has_a_rule(build, target):
    def function(x):
        resized = emit(op.image.resize2d(bconv(x), (9, 9), layout="NCHW", method="linear"))
        results = op.mean(resized, [2, 3]), op.nn.softmax(resized, 1), op.argmax(resized, 1)
        return relax.Tuple([emit(result) for result in results])

    lowered = lower(build(function, SHAPE), target)
    assert set(lowered.family_of.values()) <= set(RULES)


REFUSED = {
    "an odd power": (lambda x: op.power(x, relax.const(np.float32(2.5))), "power"),
    "cubic resize": (
        lambda x: op.image.resize2d(x, (9, 9), layout="NCHW", method="cubic"),
        "cubic resize; nearest and linear are accepted",
    ),
    "another nearest rule": (
        lambda x: op.exp(
            op.image.resize2d(
                x, (9, 9), layout="NCHW", method="nearest_neighbor", coordinate_transformation_mode="half_pixel"
            )
        ),
        r"nearest resize other than floor\(target \* in / out\)",
    ),
    "padding by reflection": (
        lambda x: op.exp(op.nn.pad(x, (0, 0, 0, 0, 1, 1, 1, 1), "reflect")),
        "reflect padding; constant is accepted",
    ),
    "uneven adaptive pooling": (
        lambda x: op.nn.adaptive_avg_pool2d(x, (4, 4)),
        "adaptive pooling from 6x6 to 4x4; sizes that divide the input are accepted",
    ),
}


@pytest.mark.parametrize(("function", "message"), REFUSED.values(), ids=list(REFUSED))
def test_refusals_say_what_is_accepted(build, target, function, message):
    with pytest.raises(UnsupportedError, match=f"^the model: .*{message}"):
        lower(build(function, SHAPE), target)


def test_refusals_name_the_layer(target):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.AdaptiveAvgPool2d(4)

        def forward(self, x):
            return self.head(x)

    module = import_program(torch.export.export(Model().eval(), (torch.zeros(SHAPE),))).module
    with pytest.raises(UnsupportedError, match=r"^head: adaptive pooling from 6x6 to 4x4"):
        lower(module, target)


@pytest.mark.parametrize(("channels", "copied"), [(64, False), (33, True)])
def test_a_result_that_lies_as_it_is_asked_for_is_not_copied(build, target, channels, copied):
    """Channels last, as tokens are; stored channels behind the last one are in the way."""

    def tokens(x):
        pooled = emit(op.nn.max_pool2d(x, (3, 3), strides=(1, 1), padding=(1, 1)))
        return op.reshape(emit(op.permute_dims(pooled, (0, 2, 3, 1))), (1, 48, channels))

    lowered = lower(build(tokens, (1, channels, 6, 8)), target)
    assert any(name.startswith("copy") for name in lowered.family_of) == copied
