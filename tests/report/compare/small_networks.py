"""Factories of networks small enough to be measured in a test."""

from dataclasses import replace

from tvm_bnn.examples.ding2024.config import DEMO
from tvm_bnn.examples.ding2024.model import build
from tvm_bnn.examples.ding2024.twin import float_twin

CONFIG = replace(DEMO, width=8, decoder_channels=16, classes=2, argmax=False, input_size=(32, 64))


def twin():
    """The float one."""
    return float_twin(CONFIG)


def binary():
    """The binary one."""
    return build(CONFIG)
