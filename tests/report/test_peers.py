"""Peers give PyTorch's first result, and one that is not installed is named."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from tvm_bnn.report.networks import present
from tvm_bnn.report.peers import PEERS, FloatNetwork, Peer

FLOAT32 = ("onnxruntime-fp32", "openvino-fp32", "pytorch-eager")


class Tiny(nn.Module):
    """A class map and the logits that it is of."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, padding=1)

    def forward(self, x):
        logits = self.conv(x)
        return logits.argmax(1), logits


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    torch.manual_seed(0)
    return FloatNetwork(Tiny().eval(), (torch.randn(1, 3, 16, 24),), tmp_path_factory.mktemp("peers"))


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_peer_agrees_with_pytorch(peer, network):
    if (reason := peer.missing()) is not None:
        pytest.skip(f"{peer.name}: {reason}")
    run = peer.prepare(network, 1)
    found = run()
    if peer.name.startswith("openvino"):
        assert re.fullmatch(r"1 \w+", run.ran_on)  # one convolution
    expected = network.module(*network.inputs)[0].numpy()
    assert (found.dtype, found.shape) == (np.int64, expected.shape)
    if peer.name in FLOAT32:
        np.testing.assert_array_equal(found, expected)
    else:
        # of 5 random classes the wrong result would have a fifth
        assert np.mean(found == expected) > 0.9


def test_the_quantised_file_has_int8_convolutions(network):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    graph = onnx.load(str(network.quantized)).graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    (conv,) = (node for node in graph.node if node.op_type == "Conv")
    assert [made_by[name] for name in conv.input[:2]] == ["DequantizeLinear"] * 2
    assert onnx.TensorProto.INT8 in {each.data_type for each in graph.initializer}


def test_pytorch_keeps_the_callers_number_of_threads(network):
    before = torch.get_num_threads()
    (peer,) = (peer for peer in PEERS if peer.name == "pytorch-eager")
    used = []
    network.module.register_forward_pre_hook(lambda *_: used.append(torch.get_num_threads()))
    peer.prepare(network, before + 1)()
    assert (used, torch.get_num_threads()) == ([before + 1], before)


def test_a_missing_peer_is_named_with_the_remedy():
    there = Peer("there", ("json",), lambda network, threads: lambda: np.zeros(1))
    absent = Peer("absent", ("json", "no_such_module_here"), there.prepare)
    peers, missing = present([absent, there])
    assert peers == [there]
    assert missing == {"absent": "no_such_module_here not installed; try pip install 'tvm_bnn[peers]'"}


def test_names_are_unique():
    assert len({peer.name for peer in PEERS}) == len(PEERS)
