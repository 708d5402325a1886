"""The example network: its size, its parameters, what enters and leaves it."""

import inspect
import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from tvm_bnn.examples.ding2024 import BENCH, Ding2024, Ding2024Config, bench, build, count_macs, demo, example_inputs
from tvm_bnn.nn import BinaryConv2d, BinaryConvTranspose2d, BinaryMask, SoftGate

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


def test_binary_layers_see_bits_and_masks_are_zero_or_one(variant: Ding2024Config):
    model = build(variant)
    operands = _values_seen(model, BINARY, of_output=False)
    assert len(operands) == sum(isinstance(module, BINARY) for module in model.modules())
    assert all(values <= {-1.0, 1.0} for values in operands.values())
    masks = _values_seen(model, (BinaryMask,), of_output=True)
    assert len(masks) == (0 if variant.attention == "none" else 4)
    assert all(values <= {0.0, 1.0} for values in masks.values())


def test_only_stem_and_head_and_attention_are_float(small: Ding2024Config):
    for attention, extra in [("none", []), ("channel", []), ("spatial", ["conv"]), ("token", [])]:
        model = build(replace(small, attention=attention))
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


def test_outputs(small: Ding2024Config):
    logits = _run(build(small))
    classes = _run(build(replace(small, argmax=True)))
    assert logits.shape == (1, 4, 64, 96) and logits.dtype == torch.float32
    assert classes.shape == (1, 64, 96) and classes.dtype == torch.int64
    assert torch.equal(classes, logits.argmax(1))


def test_parameters_take_effect(small: Ding2024Config):
    assert bench(stem="7x7").encoder.stem.conv.kernel_size == (7, 7)
    assert len(bench(branches=3).decoder.last.branches.blocks) == 3
    gates = [isinstance(module, SoftGate) for module in build(replace(small, gate=True)).modules()]
    assert sum(gates) == 4
    assert (BENCH.width, BENCH.decoder_channels, BENCH.classes, BENCH.input_size) == (64, 128, 19, (512, 1024))


def test_description_is_plain_data(small: Ding2024Config):
    for model in (bench(), demo(), build(replace(small, classes=7))):
        described = {"p": model.preprocessing, "n": model.class_names, "c": model.palette}
        assert json.loads(json.dumps(described)) == described
        assert len(model.class_names) == len(model.palette) == model.config.classes
        assert len(set(model.class_names)) == len({tuple(colour) for colour in model.palette}) == model.config.classes


def test_example_input_is_seeded():
    model = demo()
    assert torch.equal(example_inputs(model)[0], example_inputs(model)[0])
    assert not torch.equal(example_inputs(model)[0], example_inputs(model, seed=1)[0])


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


def test_sizes_are_checked(small: Ding2024Config):
    with pytest.raises(ValueError, match="the image is 64x100; both must be multiples of 32"):
        _run(build(small), size=(64, 100))
    with pytest.raises(ValueError, match="must be at least 1"):
        Ding2024Config(branches=0)
