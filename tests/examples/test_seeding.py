"""Seeded weights: the same everywhere, and lively."""

import pytest
import torch
from torch import nn

from tvm_bnn.examples.ding2024 import bench, demo, example_inputs
from tvm_bnn.nn import ThresholdSign


def test_seeds_decide_everything():
    first, again, other = (demo(branches=2, seed=seed).state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(first[name], again[name]) for name in first)
    changed = {name for name in first if not torch.equal(first[name], other[name])}
    assert {name for name in first if not name.endswith("num_batches_tracked")} == changed


@pytest.mark.parametrize(("make", "branches"), [(bench, 1), (bench, 3), (demo, 1)])
def test_seeded_weights_are_lively(make, branches: int):
    model = make(branches=branches, seed=0)
    shares, constant = [], []

    def hook(_module, _inputs, output):
        per_channel = (output > 0).float().mean((0, 2, 3))
        shares.append(per_channel.mean().item())
        constant.append(((per_channel == 0) | (per_channel == 1)).float().mean().item())

    for module in model.modules():
        if isinstance(module, ThresholdSign):
            module.register_forward_hook(hook)
    with torch.no_grad():
        classes = model(*example_inputs(model, size=(256, 512)))
    frequencies = torch.bincount(classes.flatten(), minlength=model.config.classes) / classes.numel()
    assert 0.45 < sum(shares) / len(shares) < 0.55 and min(shares) > 0.3 and max(shares) < 0.7
    assert sum(constant) / len(constant) < 0.1
    assert (frequencies > 0.01).sum() >= min(model.config.classes, 8)


def test_gammas_of_both_signs():
    gammas = torch.cat([m.weight for m in bench().modules() if isinstance(m, nn.BatchNorm2d)])
    assert 0.1 < (gammas < 0).float().mean() < 0.2
