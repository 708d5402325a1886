"""OpenVINO's BinaryConvolution, built by hand: no framework converts to it.

The model of a layer with bits as its result is threshold, layer, threshold, reader. A threshold is a FakeQuantize to
{0, 1}; the reader, a 1x1 BinaryConvolution with 8 filters, is there so that the second threshold makes bits. The model
of a layer with a float result is threshold, layer, scale, shift, residual. OpenVINO counts the time of each node, and
those from the layer on count here, without the reader. What it fuses into a node is part of that node's time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tvm_bnn.report.kernel_cases import Layer
from tvm_bnn.report.peers.peer import BinaryPeer
from tvm_bnn.report.timing import Seconds

#: The nodes that count.
COUNTED = ("layer", "threshold", "scale", "shift", "residual")


def prepare(layer: Layer, residual: bool, threads: int) -> Callable[[], Seconds]:
    """A function that runs the layer once and returns the seconds of its nodes.

    Raises RuntimeError where OpenVINO cannot compile it.
    """
    import openvino

    options = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "PERF_COUNT": "YES",
    }
    request = openvino.Core().compile_model(_model(layer, residual), "CPU", options).create_infer_request()
    rng = np.random.default_rng(0)
    for index, node in enumerate(request.model_inputs):
        request.set_input_tensor(index, openvino.Tensor(rng.standard_normal(list(node.shape)).astype(np.float32)))

    def run() -> Seconds:
        request.infer()
        nodes = [node for node in request.profiling_info if node.node_name in COUNTED]
        return Seconds(sum(node.real_time.total_seconds() for node in nodes))

    return run


def _model(layer: Layer, residual: bool) -> Any:
    import openvino
    import openvino.opset11 as op

    rng = np.random.default_rng(0)
    height, width, channels = layer.size

    def per_channel(count: int) -> Any:
        return op.constant(rng.standard_normal((1, count, 1, 1)).astype(np.float32))

    def threshold(value: Any, count: int) -> Any:
        low, high = (op.constant(np.full((1, 1, 1, 1), each, np.float32)) for each in (0, 1))
        limit = per_channel(count)
        return op.fake_quantize(value, limit, limit, low, high, 2)

    def convolution(
        value: Any, filters: int, inputs: int, kernel: int, stride: int, padding: int, dilation: int
    ) -> Any:
        weight = openvino.Tensor(openvino.Type.u1, [filters, inputs, kernel, kernel])
        bits = rng.integers(0, 2, filters * inputs * kernel * kernel).astype(np.uint8)
        weight.data[:] = np.packbits(bits, bitorder="little").reshape(weight.data.shape)
        return op.binary_convolution(
            value, openvino.op.Constant(weight), [stride] * 2, [padding] * 2, [padding] * 2, [dilation] * 2,
            "xnor-popcount", 0.0,
        )  # fmt: skip

    x = op.parameter([1, channels, height, width], dtype=np.float32)
    value = convolution(
        threshold(x, channels), layer.filters, channels, layer.kernel, layer.stride, layer.padding, layer.dilation
    )
    value.set_friendly_name("layer")
    if not residual:
        value = threshold(value, layer.filters)
        value.set_friendly_name("threshold")
        return openvino.Model([convolution(value, 8, layer.filters, 1, 1, 0, 1)], [x])
    out_height, out_width, filters = layer.out
    y = op.parameter([1, filters, out_height, out_width], dtype=np.float32)
    steps = [
        ("scale", op.multiply, per_channel(filters)),
        ("shift", op.add, per_channel(filters)),
        ("residual", op.add, y),
    ]
    for name, make, operand in steps:
        value = make(value, operand)
        value.set_friendly_name(name)
    return openvino.Model([value], [x, y])


PEER = BinaryPeer("openvino-binary", ("openvino",), prepare)
