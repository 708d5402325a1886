"""The options of the commands that train: those of a plan, and where it runs. Importing this is fast."""

import argparse
from typing import Any

from tvm_bnn.console import positive
from tvm_bnn.errors import InputError


def _share(text: str) -> float | None:
    if text == "none":
        return None
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"found {text!r}; a share of 1 or none is needed") from error


_COUNT = {"type": positive, "metavar": "N"}
_NUMBER = {"type": float, "metavar": "X"}
_SIZE = {"type": positive, "nargs": 2, "metavar": ("H", "W")}

#: Field of a Plan -> what --help says of it, and how it is read. What a field accepts, the Plan itself knows.
_OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "variant": ("twin (float) or binary", {}),
    "branches": ("K, parallel branches of the decoder", {**_COUNT, "metavar": "K"}),
    "attention": ("of the decoder: none, channel, spatial or token", {}),
    "upsampling": ("of the decoder: nearest, bilinear, transposed or pixel_shuffle", {}),
    "width": ("channels of the stem", _COUNT),
    "decoder_channels": ("channels of the decoder", _COUNT),
    "seed": ("of the first weights, the order of samples and what is altered in them", {"type": int, "metavar": "N"}),
    "steps": ("of each stage, two or more", {"type": int, "nargs": "+", "metavar": "N"}),
    "until": ("end at that step, before the stages do", _COUNT),
    "batch": ("images a step", _COUNT),
    "rates": ("highest learning rates", {"type": float, "nargs": 2, "metavar": ("STAGE1", "STAGE2")}),
    "schedule": ("how they fall: cosine or poly", {}),
    "weight_decay": ("of Adam", _NUMBER),
    "size": ("of training images", _SIZE),
    "grow": ("share of stage two on half-size images, as stage one; none: no image is", {"type": _share}),
    "scales": ("cut images of --size out of scaled ones", {"type": float, "nargs": 2, "metavar": ("LOW", "HIGH")}),
    "test_size": ("of images afterwards; default --size", _SIZE),
    "init": ("float twin to start a binary network from", {"metavar": "TWIN"}),
    "distil": ("weight of the loss against that twin", _NUMBER),
    "weights": ("of the classes in the loss; default equal ones", {"type": float, "nargs": "+", "metavar": "X"}),
    "bfloat16": ("convolve in bfloat16 while training", {"action": "store_true"}),
}


def add_plan_options(parser: argparse.ArgumentParser, without: tuple[str, ...] = ()) -> None:
    """An option for each field of a Plan; those that are not given are not in the namespace."""
    group = parser.add_argument_group("plan")
    for name, (text, how) in _OPTIONS.items():
        if name in without:
            continue
        group.add_argument("--" + name.replace("_", "-"), dest=name, default=argparse.SUPPRESS, help=text, **how)


def usable_device(name: str) -> str:
    """InputError for a CUDA device that is not there."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise InputError(f"found --device cuda, and PyTorch {torch.__version__} sees none here; try: --device cpu")
    return name
