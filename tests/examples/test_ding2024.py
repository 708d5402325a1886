"""The example network: its size, its parameters, its export, its float twin."""

import inspect
import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from tvm_bnn.examples.ding2024 import (
    BENCH,
    DEMO,
    Ding2024,
    Ding2024Config,
    bench,
    build,
    count_macs,
    demo,
    example_inputs,
    float_twin,
)
from tvm_bnn.nn import (
    ATTENTIONS,
    UPSAMPLINGS,
    BinaryConv2d,
    BinaryConvTranspose2d,
    BinaryMask,
    RPReLU,
    SoftGate,
    ThresholdSign,
)

KINDS = [(upsampling, attention) for upsampling in UPSAMPLINGS for attention in ["none", *ATTENTIONS]]
SMALL = replace(DEMO, width=8, decoder_channels=16, argmax=False, input_size=(64, 96))
BINARY: tuple[type[nn.Module], ...] = (BinaryConv2d, BinaryConvTranspose2d)


def _run(model: Ding2024, **size) -> torch.Tensor:
    with torch.no_grad():
        return model(*example_inputs(model, **size))


def _values_seen(model: Ding2024, kinds: tuple[type[nn.Module], ...], of_output: bool) -> dict[str, set[float]]:
    """The distinct numbers that enter, or leave, each module of these kinds in one run."""
    seen: dict[str, set[float]] = {}

    def watch(name: str):
        def hook(_module, inputs, output):
            seen[name] = set((output if of_output else inputs[0]).unique().tolist())

        return hook

    handles = [m.register_forward_hook(watch(name)) for name, m in model.named_modules() if isinstance(m, kinds)]
    _run(model)
    for handle in handles:
        handle.remove()
    return seen


def test_bench_is_of_the_stated_size():
    model = bench()
    macs = count_macs(model, example_inputs(model))
    assert 25e9 < macs < 26e9


def test_count_macs_of_known_layers():
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Flatten(), nn.Linear(8 * 4 * 6, 10))
    assert count_macs(layers, (torch.zeros(1, 3, 8, 12),)) == 4 * 6 * 8 * 3 * 9 + 8 * 4 * 6 * 10


@pytest.mark.parametrize(("upsampling", "attention"), KINDS)
def test_twin_has_the_same_macs(upsampling: str, attention: str):
    config = replace(DEMO, upsampling=upsampling, attention=attention)
    binary, twin = build(config), float_twin(replace(config, branches=3))
    assert count_macs(twin, example_inputs(twin)) == count_macs(binary, example_inputs(binary))


@pytest.mark.parametrize(("upsampling", "attention"), KINDS)
def test_twin_holds_nothing_binary(upsampling: str, attention: str):
    twin = float_twin(replace(SMALL, upsampling=upsampling, attention=attention, gate=True))
    kinds = {type(module) for module in twin.modules()}
    assert not kinds & {*BINARY, BinaryMask, RPReLU, ThresholdSign}
    logits = _run(twin)
    assert logits.isfinite().all() and len(logits.unique()) > 1000


@pytest.mark.parametrize(("upsampling", "attention"), KINDS)
def test_export_of_every_decoder_stage(upsampling: str, attention: str):
    model = build(replace(SMALL, upsampling=upsampling, attention=attention, branches=2, gate=True))
    stage = model.decoder.up[2]
    feature, previous = (torch.randn(1, 16, 8, 12, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    exported = torch.export.export(stage, (feature, previous)).run_decompositions()
    torch.testing.assert_close(exported.module()(feature, previous), stage(feature, previous))


@pytest.mark.parametrize(("upsampling", "attention"), list(zip(UPSAMPLINGS, ["none", *ATTENTIONS], strict=True)))
def test_export_of_the_whole(upsampling: str, attention: str):
    model = build(replace(SMALL, upsampling=upsampling, attention=attention))
    inputs = example_inputs(model)
    exported = torch.export.export(model, inputs).run_decompositions()
    torch.testing.assert_close(exported.module()(*inputs), model(*inputs))


@pytest.mark.parametrize(("upsampling", "attention"), KINDS)
def test_binary_layers_see_bits_and_masks_are_zero_or_one(upsampling: str, attention: str):
    model = build(replace(SMALL, upsampling=upsampling, attention=attention, branches=2, gate=True))
    operands = _values_seen(model, BINARY, of_output=False)
    assert len(operands) == sum(isinstance(module, BINARY) for module in model.modules())
    assert all(values <= {-1.0, 1.0} for values in operands.values())
    masks = _values_seen(model, (BinaryMask,), of_output=True)
    assert len(masks) == (0 if attention == "none" else 4)
    assert all(values <= {0.0, 1.0} for values in masks.values())


def test_only_stem_and_head_and_attention_are_float():
    for attention, extra in [("none", []), ("channel", []), ("spatial", ["conv"]), ("token", [])]:
        model = build(replace(SMALL, attention=attention))
        convs = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
        within = [f"decoder.{stage}.branches.attention.attend" for stage in ("up.0", "up.1", "up.2", "last")]
        assert convs == ["encoder.stem.conv", *(f"{path}.{name}" for path in within for name in extra), "head"]


@pytest.mark.parametrize("make", [bench, demo])
def test_factories_need_no_argument(make):
    assert all(p.default is not p.empty for p in inspect.signature(make).parameters.values())
    model = make()
    assert not model.training
    (image,) = example_inputs(model)
    assert image.dtype == torch.float32 and image.shape == (1, 3, *model.config.input_size)


def test_outputs():
    logits = _run(build(SMALL))
    classes = _run(build(replace(SMALL, argmax=True)))
    assert logits.shape == (1, 4, 64, 96) and logits.dtype == torch.float32
    assert classes.shape == (1, 64, 96) and classes.dtype == torch.int64
    assert torch.equal(classes, logits.argmax(1))


def test_parameters_take_effect():
    assert bench(stem="7x7").encoder.stem.conv.kernel_size == (7, 7)
    assert len(bench(branches=3).decoder.last.branches.blocks) == 3
    gates = [isinstance(module, SoftGate) for module in build(replace(SMALL, gate=True)).modules()]
    assert sum(gates) == 4
    assert (BENCH.width, BENCH.decoder_channels, BENCH.classes, BENCH.input_size) == (64, 128, 19, (512, 1024))


def test_seeds_decide_everything():
    first, again, other = (demo(branches=2, seed=seed).state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(first[name], again[name]) for name in first)
    changed = {name for name in first if not torch.equal(first[name], other[name])}
    assert {name for name in first if not name.endswith("num_batches_tracked")} == changed
    model = demo()
    assert torch.equal(example_inputs(model)[0], example_inputs(model)[0])
    assert not torch.equal(example_inputs(model)[0], example_inputs(model, seed=1)[0])


@pytest.mark.parametrize(("make", "branches"), [(bench, 1), (bench, 3), (demo, 1)])
def test_seeded_weights_are_lively(make, branches: int):
    model = make(branches=branches)
    shares, constant = [], []

    def hook(_module, _inputs, output):
        per_channel = (output > 0).float().mean((0, 2, 3))
        shares.append(per_channel.mean().item())
        constant.append(((per_channel == 0) | (per_channel == 1)).float().mean().item())

    for module in model.modules():
        if isinstance(module, ThresholdSign):
            module.register_forward_hook(hook)
    frequencies = torch.bincount(_run(model, size=(256, 512)).flatten(), minlength=model.config.classes) / (256 * 512)
    assert 0.45 < sum(shares) / len(shares) < 0.55 and min(shares) > 0.3 and max(shares) < 0.7
    assert sum(constant) / len(constant) < 0.1
    assert (frequencies > 0.01).sum() >= min(model.config.classes, 8)


def test_gammas_of_both_signs():
    gammas = torch.cat([m.weight for m in bench().modules() if isinstance(m, nn.BatchNorm2d)])
    assert 0.1 < (gammas < 0).float().mean() < 0.2


def test_description_is_plain_data():
    for model in (bench(), demo(), build(replace(SMALL, classes=7))):
        described = {"p": model.preprocessing, "n": model.class_names, "c": model.palette}
        assert json.loads(json.dumps(described)) == described
        assert len(model.class_names) == len(model.palette) == model.config.classes
        assert len(set(model.class_names)) == len({tuple(colour) for colour in model.palette}) == model.config.classes


def test_example_input_undoes_to_pixels():
    model = demo()
    (image,) = example_inputs(model)
    mean, std = (torch.tensor(model.preprocessing[key]).reshape(3, 1, 1) for key in ("mean", "std"))
    pixels = (image[0] * std + mean) / model.preprocessing["scale"]
    assert pixels.min() > -0.01 and pixels.max() < 255.01
    assert (pixels - pixels.round()).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("field", "value", "accepted"),
    [
        ("upsampling", "cubic", "nearest, bilinear, transposed, pixel_shuffle"),
        ("attention", "global", "none, channel, spatial, token"),
        ("stem", "5x5", "3x3, 7x7"),
    ],
)
def test_unknown_names_are_refused(field, value, accepted):
    with pytest.raises(ValueError, match=f"{field} is '{value}'; accepted: {accepted}"):
        replace(BENCH, **{field: value})


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="the image is 64x100; both must be multiples of 32"):
        _run(build(SMALL), size=(64, 100))
    with pytest.raises(ValueError, match="must be at least 1"):
        Ding2024Config(branches=0)
