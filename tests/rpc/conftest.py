"""Servers on free ports of this machine, one of each kind for a file, and a small compiled network."""

import os
import signal
import socket
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

import tvm_bnn
from tvm_bnn import runtime
from tvm_bnn.nn import BinaryConv2d
from tvm_bnn.rpc import server
from tvm_bnn.rpc.address import LOOPBACK, Address


def free_address() -> Address:
    """A port where nobody listens; somebody else may take it first, which is unlikely."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return Address(*probe.getsockname())


@pytest.fixture(scope="module")
def device():
    """The address of a device without a tracker."""
    address = free_address()
    with server.serve(address):
        yield address


@pytest.fixture(scope="module")
def tracker():
    """The address of a tracker."""
    address = free_address()
    with server.track(address):
        yield address


@contextmanager
def suspended(running: server.Server):
    """A server that does not answer: what it is asked lies in the system's queue."""
    os.kill(running.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(running.pid, signal.SIGCONT)


def crash_session(running: server.Server):
    """End the session that is being served as an instruction would that the processor lacks."""
    (session,) = psutil.Process(running.pid).children()
    session.send_signal(signal.SIGILL)


class Segmenter(torch.nn.Module):
    """Classes of the pixels of an image, by way of a binary convolution."""

    preprocessing = {"scale": 1 / 255, "mean": [0.5], "std": [0.25]}  # noqa: RUF012 - plain data, as models have it

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 32, 3, 2, 1)
        self.binary = BinaryConv2d(32, 32, 3, padding=1)
        self.head = torch.nn.Conv2d(32, 4, 1)

    def forward(self, x):
        """Classes, and their scores."""
        scores = self.head(self.binary(self.stem(x)))
        return scores.argmax(1), scores


@pytest.fixture(scope="session")
def image():
    """An input of the segmenter, float32 [1, 3, 16, 24]."""
    return np.random.default_rng(0).standard_normal((1, 3, 16, 24)).astype(np.float32)


def segmenter(target: str, image: np.ndarray, folder: Path) -> Path:
    """The file of the network, compiled for a target."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Segmenter().eval()
    path = folder / "segmenter.bnn"
    tvm_bnn.compile(model, (torch.from_numpy(image),), target=target, threads=1).save(path)
    return path


@pytest.fixture(scope="session")
def network(tmp_path_factory, image):
    """The network for this machine, and its results here: class map, scores."""
    path = segmenter("llvm", image, tmp_path_factory.mktemp("network"))
    return path, runtime.load(path)(image)


def check_equal(found, expected):
    """Tuples of arrays that are equal in every bit."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
