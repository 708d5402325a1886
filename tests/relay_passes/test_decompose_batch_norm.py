"""DecomposeBatchNorm: inference batch normalisation becomes one affine map per channel."""

import numpy as np
import pytest
import torch
import tvm
from tvm import relax
from tvm.relax.op.nn import batch_norm

from tvm_bnn import ops
from tvm_bnn.relay_passes.decompose_batch_norm import DecomposeBatchNorm


def statistics(channels: int) -> list[np.ndarray]:
    """gamma (negative and zero among them), beta, mean, variance."""
    rng = np.random.default_rng(3)
    gamma = rng.standard_normal(channels).astype(np.float32)
    gamma[1] = 0.0
    beta, mean = rng.standard_normal((2, channels)).astype(np.float32)
    return [gamma, beta, mean, rng.uniform(0.01, 4, channels).astype(np.float32)]


def normalised(x, constants, axis: int = 1, **attributes):
    attributes = {"training": False, "epsilon": 1e-3, **attributes}
    return relax.TupleGetItem(batch_norm(x, *map(relax.const, constants), axis=axis, **attributes), 0)


def test_becomes_an_affine_map(build, run):
    gamma, beta, mean, variance = constants = statistics(3)
    scale = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + 1e-3)
    shift = beta - mean * scale
    a, b = (relax.const(v.astype(np.float32).reshape(1, 3, 1, 1)) for v in (scale, shift))
    after = run(build(lambda x: normalised(x, constants), (2, 3, 4, 5)), DecomposeBatchNorm())
    tvm.ir.assert_structural_equal(after, build(lambda x: ops.affine(x, a, b), (2, 3, 4, 5)))


@pytest.mark.parametrize("attributes", [{}, {"scale": False}, {"center": False}], ids=str)
@pytest.mark.parametrize(("shape", "axis"), [((2, 3, 4, 5), 1), ((4, 3), 1), ((4, 5, 3), 2), ((4, 5, 3), -1)], ids=str)
def test_keeps_every_bit(build, run, agree, operators, shape, axis, attributes):
    before = build(lambda x: normalised(x, statistics(3), axis, **attributes), shape)
    after = run(before, DecomposeBatchNorm())
    assert operators(after) == ["bnn.affine"]
    agree(before, after)


def test_statistics_that_are_results_survive(build, run, agree):
    gamma, beta, mean, variance = map(relax.const, statistics(3))

    def all_results(x):
        results = relax.BlockBuilder.current().emit(batch_norm(x, gamma, beta, mean, variance, 1, training=False))
        return relax.Tuple([relax.TupleGetItem(results, i) for i in range(3)])

    before = build(all_results, (2, 3, 4, 5))
    agree(before, run(before, DecomposeBatchNorm()))


def test_declines_parameters_that_are_inputs(build, run):
    constants = list(map(relax.const, statistics(3)))
    before = build(
        lambda x, gamma: relax.TupleGetItem(batch_norm(x, gamma, *constants[1:], axis=1, training=False), 0),
        (2, 3, 4, 5),
        (3,),
    )
    tvm.ir.assert_structural_equal(run(before, DecomposeBatchNorm()), before)


def test_declines_measured_statistics(build, run):
    before = build(lambda x: normalised(x, statistics(3), training=True), (2, 3, 4, 5))
    tvm.ir.assert_structural_equal(run(before, DecomposeBatchNorm()), before)


def test_an_imported_layer_keeps_every_bit(imported, run, agree, operators):
    layer = torch.nn.BatchNorm2d(5)
    with torch.no_grad():
        for tensor, value in zip(
            (layer.weight, layer.bias, layer.running_mean, layer.running_var), statistics(5), strict=True
        ):
            tensor.copy_(torch.from_numpy(value))
    before = imported(layer, torch.zeros(2, 5, 3, 3))
    after = run(before, DecomposeBatchNorm())
    assert "relax.nn.batch_norm" not in operators(after)
    agree(before, after)
