"""What to change in a model that PyTorch cannot export: each cause with its own advice.

Binary networks are mostly stopped by how they were trained: a forward pass that writes the binarised weight into the
parameter, that initialises a scale on its first call, or that looks at a flag in a buffer. Such models are frozen once,
before the export, and the advice says how.
"""

import inspect
import re
from pathlib import Path

import torch
from torch import nn

from tvm_bnn.frontend.user_code import where

FREEZE = (
    "a forward pass that changes weights cannot be exported: write the changed value into the parameter once, before "
    "export (with torch.no_grad(): layer.weight.copy_(value)), and leave the change out of forward"
)
_BUFFER = (
    "no branch on a tensor's value is exported, and {} is a buffer: freeze it as a Python value once, before export "
    "(layer.ready = bool(layer.{})), and let forward ask that; what a first call initialises has to be done by then"
)
_BRANCH = "no branch on a tensor's value is exported: write torch.where(condition, a, b), or decide before the export"
_NUMBER = (
    "no number is read out of a tensor in an export: leave out .item(), float() and int(), and go on with the tensor; "
    "or freeze it as a Python value before the export"
)
_NUMPY = "no numpy runs in an export: use the functions of torch, or compute the value before the export"
_DATA = "reading .data hides the tensor from the export: write .detach()"
_SCRIPTED = "parts made by torch.jit cannot be exported: use the Python module that {} was made from"
_LEGACY = (
    "PyTorch runs no autograd function without static methods any more: write @staticmethod forward(ctx, ...) and "
    "backward(ctx, ...), and call it as Function.apply(...)"
)
_REWRITE = (
    "export needs a forward pass of tensor operations only: no branch on a tensor's value, no numpy, no autograd "
    "function without static methods"
)

# ``weight.data = ...`` and ``weight.data.sign_()``: a change that export cannot see
_CHANGES_DATA = re.compile(r"\.data\s*=[^=]|\.data\.\w+_\(")
_READS_DATA = re.compile(r"\.data\b")


def advice_on_running(error: BaseException) -> str:
    """What to change in a model that does not run."""
    return _LEGACY if "Legacy autograd function" in str(error) else "try inputs of another shape"


def advice_on_exporting(module: nn.Module, error: BaseException) -> tuple[str, str]:
    """(the line that is to blame, '' where the error's own place is; what to change)."""
    changed = _line_of_source(module, _CHANGES_DATA)
    if changed:
        return changed, FREEZE
    text, line = str(error), where(error)
    scripted = [name for name, part in module.named_modules() if isinstance(part, torch.jit.ScriptModule)]
    if scripted:
        return "", _SCRIPTED.format(scripted[0] or "the model")
    if ".numpy()" in text or "numpy" in line:
        return "", _NUMPY
    if "fake tensor" in text and _line_of_source(module, _READS_DATA):
        return _line_of_source(module, _READS_DATA), _DATA
    if "data-dependent" in text:
        return "", _advice_on_value(module, line)
    return "", _REWRITE if line else f"{_REWRITE}, and no change of weights ({FREEZE})"


def _advice_on_value(module: nn.Module, line: str) -> str:
    """A forward pass has looked at a tensor's value in this line."""
    code = line.partition(": ")[2]
    branches = re.match(r"(if|elif|while)\b", code.strip()) is not None
    names = [name.rpartition(".")[2] for name, _ in module.named_buffers()]
    buffer = next((name for name in names if re.search(rf"\.{re.escape(name)}\b", code)), None)
    if branches and buffer:
        return _BUFFER.format(buffer, buffer)
    if branches:
        return _BRANCH
    return _NUMBER if re.search(r"\.item\(|\bfloat\(|\bint\(", code) else f"{_BRANCH}; {_NUMBER}"


def _line_of_source(module: nn.Module, pattern: re.Pattern[str]) -> str:
    """The first line of the model's own classes that has a pattern, '' where none does."""
    for kind in dict.fromkeys(type(part) for part in module.modules()):
        if kind.__module__.startswith("torch."):
            continue
        try:
            lines, first = inspect.getsourcelines(kind)
            file = inspect.getsourcefile(kind)
        except (OSError, TypeError):  # a class made at run time has no source
            continue
        for number, line in enumerate(lines, first):
            if pattern.search(line):
                return f"{Path(file or '').name}, line {number}: {line.strip()}"
    return ""
