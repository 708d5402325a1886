"""From a module and its example inputs to an exported program, with errors that a model's author can act on."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from tvm_bnn.errors import ModelError
from tvm_bnn.frontend.freezing import advice_on_exporting, advice_on_running
from tvm_bnn.frontend.user_code import RAISED_BY_USERS, described


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
                f"{name} does not run on its example inputs ({shapes}): {described(error)}; "
                f"{advice_on_running(error)}"
            ) from error


def export(module: nn.Module, inputs: Sequence[Tensor], name: str) -> ExportedProgram:
    """torch.export of a module in eval mode.

    Raises ModelError where PyTorch cannot export it, with the line of the model and what to change.
    """
    with torch.no_grad(), quiet():
        try:
            return torch.export.export(module, tuple(inputs))
        except RAISED_BY_USERS as error:
            line, advice = advice_on_exporting(module, error)
            found = f" ({line})" if line else f": {described(error)}"
            raise ModelError(f"{name} cannot be exported by PyTorch{found}; {advice}") from error
