"""``package.module:factory``: find the function, call it without arguments, and take the model that it returns."""

import difflib
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from torch import nn
from torch.export import ExportedProgram

from tvm_bnn.errors import ModelError
from tvm_bnn.frontend.user_code import RAISED_BY_USERS, described

#: The shipped networks answer to the name of their folder in the source tree as well.
SHIPPED = "examples"
_SPELLING = re.compile(r"(?P<module>[A-Za-z_][\w.]*):(?P<name>[A-Za-z_]\w*)")


def is_factory(text: str) -> bool:
    """Whether text is written ``package.module:factory``."""
    return _SPELLING.fullmatch(text) is not None


def call_factory(text: str) -> tuple[nn.Module | ExportedProgram, ModuleType]:
    """The model that a factory makes, and the Python module that holds the factory.

    text : ``package.module:factory``; the factory may also be a model that is ready.

    Raises ModelError where package, module or factory do not exist (with suggestions), where the factory needs
    arguments, fails, or returns something else than a model.
    """
    found = _SPELLING.fullmatch(text)
    assert found, "the caller has asked is_factory"
    module = _imported(found["module"], text)
    made = _called(_attribute(module, found["name"], text), text)
    if not isinstance(made, nn.Module | ExportedProgram):
        raise ModelError(
            f"{text} gives something of type {type(made).__name__}; accepted is a torch.nn.Module or a "
            "torch.export.ExportedProgram: let the factory return the model alone"
        )
    return made, module


def _imported(name: str, text: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name != missing and not name.startswith(f"{missing}."):
            raise ModelError(
                f"{text}: importing {name} failed, for there is no module {missing}; install what provides it"
            ) from error
    except RAISED_BY_USERS as error:
        raise ModelError(f"{text}: importing {name} failed: {described(error)}") from error
    if name.split(".")[0] == SHIPPED:
        return _imported(f"tvm_bnn.{name}", text)
    parent, _, leaf = missing.rpartition(".")
    raise ModelError(
        f"{text}: there is no {'module' if parent else 'package'} {missing}{_suggest(leaf, _siblings(parent))}; "
        "accepted is package.module:factory that Python can import from here: try another folder or PYTHONPATH"
    )


def _siblings(parent: str) -> list[str]:
    """Names of the modules beside a missing one."""
    places = getattr(importlib.import_module(parent), "__path__", []) if parent else None
    # a checkout maps this folder by hand, so it is in no place that can be listed
    return [SHIPPED, *(module.name for module in pkgutil.iter_modules(places))]


def _attribute(module: ModuleType, name: str, text: str) -> Any:
    if hasattr(module, name):
        return getattr(module, name)
    public = [known for known, value in vars(module).items() if callable(value) and not known.startswith("_")]
    raise ModelError(
        f"{text}: {module.__name__} has no {name}{_suggest(name, public)}; "
        f"it has {', '.join(sorted(public)[:8]) or 'nothing that can be called'}"
    )


def _called(factory: Any, text: str) -> Any:
    if isinstance(factory, nn.Module | ExportedProgram) or not callable(factory):
        return factory
    needed = _needed_arguments(factory)
    if needed:
        raise ModelError(
            f"{text} needs the arguments {', '.join(needed)}; a factory is called without any: "
            "write a function that chooses them and returns the model"
        )
    try:
        return factory()
    except RAISED_BY_USERS as error:
        raise ModelError(f"{text} failed: {described(error)}") from error


def _needed_arguments(factory: Callable[..., Any]) -> list[str]:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:  # a callable without a Python signature: calling it will tell
        return []
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is inspect.Parameter.empty and p.kind not in optional]


def _suggest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, sorted(known), n=3)
    return f" (did you mean {', '.join(close)}?)" if close else ""
