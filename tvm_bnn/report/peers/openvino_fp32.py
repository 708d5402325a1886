"""OpenVINO in float32."""

from __future__ import annotations

import numpy as np

from tvm_bnn.report.peers.peer import FloatNetwork, Peer, Run


def prepare(network: FloatNetwork, threads: int) -> Run:
    """The network compiled for the latency of one request with so many threads."""
    import openvino

    core = openvino.Core()
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        # the default is bf16 on a processor that has it
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = core.compile_model(core.read_model(str(network.onnx)), "CPU", options).create_infer_request()
    inputs = dict(enumerate(network.arrays()))

    def run() -> np.ndarray:
        return request.infer(inputs, share_inputs=True, share_outputs=True)[0]

    return run


PEER = Peer("openvino-fp32", ("onnx", "onnxscript", "openvino"), prepare)
