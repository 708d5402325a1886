"""OpenVINO in int8, on the file that ONNX Runtime's quantisation makes. What stays float is float32."""

from __future__ import annotations

from tvm_bnn.report.peers.openvino_fp32 import load, request_run
from tvm_bnn.report.peers.peer import FloatNetwork, Peer, Run


def prepare(network: FloatNetwork, threads: int) -> Run:
    """The quantised network, compiled like the float one."""
    return request_run(network.quantized, network.arrays(), threads, "f32")


PEER = Peer("openvino-int8", ("onnx", "onnxscript", "onnxruntime", "openvino"), prepare, load)
