"""ONNX Runtime in float32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tvm_bnn.report.peers.peer import FloatNetwork, Peer, Run


def prepare(network: FloatNetwork, threads: int) -> Run:
    """A session of the network."""
    return session_run(network.onnx, network.arrays(), threads)


def session_run(path: Path, arrays: Sequence[np.ndarray], threads: int) -> Run:
    """A session of an ONNX file with so many threads, all graph optimisations on."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # waiting threads would take time from the next competitor; during a run they spin as they always do
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    inputs = dict(zip(names, arrays, strict=True))

    def run() -> np.ndarray:
        return session.run(None, inputs)[0]

    return run


PEER = Peer("onnxruntime-fp32", ("onnx", "onnxscript", "onnxruntime"), prepare)
