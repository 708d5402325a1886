"""Work and memory of a compiled network, call by call."""

import numpy as np
import pytest
import torch
from torch import nn

from tvm_bnn.compiler import compile_source
from tvm_bnn.frontend.source import load_source
from tvm_bnn.nn import BinaryConv2d
from tvm_bnn.report.compare.plan import planned
from tvm_bnn.report.limit import work_of
from tvm_bnn.report.site import HERE
from tvm_bnn.targets import host


class Two(nn.Module):
    """A float stem and two binary convolutions, of which the first has a residual."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False)
        self.first = BinaryConv2d(32, 32, 3, padding=1)
        self.second = BinaryConv2d(32, 64, 3, stride=2, padding=1)

    def forward(self, x):
        x = torch.relu(self.stem(x)) - 0.5
        x = x + self.first(torch.sign(x))
        return self.second(torch.sign(x))


@pytest.fixture(scope="module")
def made():
    torch.manual_seed(0)
    return compile_source(load_source(Two().eval(), (torch.randn(1, 3, 32, 64),)), host(1))


def test_calls_are_those_of_the_virtual_machine(made):
    calls, plan = planned(made)
    ran = HERE.layers(made, None, [value.numpy() for value in made.source.inputs], 1)
    assert [call.kernel for call in calls] == plan.calls == [layer["kernel"] for layer in ran]


def test_work_of_the_calls_is_that_of_the_network(made):
    calls, _ = planned(made)
    work = work_of(made.optimized)
    assert sum(call.binary_macs for call in calls) == work.binary_macs == 16 * 32 * 32 * 32 * 9 + 8 * 16 * 64 * 32 * 9
    assert sum(call.float_macs for call in calls) == work.float_macs == 16 * 32 * 32 * 3 * 9


def test_bytes_of_a_call_are_those_of_its_arguments_and_results(made):
    calls, _ = planned(made)
    image, stem_map = 4 * 3 * 32 * 64, 4 * 32 * 16 * 32
    weights = 4 * 32 * 3 * 9
    # the stem also writes a bit for each value, and reads constants for each filter
    assert image + stem_map + weights <= calls[0].bytes <= image + stem_map * 33 / 32 + weights + 4096


def test_buffers_live_from_their_maker_to_their_last_reader(made):
    calls, plan = planned(made)
    assert all(0 <= each.first <= each.last < len(calls) for each in plan.buffers)
    in_use = np.zeros(len(calls), int)
    for each in plan.buffers:
        in_use[each.first : each.last + 1] += each.bytes
    assert plan.peak_bytes == in_use.max() <= plan.planned_bytes + made.source.expected[0].numel() * 4
    # the stem's float map is read as residual, and nothing holds it longer
    largest = max(plan.buffers, key=lambda each: each.bytes)
    assert (largest.bytes, largest.first) == (4 * 32 * 16 * 32, 0) and largest.last < len(calls) - 1
