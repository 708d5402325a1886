"""A small network to measure, and short loops for limits, where a test is about the measuring."""

import torch
from torch import nn

from tvm_bnn.nn import BinaryConv2d
from tvm_bnn.report import machine
from tvm_bnn.report.networks import Network
from tvm_bnn.report.site import Here

#: Of `machine.measure`: ceilings from short loops.
SHORT = {"calls": 2, "steps": 20, "copy_sizes": (1,)}


def quick_ceilings(patch):
    """Have limits measured with short loops, here and on devices, until the patch is undone."""
    measured = machine.measure

    def quick(target, **given):
        return measured(target, **SHORT, **given)

    patch.setattr(machine, "measure", quick)
    patch.setattr(Here, "limits", staticmethod(quick))


def _make():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), BinaryConv2d(32, 32, 3, padding=1), nn.Conv2d(32, 4, 1))
    twin = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 4, 1))
    return network.eval(), twin.eval(), (torch.randn(1, 3, 16, 24),)


SMALL = Network("small-16x24", _make)
