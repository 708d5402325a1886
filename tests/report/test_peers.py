"""Peers give PyTorch's result, and one that is not installed is named."""

import numpy as np
import pytest
import torch
from torch import nn

from tvm_bnn.report.networks import present
from tvm_bnn.report.peers import PEERS, FloatNetwork, Peer


class Tiny(nn.Module):
    """Logits of a convolution -> class map."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, padding=1)

    def forward(self, x):
        return self.conv(x).argmax(1)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    torch.manual_seed(0)
    return FloatNetwork(Tiny().eval(), (torch.randn(1, 3, 16, 24),), tmp_path_factory.mktemp("peers"))


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_peer_agrees_with_pytorch(peer, network):
    if (reason := peer.missing()) is not None:
        pytest.skip(f"{peer.name}: {reason}")
    found = peer.prepare(network, 1)()
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, network.module(*network.inputs).numpy())


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
