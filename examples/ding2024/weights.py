"""Compact checkpoints: safetensors files with binary weights as bits.

A binary filter w enters a network only as sign(w) * mean|w|, so a file holds one bit a weight, packed eight to a
byte in the order of the tensor (1 where w >= 0), and one float16 scale a filter. Loading puts w = +-scale. Then
mean|w| is that scale exactly: a float16 has 11 significant bits, so sums of up to 2^13 equal ones are exact in
float32, and a filter has fewer weights than that. So what is loaded computes the same wherever it runs, and saving it
again gives the same file. Rounding the scales does change the network that was trained: accuracy is to be measured
after loading. All other tensors are kept in float32 (binary networks) or float16 (float twins).
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from tvm_bnn.errors import ModelError
from tvm_bnn.examples.ding2024.config import Ding2024Config
from tvm_bnn.examples.ding2024.model import Ding2024
from tvm_bnn.examples.ding2024.twin import float_twin
from tvm_bnn.nn import BinaryConv2d, BinaryConvTranspose2d

FORMAT = "ding2024 compact 1"
LARGEST_FILTER = 2**13


def _binary_weights(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, tuple[int, ...]]]:
    """Name, weight and the dimensions that one scale is shared over."""
    for name, module in model.named_modules():
        if isinstance(module, BinaryConv2d):
            yield f"{name}.weight", module.weight, (1, 2, 3)
        elif isinstance(module, BinaryConvTranspose2d):
            yield f"{name}.weight", module.weight, (0, 2, 3)


def _others(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and statistics that are not binary weights; the counters of batches are not needed."""
    binary = {name for name, _, _ in _binary_weights(model)}
    state = model.state_dict()
    return {name: value for name, value in state.items() if name not in binary and value.is_floating_point()}


def _scale(magnitude: Tensor, shared: tuple[int, ...]) -> Tensor:
    """Float16 scale of each filter: the mean of its magnitudes, or their common value."""
    assert magnitude.numel() // magnitude.mean(shared).numel() <= LARGEST_FILTER
    low, high = magnitude.amin(shared), magnitude.amax(shared)
    return torch.where(low == high, low, magnitude.mean(shared)).half()


def pack(model: nn.Module, floats: torch.dtype) -> dict[str, Tensor]:
    """The tensors of a file: NAME.bits uint8 and NAME.scale float16 for binary weights, NAME in `floats` otherwise."""
    tensors = {name: value.to(floats).contiguous() for name, value in _others(model).items()}
    for name, weight, shared in _binary_weights(model):
        values = weight.detach()
        tensors[f"{name}.bits"] = torch.from_numpy(np.packbits((values >= 0).numpy()))
        tensors[f"{name}.scale"] = _scale(values.abs(), shared)
    return tensors


def unpack(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Fill the model from what `pack` gave; ModelError if names or sizes do not fit."""
    wanted = dict(_others(model))
    for name, weight, shared in _binary_weights(model):
        wanted[f"{name}.bits"] = torch.empty((weight.numel() + 7) // 8)
        wanted[f"{name}.scale"] = torch.empty(_scale(weight.detach(), shared).shape)
    wrong = [name for name in wanted if name not in tensors or tensors[name].shape != wanted[name].shape]
    wrong += [name for name in tensors if name not in wanted]
    if wrong:
        raise ModelError(f"{len(wrong)} tensors of the checkpoint do not fit the network, such as {wrong[0]}")
    with torch.no_grad():
        for name, value in _others(model).items():
            value.copy_(tensors[name])
        for name, weight, shared in _binary_weights(model):
            bits = np.unpackbits(tensors[f"{name}.bits"].numpy(), count=weight.numel())
            signs = torch.from_numpy(bits).reshape(weight.shape) * 2.0 - 1.0
            shape = [1 if dim in shared else size for dim, size in enumerate(weight.shape)]
            weight.copy_(signs * tensors[f"{name}.scale"].float().reshape(shape))


def _floats(variant: str) -> torch.dtype:
    return torch.float32 if variant == "binary" else torch.float16


def round_compact(model: Ding2024, variant: str) -> None:
    """Make of the model, in place, what its compact checkpoint would give back."""
    unpack(model, pack(model, _floats(variant)))


def save_compact(model: Ding2024, path: Path, variant: str, notes: dict[str, str] | None = None) -> None:
    """Write the model, of the variant "binary" or "twin", to a compact checkpoint; notes go to its metadata."""
    tensors = pack(model, _floats(variant))
    about = {"format": FORMAT, "variant": variant, "config": json.dumps(asdict(model.config))}
    path.write_bytes(save(tensors, metadata={**(notes or {}), **about}))


def read_compact(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a compact checkpoint; ModelError if the file is not one."""
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot read the checkpoint {path}: {error}") from error
    if about.get("format") != FORMAT:
        raise ModelError(f"{path} is not a compact checkpoint of this network (format {about.get('format')!r})")
    return tensors, about


def load_compact(path: Path) -> Ding2024:
    """The network of a compact checkpoint in eval mode; ModelError if the file is not one."""
    tensors, about = read_compact(path)
    given = json.loads(about["config"])
    config = Ding2024Config(**{**given, "input_size": tuple(given["input_size"])})
    model = float_twin(config) if about["variant"] == "twin" else Ding2024(config)
    unpack(model, tensors)
    return model.eval()
