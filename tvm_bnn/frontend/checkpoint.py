"""Files that hold a program or weights, told apart by what is in them rather than by their ending."""

import os
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.export import ExportedProgram

from tvm_bnn.errors import ModelError
from tvm_bnn.frontend.user_code import RAISED_BY_USERS, first_line

PathLike = str | os.PathLike[str]
ACCEPTED = "a .pt2 file written by torch.export.save, an .onnx file, or package.module:factory with --weights FILE"
ACCEPTED_WEIGHTS = "a state_dict: torch.save(model.state_dict(), PATH), or the same as .safetensors"
_SHOWN_NAMES = 3


def open_program(path: PathLike) -> ExportedProgram:
    """The exported program in a .pt2 file.

    Raises ModelError for a file that is missing, unreadable, damaged, or holds something else: text, a
    state_dict, a pickled module, a TorchScript archive.
    """
    path = Path(path)
    _check_readable(path, ACCEPTED)
    kind = _kind_of(path)
    if kind:
        raise ModelError(f"{path} is {kind}; accepted is {ACCEPTED}")
    try:
        return torch.export.load(path)
    except RAISED_BY_USERS as error:
        raise ModelError(
            f"{path} cannot be read as an exported program: {first_line(error)}; "
            f"save it again with torch.export.save (this is torch {torch.__version__})"
        ) from error


def load_weights(module: nn.Module, path: PathLike) -> None:
    """Load a state_dict (.pt, .pth or .safetensors) into a model.

    A checkpoint that keeps its state_dict under the key "state_dict" is understood too.

    Raises ModelError for a file that is missing or holds no state_dict, and for weights that do not fit the model.
    """
    path = Path(path)
    _check_readable(path, ACCEPTED_WEIGHTS)
    state = _state_dict(path)
    wanted = module.state_dict()
    problems = []
    missing = [name for name in wanted if name not in state]
    unexpected = [name for name in state if name not in wanted]
    shapes = [
        f"{name} is {list(state[name].shape)} and not {list(value.shape)}"
        for name, value in wanted.items()
        if name in state and state[name].shape != value.shape
    ]
    for what, names in (("it lacks", missing), ("it has the unknown", unexpected), ("in it", shapes)):
        if names:
            problems.append(f"{what} {_few(names)}")
    if problems:
        raise ModelError(
            f"the weights in {path} do not fit {type(module).__name__}: {'; '.join(problems)}; "
            "accepted is the state_dict() of the same model"
        )
    module.load_state_dict(state)


def _few(names: list[str]) -> str:
    more = len(names) - _SHOWN_NAMES
    return ", ".join(names[:_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


def _check_readable(path: Path, accepted: str) -> None:
    try:
        with path.open("rb"):
            return
    except FileNotFoundError:
        raise ModelError(f"there is no file {path}; accepted is {accepted}") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}; accepted is {accepted}") from error


def _kind_of(path: Path) -> str:
    """What a file holds that is no exported program, in words; '' where it may be one."""
    if path.suffix == ".safetensors":
        return "a file of weights and no model"
    if not zipfile.is_zipfile(path):
        return _kind_of_plain(path)
    with zipfile.ZipFile(path) as archive:
        leaves = {name.partition("/")[2] or name for name in archive.namelist()}
    if "constants.pkl" in leaves and any(leaf.startswith("code/") for leaf in leaves):
        return "a TorchScript archive"
    if "data.pkl" not in leaves:
        return "" if any("exported_program" in leaf or "models/" in leaf for leaf in leaves) else "a foreign archive"
    return "a state_dict or checkpoint and no model" if _unpickled(path) is not None else "a pickled module"


def _kind_of_plain(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(256)
    if not start:
        return "empty"
    if start.isascii():
        return "a text file"
    return "a damaged archive, cut short perhaps" if start.startswith(b"PK") else "no archive"


def _unpickled(path: Path) -> Any:
    """What torch.save wrote, as far as it is plain data; None where it is not."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except RAISED_BY_USERS:
        return None


def _state_dict(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (*RAISED_BY_USERS, SafetensorError) as error:
        found = "holds Python objects other than tensors, or is damaged"
        if path.suffix != ".safetensors" and not zipfile.is_zipfile(path):
            found = f"is {_kind_of_plain(path)}"
        raise ModelError(f"the weights {path} cannot be read: it {found}; accepted is {ACCEPTED_WEIGHTS}") from error
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise ModelError(
            f"{path} holds something of type {type(loaded).__name__} and no state_dict; accepted is {ACCEPTED_WEIGHTS}"
        )
    return loaded
