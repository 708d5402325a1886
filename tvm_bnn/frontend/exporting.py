"""From a module and its example inputs to an exported program, with errors that a model's author can act on."""

import contextlib
import inspect
import io
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from tvm_bnn.errors import ModelError
from tvm_bnn.frontend.user_code import RAISED_BY_USERS, described, where

# ``weight.data = ...`` and ``weight.data.sign_()``: a change that export cannot see
_CHANGES_DATA = re.compile(r"\.data\s*=[^=]|\.data\.\w+_\(")
_FREEZE = (
    "a forward pass that changes weights cannot be exported: write the changed value into the parameter once, before "
    "export (with torch.no_grad(): layer.weight.copy_(value)), and leave the change out of forward"
)
_REWRITE = (
    "export needs a forward pass of tensor operations only: no branch on a tensor's value, no numpy, no autograd "
    "function without static methods"
)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings, log lines and printed graphs of PyTorch's exporter, which speak of its own affairs."""
    logger = logging.getLogger("torch")
    level = logger.level
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            logger.setLevel(level)


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """The module in eval mode; each of its parts is afterwards as it was."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def run_once(module: nn.Module, inputs: Sequence[Tensor], name: str) -> object:
    """What the module returns for its inputs; raises ModelError where it cannot run on them."""
    with torch.no_grad():
        try:
            return module(*inputs)
        except RAISED_BY_USERS as error:
            shapes = ", ".join(f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}" for value in inputs)
            raise ModelError(
                f"{name} does not run on its example inputs ({shapes}): {described(error)}; try inputs of another shape"
            ) from error


def export(module: nn.Module, inputs: Sequence[Tensor], name: str) -> ExportedProgram:
    """torch.export of a module in eval mode.

    Raises ModelError where PyTorch cannot export it, with the line of the model and what to change.
    """
    with torch.no_grad(), quiet():
        try:
            return torch.export.export(module, tuple(inputs))
        except RAISED_BY_USERS as error:
            changed = _changed_data(module)
            if changed:
                raise ModelError(f"{name} cannot be exported by PyTorch ({changed}): {_FREEZE}") from error
            advice = _REWRITE if where(error) else f"{_REWRITE}, and no change of weights ({_FREEZE})"
            raise ModelError(f"{name} cannot be exported by PyTorch: {described(error)}; {advice}") from error


def _changed_data(module: nn.Module) -> str:
    """The first line of the model's own classes that changes a parameter's data, '' where none does."""
    for kind in dict.fromkeys(type(part) for part in module.modules()):
        if kind.__module__.startswith("torch."):
            continue
        try:
            lines, first = inspect.getsourcelines(kind)
            file = inspect.getsourcefile(kind)
        except (OSError, TypeError):  # a class made at run time has no source
            continue
        for number, line in enumerate(lines, first):
            if _CHANGES_DATA.search(line):
                return f"{Path(file or '').name}, line {number}: {line.strip()}"
    return ""
