"""Finished measurements on the disk, so that a long run can be stopped and goes on.

A measurement is found again only under the very same key: machine, software, network, data and settings are all in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import tvm_bnn
from tvm_bnn.artifact import make_folder, whole_file


class Store:
    """A folder with a file for each finished measurement."""

    def __init__(self, folder: Path, fresh: bool = False) -> None:
        """fresh : measure everything again. Raises OutputError where the folder cannot be made."""
        self._folder = folder
        make_folder(folder)
        #: Files that a fresh run leaves aside until it has written them itself.
        self._aside = set(folder.glob("*.json")) if fresh else set()

    def get(self, kind: str, key: Mapping[str, Any], measure: Callable[[], Any]) -> Any:
        """What was measured under this key, now or before, as plain data."""
        found = self._found(kind, key)
        if found is None:
            value = measure()
            found = {"kind": kind, "key": _plain(key), "value": _plain(value)}
            with whole_file(self._path(kind, key)) as file:
                file.write(json.dumps(found, indent=1).encode())
            self._aside.discard(self._path(kind, key))
        return found["value"]

    def _found(self, kind: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
        path = self._path(kind, key)
        if path in self._aside:
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if (found.get("kind"), found.get("key")) == (kind, _plain(key)) else None

    def _path(self, kind: str, key: Mapping[str, Any]) -> Path:
        text = json.dumps([kind, key], sort_keys=True)
        return self._folder / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(value))


#: Of this folder: what shows measurements, and makes none.
_SHOWS = frozenset(
    "appendix blocks command content headline markdown merge page pareto pictures samples sections verdicts "
    "wording".split()
)


@cache
def source_digest() -> str:
    """A digest of this package's own source: the version alone does not tell two states of it apart.

    What only shows measurements is not in it, so that a page can be drawn anew.
    """
    whole, here = hashlib.sha256(), Path(__file__).parent
    for folder in sorted({*tvm_bnn.__path__, *_parts()}):
        for path in sorted(Path(folder).rglob("*.py")):
            if not (path.is_relative_to(here) and path.relative_to(here).parts[0].removesuffix(".py") in _SHOWS):
                whole.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return whole.hexdigest()[:16]


def _parts() -> list[str]:
    """Folders of the packages that are installed from elsewhere."""
    from tvm_bnn import relay_passes, schedules

    return [*relay_passes.__path__, *schedules.__path__]
