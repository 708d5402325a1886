"""ONNX Runtime in int8: static quantisation (QDQ), which it fuses into its kernels."""

from __future__ import annotations

from tvm_bnn.report.peers.onnxruntime_fp32 import session_run
from tvm_bnn.report.peers.peer import FloatNetwork, Peer, Run


def prepare(network: FloatNetwork, threads: int) -> Run:
    """A session of the quantised network, like that of the float one."""
    return session_run(network.quantized, network.arrays(), threads)


PEER = Peer("onnxruntime-int8", ("onnx", "onnxscript", "onnxruntime"), prepare)
