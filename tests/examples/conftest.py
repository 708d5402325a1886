"""Small variants of the example network, run on one thread."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from tvm_bnn.examples.ding2024 import DEMO, Ding2024Config
from tvm_bnn.nn import ATTENTIONS, UPSAMPLINGS

KINDS = [(upsampling, attention) for upsampling in UPSAMPLINGS for attention in ["none", *ATTENTIONS]]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Layers this small are slower on threads that wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def small() -> Ding2024Config:
    """A configuration that runs in milliseconds and gives logits."""
    return replace(DEMO, width=8, decoder_channels=16, argmax=False, input_size=(64, 96))


@pytest.fixture(params=KINDS, ids="-".join)
def variant(request: pytest.FixtureRequest, small: Ding2024Config) -> Ding2024Config:
    """The small configuration with every upsampling and attention, two branches and a gate."""
    upsampling, attention = request.param
    return replace(small, upsampling=upsampling, attention=attention, branches=2, gate=True)
