"""Where the choices of a random graph come from: hypothesis, a seed, or a list that was written down.

A graph is nothing but the list of its choices: small whole numbers, 0 the simplest of each. The list is the standalone
reproducer of a failure, and what hypothesis shrinks.
"""

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

Option = TypeVar("Option")


class Draws:
    """Answers questions by whole numbers, and writes the answers down.

    number : called with the count of answers, returns one of range(count).
    """

    def __init__(self, number: Callable[[int], int]) -> None:
        self._number = number
        self.made: list[int] = []

    def below(self, count: int) -> int:
        """One of range(count); no choice is written down where there is none."""
        if count == 1:
            return 0
        self.made.append(self._number(count))
        return self.made[-1]

    def pick(self, options: Sequence[Option]) -> Option:
        """One of the options, the simplest first."""
        return options[self.below(len(options))]

    def chance(self, one_in: int) -> bool:
        """True once in so many; False is the simple answer."""
        return self.below(one_in) == one_in - 1


def from_list(choices: Sequence[int]) -> Draws:
    """The choices written down; beyond their end, and where a question has fewer answers, the simplest."""
    left = iter(choices)
    return Draws(lambda count: min(next(left, 0), count - 1))


def from_seed(seed: int) -> Draws:
    """Fair choices of a seed."""
    return Draws(random.Random(seed).randrange)
