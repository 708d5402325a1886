"""OpenVINO in float32."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tvm_bnn.report.peers.peer import FloatNetwork, Peer, Run, Telling


def prepare(network: FloatNetwork, threads: int) -> Run:
    """The network with float32 arithmetic; the default is bf16 on a processor that has it."""
    return request_run(network.onnx, network.arrays(), threads, "f32")


def load() -> None:
    """OpenVINO loads its code for the processor when it is asked for it."""
    import openvino

    openvino.Core().get_versions("CPU")


def request_run(path: Path, arrays: Sequence[np.ndarray], threads: int, precision: str) -> Telling:
    """An ONNX file compiled for the latency of one request with so many threads.

    precision : of float arithmetic, "f32" or "bf16".
    """
    import openvino

    core = openvino.Core()
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
    }
    compiled = core.compile_model(core.read_model(str(path)), "CPU", options)
    request = compiled.create_infer_request()
    inputs = dict(enumerate(arrays))

    def run() -> np.ndarray:
        return request.infer(inputs, share_inputs=True, share_outputs=True)[0]

    kinds = (node.get_rt_info() for node in compiled.get_runtime_model().get_ops())
    used = Counter(kind["primitiveType"].value for kind in kinds if kind["layerType"].value == "Convolution")
    return Telling(run, ", ".join(f"{count} {name}" for name, count in used.most_common()))


PEER = Peer("openvino-fp32", ("onnx", "onnxscript", "openvino"), prepare, load)
