"""OpenVINO in bfloat16, its default where the processor has instructions for it."""

from __future__ import annotations

from tvm_bnn.report.peers.openvino_fp32 import load, request_run
from tvm_bnn.report.peers.peer import FloatNetwork, Peer, Run


def prepare(network: FloatNetwork, threads: int) -> Run:
    """The float32 file; OpenVINO rounds its weights and activations."""
    return request_run(network.onnx, network.arrays(), threads, "bf16")


PEER = Peer("openvino-bf16", ("onnx", "onnxscript", "openvino"), prepare, load)
