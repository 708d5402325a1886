"""Other systems to compare with: one file a peer, one table. Those with ONNX files are the extra `peers`."""

from tvm_bnn.report.peers import (
    onnxruntime_fp32,
    onnxruntime_int8,
    openvino_bf16,
    openvino_binary,
    openvino_fp32,
    openvino_int8,
    pytorch_eager,
    torch_compile,
    tvm_stock,
)
from tvm_bnn.report.peers.peer import BinaryPeer, FloatNetwork, Peer, Run, Telling, first_of, prepared, refresh

PEERS: tuple[Peer, ...] = (
    onnxruntime_fp32.PEER,
    onnxruntime_int8.PEER,
    openvino_fp32.PEER,
    openvino_bf16.PEER,
    openvino_int8.PEER,
    pytorch_eager.PEER,
    torch_compile.PEER,
    tvm_stock.PEER,
)
#: Those with binary layers, of which no framework's networks make use.
BINARY_PEERS: tuple[BinaryPeer, ...] = (openvino_binary.PEER,)

__all__ = [
    "BINARY_PEERS",
    "PEERS",
    "BinaryPeer",
    "FloatNetwork",
    "Peer",
    "Run",
    "Telling",
    "first_of",
    "prepared",
    "refresh",
]
