"""The example network goes through torch.export in every variant, and computes the same afterwards."""

from dataclasses import replace

import pytest
import torch

from tvm_bnn.examples.ding2024 import Ding2024Config, build, example_inputs


def test_every_decoder_stage(variant: Ding2024Config):
    stage = build(variant).decoder.up[2]
    feature, previous = (torch.randn(1, 16, 8, 12, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    exported = torch.export.export(stage, (feature, previous)).run_decompositions()
    torch.testing.assert_close(exported.module()(feature, previous), stage(feature, previous))


@pytest.mark.parametrize(
    ("upsampling", "attention"),
    [("nearest", "none"), ("bilinear", "channel"), ("transposed", "spatial"), ("pixel_shuffle", "token")],
)
def test_whole_network(upsampling: str, attention: str, small: Ding2024Config):
    model = build(replace(small, upsampling=upsampling, attention=attention))
    inputs = example_inputs(model)
    exported = torch.export.export(model, inputs).run_decompositions()
    torch.testing.assert_close(exported.module()(*inputs), model(*inputs))
