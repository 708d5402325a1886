"""Memory is measured from the network on, in a process that knows nothing of this one."""

import numpy as np
import pytest
import torch
from torch import nn

from tvm_bnn.compiler import compile_source
from tvm_bnn.frontend.source import load_source
from tvm_bnn.report import memory
from tvm_bnn.report.peers import FloatNetwork, pytorch_eager
from tvm_bnn.report.peers.peer import Peer
from tvm_bnn.targets import host

MB = 1 << 20
WEIGHTS = 32 * MB


class Wide(nn.Module):
    """One matrix of 32 MB."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WEIGHTS // 4 // 64, 64))

    def forward(self, x):
        return self.weight @ x


@pytest.fixture
def network(tmp_path):
    return FloatNetwork(Wide().eval(), (torch.ones(64, 1),), tmp_path)


def hoarding(network, threads):
    """Keeps 8 MB of each run, far more than what was free before."""
    kept = []

    def run():
        kept.append(np.ones(8 * MB, np.uint8))
        return kept[-1]

    return run


def test_weights_count_and_libraries_and_inputs_do_not(network):
    found = memory.of_peer(pytorch_eager.PEER, network, 1)
    # PyTorch alone takes hundreds of MB
    assert WEIGHTS <= found.peak < WEIGHTS + 100 * MB
    assert found.growth < 4 * MB


def test_what_every_inference_takes_is_growth(network):
    found = memory.of_peer(Peer("hoarding", (), hoarding), network, 1)
    kept = memory.LATER * 8 * MB
    assert kept * 0.9 < found.growth < kept + 16 * MB


def test_an_artifact_allocates_no_more_after_its_second_inference(tmp_path):
    model, inputs = nn.Conv2d(3, 32, 3, padding=1).eval(), (torch.ones(1, 3, 256, 256),)
    path = tmp_path / "conv.bnn"
    compile_source(load_source(model, inputs), host(1)).artifact.save(path)
    found = memory.of_artifact(path, [inputs[0].numpy()], 1)
    # its result is 8 MB; the last one is held until the next one is there
    assert 8 * MB < found.peak < 60 * MB
    assert found.growth < 12 * MB
