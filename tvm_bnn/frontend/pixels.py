"""Networks that take an image as it comes, uint8 pixels, and normalise it themselves."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tvm_bnn.artifact import DEFAULT_PREPROCESSING
from tvm_bnn.errors import InputError


@contextmanager
def reading_pixels(module: nn.Module) -> Iterator[None]:
    """The module with its ``preprocessing`` in front of it: (pixels * scale - mean) / std, all float32."""
    scale, mean, std = _preprocessing(module)

    def normalised(_module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (pixels,) = arguments
        return ((pixels.to(torch.float32) * scale - mean) / std,)

    hook = module.register_forward_pre_hook(normalised)
    try:
        yield
    finally:
        hook.remove()


def as_pixels(inputs: Sequence[Tensor], module: nn.Module, name: str) -> tuple[Tensor]:
    """The pixels whose normalised values are nearest to a module's example input.

    Raises InputError where the module takes something else than a float32 image [N, 3 or 1, H, W].
    """
    found = ", ".join(f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}" for value in inputs)
    image = inputs[0] if inputs else torch.zeros(0)
    if len(inputs) == 1 and image.dtype == torch.uint8:
        return (image,)
    if len(inputs) != 1 or image.dtype != torch.float32 or image.dim() != 4 or image.shape[1] not in (1, 3):
        raise InputError(
            f"{name} takes {found or 'nothing'}; pixels (uint8) can be read in place of one float32 image "
            "[N, 3, H, W]: leave out the input dtype"
        )
    scale, mean, std = _preprocessing(module)
    return (((image * std + mean) / scale).round().clamp(0, 255).to(torch.uint8),)


def _preprocessing(module: nn.Module) -> tuple[float, Tensor, Tensor]:
    how: Mapping[str, Any] = getattr(module, "preprocessing", None) or DEFAULT_PREPROCESSING
    mean, std = (torch.tensor(how[key], dtype=torch.float32).reshape(1, -1, 1, 1) for key in ("mean", "std"))
    return how["scale"], mean, std
