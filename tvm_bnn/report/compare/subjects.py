"""The networks of a comparison, ready to run, and what is known of them without measuring anything."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tvm_bnn.artifact import DEFAULT_PREPROCESSING, Preprocessing
from tvm_bnn.compiler import analysed
from tvm_bnn.errors import InputError
from tvm_bnn.examples.ding2024.accuracy import normalise
from tvm_bnn.examples.ding2024.macs import count_macs
from tvm_bnn.examples.ding2024.weights import load_compact, read_compact
from tvm_bnn.frontend.checkpoint import load_weights
from tvm_bnn.frontend.factory import call_factory, is_factory
from tvm_bnn.frontend.source import load_source
from tvm_bnn.report.compare.config import NetworkTable
from tvm_bnn.report.compare.content import Network, Refused
from tvm_bnn.report.limit import WORD
from tvm_bnn.report.networks import weight_bytes

#: What a configuration may say of a network.
_ASPECTS = ("branches", "attention", "upsampling")


@dataclass(frozen=True, eq=False)
class Subject:
    """A network and the memory of its input.

    pixels : float32 [1, 3, H, W]; whatever runs the network reads it anew each time. about : what its checkpoint says.
    sha256 : of its parameters and its structure.
    """

    table: NetworkTable
    module: nn.Module
    pixels: Tensor
    preprocessing: Preprocessing
    about: Mapping[str, str]
    sha256: str

    @property
    def name(self) -> str:
        """In the configuration."""
        return self.table.name

    def show(self, image: np.ndarray) -> None:
        """Make an image uint8 [H, W, 3] the input."""
        self.pixels.copy_(normalise(image, self.preprocessing))

    def facts(self) -> dict[str, Any]:
        """`Network` without `reduction`, as plain data; what decides about layers is asked of the graph passes."""
        _, decisions = analysed(load_source(self.module, (self.pixels,)))
        binary = sum(layer.macs for layer in decisions.layers if layer.decision == "binary")
        # of a float network, counting shapes is enough, and counts what graph passes remove as well
        total = sum(layer.macs for layer in decisions.layers) if binary else count_macs(self.module, (self.pixels,))
        config = getattr(self.module, "config", None)
        aspects: dict[str, Any] = {name: getattr(config, name, None) for name in _ASPECTS}
        return Network(
            task=self.table.task,
            kind="binary" if binary else "float",
            twin=self.table.twin,
            **aspects,
            file=str(self.table.checkpoint.name if self.table.checkpoint else self.table.model),
            sha256=self.sha256,
            training=dict(self.about),
            parameters=sum(parameter.numel() for parameter in self.module.parameters()),
            weight_bytes=weight_bytes(self.module, decisions),
            binary_macs=binary,
            float_macs=total - binary,
            operations=total - binary + binary / WORD,
            reduction=None,
            binary_share=binary / total if total else 0.0,
            layers_binary=sum(layer.decision == "binary" for layer in decisions.layers),
            layers_float=sum(layer.decision != "binary" for layer in decisions.layers),
            refused=[
                Refused(path=layer.path, op=layer.op, reason=layer.reason, advice=layer.advice)
                for layer in decisions.layers
                if binary and layer.decision != "binary"
            ],
        ).model_dump()


def load(table: NetworkTable, size: tuple[int, int], data_set: str) -> Subject:
    """The network in eval mode, for images of size (H, W) of a data set.

    Raises InputError for one that does not take such images, ModelError where it cannot be loaded.
    """
    about: Mapping[str, str] = {}
    if table.checkpoint is not None:
        module: Any = load_compact(table.checkpoint)
        about = {key: value for key, value in read_compact(table.checkpoint)[1].items() if key != "config"}
        if about.get("task", data_set) != data_set:
            raise InputError(f"network {table.name!r}: {table.checkpoint} is for {about['task']}, not for {data_set}")
    else:
        assert table.model is not None
        if not is_factory(table.model):
            raise InputError(f"network {table.name!r} has the model {table.model!r}; package.module:factory is needed")
        module, _ = call_factory(table.model)
        if not isinstance(module, nn.Module):
            raise InputError(f"network {table.name!r}: {table.model} gives an exported program; a module is needed")
        if table.weights is not None:
            load_weights(module, table.weights)
    module.eval()
    pixels = torch.zeros(1, 3, *size)
    preprocessing = getattr(module, "preprocessing", None) or DEFAULT_PREPROCESSING
    subject = Subject(table, module, pixels, preprocessing, about, _digest(module, table))
    subject.show(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
    try:
        with torch.inference_mode():
            module(pixels)
    except (RuntimeError, TypeError, ValueError) as error:
        text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"network {table.name!r} does not take images of {size[0]}x{size[1]}: {text}") from error
    return subject


def _digest(module: nn.Module, table: NetworkTable) -> str:
    whole = hashlib.sha256(f"{module}{getattr(module, 'config', '')}{table.model}".encode())
    for name, value in sorted(module.state_dict().items()):
        whole.update(name.encode() + value.detach().contiguous().numpy().tobytes())
    return whole.hexdigest()
