"""Shrinking with hypothesis, and the standalone reproducer that is printed."""

import time
from collections.abc import Sequence

from hypothesis import HealthCheck, Phase, find, settings
from hypothesis import strategies as st
from hypothesis.database import InMemoryExampleDatabase, choices_to_bytes
from hypothesis.errors import NoSuchExample

from tests.properties.draws import Draws
from tests.properties.exact import Choices, build, check
from tests.properties.numbered import record

SECONDS = 90.0
_KEY = b"failing graph"
#: Where hypothesis keeps what it has not shrunk yet.
_UNSHRUNK = _KEY + b".secondary"


@st.composite
def graphs(draw: st.DrawFn) -> Choices:
    """The choices of a graph, drawn by hypothesis."""
    return record(Draws(lambda count: draw(st.integers(0, count - 1))))


def shrunk(choices: Choices, on: Sequence[str], sign_zero: str, seconds: float = SECONDS) -> Choices:
    """A simpler graph that fails too; the given one where none is found in time."""
    database = InMemoryExampleDatabase()
    database.save(_UNSHRUNK, choices_to_bytes(choices))
    end = time.monotonic() + seconds

    known: dict[Choices, bool] = {}

    def fails(candidate: Choices) -> bool:
        if candidate not in known and time.monotonic() < end:
            known[candidate] = bool(check([candidate], on, sign_zero).wrong)
        return known.get(candidate, False)

    limits = settings(
        phases=[Phase.reuse, Phase.shrink], database=database, deadline=None,
        suppress_health_check=list(HealthCheck), max_examples=1000,
    )  # fmt: skip
    try:
        return find(graphs(), fails, settings=limits, database_key=_KEY)
    except NoSuchExample:
        return choices


def report(choices: Choices, message: str, on: Sequence[str], sign_zero: str, seconds: float = SECONDS) -> str:
    """What is wrong with a graph, and with the simplest one found: how to run it, and the graph itself."""
    small = shrunk(choices, on, sign_zero, seconds)
    wrong = check([small], on, sign_zero).wrong.get(small, message)
    return (
        f"{message}\nshrunk to a graph with: {wrong}\nrun it alone with:\n"
        f"  python -m tests.properties.run --targets {','.join(on)} --sign-zero {sign_zero} "
        f"--graph {','.join(map(str, small))}\n{build([small]).module.script()}"
    )
