"""How a template takes its decisions: its own defaults, drawn from what was not tried, or as a tuning record says.

A template asks for each decision by name, with all options and its default. Options may depend on decisions before, so
that the space is a tree: whatever the template asks in turn. A tuner draws its leaves, and a record is what was drawn.
Options are numbers or (named) tuples of numbers, which a JSON line keeps. A default that is not among the options is
one more.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

Option = TypeVar("Option", bound=int | tuple[int, ...])


class DecisionError(Exception):
    """A record asks for what the template does not offer, or not for all that it asks; or nothing is left to draw."""


class Decide(Protocol):
    """Called with a name, options and the default; returns one of these."""

    def __call__(self, name: str, options: Sequence[Option], default: Option) -> Option: ...


def by_default(name: str, options: Sequence[Option], default: Option) -> Option:
    """The template's own choice."""
    return default


class Given:
    """The decisions of a record."""

    def __init__(self, decisions: Mapping[str, Any]) -> None:
        self._decisions = decisions

    def __call__(self, name: str, options: Sequence[Option], default: Option) -> Option:
        """The option that the record names; raises DecisionError where there is no such."""
        if name not in self._decisions:
            raise DecisionError(f"the record has no decision {name!r}")
        wanted = self._decisions[name]
        for option in _all(options, default):
            if plain(option) == wanted:
                return option
        raise DecisionError(f"{name}: found {wanted}, which the template does not offer")


class Tried:
    """Which leaves of a space were taken; each is drawn once."""

    def __init__(self) -> None:
        # paths of options from the root: taken leaves, and nodes below which all are
        self._closed: set[tuple[Any, ...]] = set()

    @property
    def all(self) -> bool:
        """Whether nothing is left."""
        return () in self._closed

    def is_open(self, path: tuple[Any, ...]) -> bool:
        """Whether something below is left."""
        return path not in self._closed

    def take(self, noted: Noted) -> None:
        """Take a leaf, and close each node above it that has no other left."""
        path = tuple(map(_key, noted.taken.values()))
        self._closed.add(path)
        for node, options in zip(reversed(range(len(path))), reversed(noted.options), strict=True):
            if any(self.is_open((*path[:node], _key(option))) for option in options):
                return
            self._closed.add(path[:node])

    def give_back(self, decisions: Mapping[str, Any]) -> None:
        """Let a leaf that was taken be drawn again."""
        path = tuple(map(_key, decisions.values()))
        self._closed.difference_update(path[:length] for length in range(len(path) + 1))


class Noted:
    """Decides as another does; ``taken`` has what was decided, as a record keeps it, ``options`` all that could be."""

    def __init__(self, decide: Decide = by_default) -> None:
        self._decide = decide
        self.taken: dict[str, Any] = {}
        self.options: list[list[Any]] = []

    def __call__(self, name: str, options: Sequence[Option], default: Option) -> Option:
        """What the other decides."""
        return self._note(name, _all(options, default), self._decide(name, options, default))

    def _note(self, name: str, options: Sequence[Option], option: Option) -> Option:
        assert name not in self.taken, f"{name} is asked twice"
        self.options.append([plain(each) for each in options])
        self.taken[name] = plain(option)
        return option


class Drawn(Noted):
    """A leaf that was not tried, at random; near a parent if one is given: all but one decision are its own."""

    def __init__(self, generator: random.Random, tried: Tried, parent: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self._generator, self._tried, self._parent = generator, tried, parent or {}
        self._changed = generator.choice(list(self._parent)) if self._parent else None

    def __call__(self, name: str, options: Sequence[Option], default: Option) -> Option:
        """One of the options below which something is left; raises DecisionError where nothing is."""
        whole = _all(options, default)
        path = tuple(map(_key, self.taken.values()))
        left = [option for option in whole if self._tried.is_open((*path, _key(plain(option))))]
        if not left:
            raise DecisionError("all was tried")
        kept = [option for option in left if name in self._parent and plain(option) == self._parent[name]]
        chosen = kept[0] if kept and name != self._changed else self._generator.choice(left)
        return self._note(name, whole, chosen)


def divisors(number: int, most: int | None = None) -> list[int]:
    """All of them up to a limit, in order: what a loop can be split by."""
    return [d for d in range(1, min(number, most or number) + 1) if number % d == 0]


def plain(option: int | tuple[int, ...]) -> Any:
    """An option as JSON gives it back."""
    return list(option) if isinstance(option, tuple) else option


def _key(option: Any) -> Any:
    """A plain option that can be looked up."""
    return tuple(option) if isinstance(option, list) else option


def _all(options: Sequence[Option], default: Option) -> Sequence[Option]:
    return options if default in options else [*options, default]
