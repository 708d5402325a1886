"""What the commands of the report share: the choice of rows, and where results go."""

from __future__ import annotations

import fnmatch
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rich.console import Console

from tvm_bnn import artifact
from tvm_bnn.errors import InputError, OutputError

WIDTH = 260


class Named(Protocol):
    """What a suite can measure."""

    @property
    def name(self) -> str:
        """Of its row."""


Choice = TypeVar("Choice", bound=Named)


def console() -> Console:
    """Where tables are shown; where no terminal sets a width, no column is cut."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDTH)


def select(patterns: Sequence[str] | None, known: Sequence[Choice]) -> list[Choice]:
    """The rows whose name a pattern matches, in the order of the suite; all without patterns.

    Raises InputError for a pattern that matches nothing.
    """
    for pattern in patterns or ():
        if not any(fnmatch.fnmatchcase(row.name, pattern) for row in known):
            names = ", ".join(row.name for row in known)
            raise InputError(f"found no row {pattern!r}; the rows are {names}; patterns such as '*3x3*' match")
    return [row for row in known if not patterns or any(fnmatch.fnmatchcase(row.name, pattern) for pattern in patterns)]


def writable(path: str | None) -> None:
    """Raise OutputError where no file can be made at `path`; nothing is left behind."""
    if path is None:
        return
    target = Path(path)
    if target.is_dir() or not os.access(target.parent, os.W_OK):
        raise OutputError(f"cannot write {path}: it is a folder, or in none that can be written to; try another path")


def write_json(path: str, content: Mapping[str, Any]) -> None:
    """Write the file whole or not at all; raises OutputError."""
    with artifact.whole_file(path) as file:
        file.write(json.dumps(content, indent=1).encode() + b"\n")
