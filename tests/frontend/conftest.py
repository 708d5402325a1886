"""Networks of a user's own, importable as a user's module is."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module `user_networks`, which `package.module:factory` finds too."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("user_networks")
