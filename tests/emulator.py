"""Tests that need an emulated Arm processor skip where there is none, unless there has to be one."""

import os

import pytest

from tvm_bnn.emulated import processor

# set where a missing emulator is to be a failure
REQUIRED = "TVM_BNN_NEEDS_EMULATOR"


def need() -> None:
    """Skip or fail where this machine has no emulator."""
    reason = processor.why_not()
    if reason and os.environ.get(REQUIRED):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
