"""Graph n: always the same one, checked in groups, since one module of many graphs compiles faster than many."""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from tvm import relax

from tests.properties.draws import Draws, from_seed
from tests.properties.exact import Choices, Outcome, check, target
from tests.properties.grammar import grow
from tests.properties.graph import Graph
from tests.thorough import thorough

GROUP = 25  # graphs in one module
ROTATION = ("avx512", "avx2", "generic", "amx")
CONVENTIONS = ("plus", "minus", "exact")
COMPILED = 4  # of so many groups one is compiled, which is most of what a group takes; all of them where time allows


@dataclass(frozen=True)
class Group:
    """Graphs GROUP * number and the next ones, which are optimized and evaluated; every so manieth group is compiled.

    That is for one target in rotation, and for all of them in one of ten such groups.
    """

    number: int
    every: int = COMPILED

    @property
    def graphs(self) -> range:
        """The numbers of its graphs."""
        return range(GROUP * self.number, GROUP * (self.number + 1))

    @property
    def targets(self) -> Sequence[str]:
        """Names of the targets that it is compiled for, among those that this machine can run."""
        turn, rest = divmod(self.number, self.every)
        here = [name for name in ROTATION if target(name).native]
        return [] if rest else here if turn % 10 == 0 else [here[turn % len(here)]]

    @property
    def sign_zero(self) -> str:
        """What sign(0) of a real tensor becomes."""
        count = len(CONVENTIONS)
        return CONVENTIONS[(self.number + self.number // count) % count]  # meets every target, whatever their count


def record(draws: Draws) -> Choices:
    """The choices of the graph that draws lead to."""
    builder = relax.BlockBuilder()
    with builder.function("main"):
        with builder.dataflow():
            graph = Graph(draws)
            output = builder.emit_output(grow(graph))
        builder.emit_func_output(output, graph.variables)
    return tuple(draws.made)


def choices_of(number: int) -> Choices:
    """Graph ``number`` as its choices."""
    return record(from_seed(number))


@functools.cache
def outcome_of(group: Group) -> Outcome:
    """Check a group; done once in a session."""
    return check([choices_of(number) for number in group.graphs], group.targets, group.sign_zero)


def groups_of(graphs: range, every: int | None = None) -> list[Group]:
    """The groups that hold these graphs, whole; every : see Group, where not the default."""
    every = every or (1 if thorough() else COMPILED)
    return [Group(number, every) for number in sorted({number // GROUP for number in graphs})]


def merged(outcomes: Sequence[Outcome]) -> tuple[set[str], set[tuple[str, str]]]:
    """(steps, decisions with reasons) that some groups reached."""
    steps = set(itertools.chain.from_iterable(outcome.steps for outcome in outcomes))
    return steps, set(itertools.chain.from_iterable(outcome.decisions for outcome in outcomes))
