"""The whole list of passes on small networks."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tvm_bnn.reference import evaluate
from tvm_bnn.relay_passes.convert_binary import Decisions
from tvm_bnn.relay_passes.pipeline import optimize, passes
from tvm_bnn.relay_passes.rewriter import bindings_of, op_name, shape_of


class Block(torch.nn.Module):
    """sign, convolution, batch norm with negative and zero gamma, residual."""

    def __init__(self, channels: int, padding_value: float = 0.0):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(channels, channels, 3, 3))
        self.norm = torch.nn.BatchNorm2d(channels)
        self.padding_value = padding_value
        statistics = {
            "weight": torch.linspace(-1, 1, channels),
            "bias": torch.randn(channels),
            "running_mean": torch.randn(channels),
            "running_var": torch.rand(channels) + 0.5,
        }
        self.norm.load_state_dict(statistics, strict=False)

    def forward(self, x):
        scale = self.weight.abs().mean(dim=(1, 2, 3), keepdim=True)
        weight = torch.where(self.weight >= 0, 1.0, -1.0) * scale
        bits = F.pad(torch.where(x >= 0, 1.0, -1.0), (1, 1, 1, 1), value=self.padding_value)
        return self.norm(F.conv2d(bits, weight)) + x


class Network(torch.nn.Module):
    """Stem, binary blocks at two resolutions, a nearest upsampling and a head."""

    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 9, 3, stride=2, padding=1)
        self.blocks = torch.nn.ModuleList(Block(9, value) for value in (0.0, 1.0, -1.0))
        self.head = torch.nn.Conv2d(18, 4, 1)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks[:2]:
            x = block(x)
        up = F.interpolate(F.max_pool2d(x, 2), scale_factor=2, mode="nearest")
        return self.head(torch.cat([self.blocks[2](up), x], 1))


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return Network()


IMAGE = (1, 3, 16, 24)


def test_every_pass_is_well_formed_and_keeps_the_meaning(imported, run, agree, network):
    module = imported(network, torch.zeros(IMAGE))
    for step in passes(Decisions()):
        after = run(module, step)
        # one fold may change the last bits of a value; the signs behind it see the same numbers on this input
        agree(module, after, relative=1e-5)
        module = after


def test_binary_blocks_are_converted_and_their_affine_maps_merged(imported, operators, network):
    decisions = Decisions()
    module = optimize(imported(network, torch.zeros(IMAGE)), decisions)
    assert [(layer.path, layer.decision) for layer in decisions.layers] == [
        ("stem", "float"),
        ("blocks.0", "binary"),
        ("blocks.1", "binary"),
        ("blocks.2", "binary"),
        ("head", "float"),
    ]
    names = operators(module)
    assert names.count("bnn.bconv2d") == names.count("bnn.affine") == 3
    assert "relax.nn.batch_norm" not in names and "relax.where" not in names and "relax.nn.pad" not in names


def test_the_sign_moves_before_the_upsampling(imported, network):
    module = optimize(imported(network, torch.zeros(IMAGE)), Decisions())
    definitions = {binding.var: binding.value for binding in bindings_of(module["main"])}
    last = [value for value in definitions.values() if op_name(value) == "bnn.bconv2d"][-1]
    source = definitions[last.args[0]]
    assert source.op.name == "relax.image.resize2d"
    assert str(source.ty.dtype) == "bool" and shape_of(source.args[0])[2:] == (4, 6)


def test_a_record_names_a_value_of_its_own_shape(imported, network):
    decisions = Decisions()
    module = optimize(imported(network, torch.zeros(IMAGE)), decisions)
    shapes = {binding.var.name: binding.value for binding in bindings_of(module["main"])}
    for layer in decisions.layers:
        if layer.decision == "float":
            assert shapes[layer.value].op.name == "relax.nn.conv2d"


def test_results_equal_torch(imported, network):
    image = torch.randn(IMAGE, generator=torch.Generator().manual_seed(1))
    module = optimize(imported(network, torch.zeros(IMAGE)), Decisions())
    with torch.no_grad():
        wanted = network(image).numpy()
    (got,) = evaluate(module, [image.numpy()])
    # a sign within rounding of its threshold may flip; on this input none does
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
