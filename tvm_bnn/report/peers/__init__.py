"""Other systems to compare with: one file a peer, one table. Those with ONNX files are the extra `peers`."""

from tvm_bnn.report.peers import onnxruntime_fp32, openvino_fp32, pytorch_eager
from tvm_bnn.report.peers.peer import FloatNetwork, Peer, Run

PEERS: tuple[Peer, ...] = (onnxruntime_fp32.PEER, openvino_fp32.PEER, pytorch_eager.PEER)

__all__ = ["PEERS", "FloatNetwork", "Peer", "Run"]
