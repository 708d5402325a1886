"""What TVM's importer gets wrong is right here, and what it cannot do is named."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tvm_bnn.errors import ModelError, UnsupportedError
from tvm_bnn.frontend.importer import import_program
from tvm_bnn.reference import evaluate
from tvm_bnn.relay_passes.rewriter import bindings_of, op_name, path_of


class Resize(nn.Module):
    def __init__(self, mode, **how):
        super().__init__()
        self.mode, self.how = mode, how

    def forward(self, image):
        return F.interpolate(image, mode=self.mode, **self.how)


@pytest.mark.parametrize(
    "how",
    [
        {"size": (13, 17)},
        {"size": (10, 14)},
        {"size": (3, 4)},
        {"size": (5, 19)},
        {"scale_factor": 2.0},
        {"scale_factor": 1.7},
        {"scale_factor": (0.6, 2.5)},
    ],
    ids=str,
)
def test_nearest_resize_follows_pytorch(how):
    image = torch.arange(2 * 35, dtype=torch.float32).reshape(1, 2, 5, 7)
    model = Resize("nearest", **how)
    module = import_program(torch.export.export(model, (image,))).module
    assert torch.equal(torch.from_numpy(evaluate(module, [image.numpy()])[0]), model(image))


def test_tables_of_parameters_are_made_once(networks, monkeypatch):
    """However many parameters there are."""
    made = []
    table = torch.export.ExportGraphSignature.inputs_to_parameters.fget
    counted = property(lambda signature: made.append(signature) or table(signature))
    monkeypatch.setattr(torch.export.ExportGraphSignature, "inputs_to_parameters", counted)
    counts = []
    for depth in (1, 20):
        program = torch.export.export(
            nn.Sequential(*(nn.Conv2d(2, 2, 1) for _ in range(depth))), (torch.ones(1, 2, 3, 3),)
        )
        made.clear()
        import_program(program)
        counts.append(len(made))
    assert counts[0] == counts[1]


SMOOTH = {
    "twice": {"scale_factor": 2.0},
    "a whole size": {"scale_factor": (1.4, 1.0)},
    "a size": {"size": (13, 9)},
    "a smaller size": {"size": (3, 4)},
    "corners": {"size": (8, 9), "align_corners": True},
    "corners and a scale": {"scale_factor": 1.7, "align_corners": True},
    "a scale that gives no whole size": {"scale_factor": (1.7, 2.3)},
    "a smaller scale": {"scale_factor": 0.55},
    "the same, computed again": {"scale_factor": 0.55, "recompute_scale_factor": True},
}


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("how", SMOOTH.values(), ids=list(SMOOTH))
def test_smooth_resize_follows_pytorch(mode, how):
    image = torch.randn(1, 2, 5, 7, generator=torch.Generator().manual_seed(0))
    model = Resize(mode, **how)
    module = import_program(torch.export.export(model, (image,))).module
    operators = {op_name(binding.value) for binding in bindings_of(module["main"])}
    assert ("relax.image.resize2d" in operators) == (how not in ({"scale_factor": (1.7, 2.3)}, {"scale_factor": 0.55}))
    np.testing.assert_allclose(evaluate(module, [image.numpy()])[0], model(image).numpy(), rtol=0, atol=1e-5)


def test_antialiasing_that_does_nothing_is_bilinear():
    image = torch.randn(1, 2, 5, 7, generator=torch.Generator().manual_seed(0))
    model = Resize("bilinear", size=(10, 7), antialias=True)
    module = import_program(torch.export.export(model, (image,))).module
    np.testing.assert_allclose(evaluate(module, [image.numpy()])[0], model(image).numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("how", "message"),
    [({"size": (4, 9)}, "antialiasing of a map that shrinks"), ({"scale_factor": 1.7}, "gives no whole size")],
)
def test_antialiasing_is_refused(how, message):
    model = Resize("bilinear", antialias=True, **how)
    with pytest.raises(UnsupportedError, match=message):
        import_program(torch.export.export(model, (torch.zeros(1, 2, 5, 7),)))


def test_calls_bear_their_layer(networks):
    module = import_program(torch.export.export(networks.net(), (torch.ones(1, 3, 8, 8),))).module
    convolutions = [b.value for b in bindings_of(module["main"]) if op_name(b.value) == "relax.nn.conv2d"]
    assert [path_of(call) for call in convolutions] == ["stem", "binary"]


def test_unknown_operators_are_named_with_their_module(networks):
    program = torch.export.export(networks.Rare(), (torch.ones(1, 3, 4, 4),))
    with pytest.raises(UnsupportedError, match=r"aten\.i0\.default \(in inner\); replace them"):
        import_program(program)


def test_dynamic_shapes_are_refused():
    program = torch.export.export(
        nn.ReLU(), (torch.ones(4, 3),), dynamic_shapes={"input": {0: torch.export.Dim("batch", min=2)}}
    )
    with pytest.raises(ModelError, match=r"dynamic shape .*; static shapes are accepted: export without"):
        import_program(program)
