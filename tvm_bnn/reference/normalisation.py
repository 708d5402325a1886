"""Normalisations and softmax.

Batch normalisation at inference is one fused step, fma(x, a, b), with a = gamma / sqrt(var + eps) and
b = beta - mean * a computed in float64 and rounded once. The normalisations that measure their input use the
ordered means of ``reduction``: fma((x - mean) / sqrt(var + eps), gamma, beta).
"""

from collections.abc import Sequence

import numpy as np
from tvm import relax

from tvm_bnn.arithmetic import exp, fma32, log
from tvm_bnn.reference.attributes import axes
from tvm_bnn.reference.reduction import ordered_mean, ordered_sum, ordered_variance


def batch_norm(call: relax.Call, args: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """relax.nn.batch_norm with its running statistics: (result, mean, variance)."""
    attrs = call.attrs
    x, (gamma, beta, mean, variance) = args[0], (value.astype(np.float64) for value in args[1:])
    scale = (gamma if attrs.scale else 1.0) / np.sqrt(variance + float(attrs.epsilon))
    shift = (beta if attrs.center else 0.0) - mean * scale
    shape = _along(x.ndim, int(attrs.axis))
    return (
        fma32(x, scale.astype(np.float32).reshape(shape), shift.astype(np.float32).reshape(shape)),
        args[3],
        args[4],
    )


def _along(rank: int, axis: int) -> list[int]:
    shape = [1] * rank
    shape[axis] = -1
    return shape


def _standardise(x: np.ndarray, over: Sequence[int], epsilon: float) -> np.ndarray:
    return (x - ordered_mean(x, over)) / np.sqrt(ordered_variance(x, over) + np.float32(epsilon))


def _scale_and_shift(call: relax.Call, x: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> np.ndarray:
    one, zero = np.float32(1), np.float32(0)
    return fma32(x, gamma if call.attrs.scale else one, beta if call.attrs.center else zero)


def layer_norm(call: relax.Call, args: Sequence[np.ndarray]) -> np.ndarray:
    """relax.nn.layer_norm over its axes."""
    x, gamma, beta = args
    over = axes(call.attrs.axes, x.ndim)
    shape = [extent if axis in over else 1 for axis, extent in enumerate(x.shape)]
    normal = _standardise(x, over, float(call.attrs.epsilon))
    return _scale_and_shift(call, normal, gamma.reshape(shape), beta.reshape(shape))


def group_norm(call: relax.Call, args: Sequence[np.ndarray]) -> np.ndarray:
    """relax.nn.group_norm: the channels of a group and its axes are one sample."""
    x, gamma, beta = args
    channel, groups = int(call.attrs.channel_axis) % x.ndim, int(call.attrs.num_groups)
    split = x.reshape(*x.shape[:channel], groups, x.shape[channel] // groups, *x.shape[channel + 1 :])
    inner = [axis + (axis > channel) for axis in axes(call.attrs.axes, x.ndim)]
    normal = _standardise(split, sorted({channel + 1, *inner}), float(call.attrs.epsilon)).reshape(x.shape)
    shape = _along(x.ndim, channel)
    return _scale_and_shift(call, normal, gamma.reshape(shape), beta.reshape(shape))


def instance_norm(call: relax.Call, args: Sequence[np.ndarray]) -> np.ndarray:
    """relax.nn.instance_norm over its axes, scaled along the channel axis."""
    x, gamma, beta = args
    shape = _along(x.ndim, int(call.attrs.channel_axis))
    normal = _standardise(x, axes(call.attrs.axes, x.ndim), float(call.attrs.epsilon))
    return _scale_and_shift(call, normal, gamma.reshape(shape), beta.reshape(shape))


def rms_norm(call: relax.Call, args: Sequence[np.ndarray]) -> np.ndarray:
    """relax.nn.rms_norm: (x / sqrt(mean(x * x) + eps)) * weight."""
    x, weight = args
    over = axes(call.attrs.axes, x.ndim)
    shape = [extent if axis in over else 1 for axis, extent in enumerate(x.shape)]
    size = np.sqrt(ordered_mean(x * x, over) + np.float32(float(call.attrs.epsilon)))
    return (x / size) * weight.reshape(shape)


def softmax(call: relax.Call, args: Sequence[np.ndarray]) -> np.ndarray:
    """exp(x - max), divided by its ordered sum along the axis."""
    x = args[0]
    axis = int(call.attrs.axis) % x.ndim
    powers = exp(x - x.max(axis=axis, keepdims=True))
    return powers / ordered_sum(powers, (axis,))


def log_softmax(call: relax.Call, args: Sequence[np.ndarray]) -> np.ndarray:
    """(x - max) - log(ordered sum of exp(x - max))."""
    x = args[0]
    axis = int(call.attrs.axis) % x.ndim
    distance = x - x.max(axis=axis, keepdims=True)
    return distance - log(ordered_sum(exp(distance), (axis,)))


def dropout(_call: relax.Call, args: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Identity at inference, with the mask of ones that Relax returns beside it."""
    return args[0], np.ones_like(args[0])
