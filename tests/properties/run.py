"""Any number of random graphs, resumable: ``python -m tests.properties.run --count 10000 --state FILE``.

The state file has one line a group, written when the group is done: its number, and the graphs that failed. Run again,
with a larger count if you like, it goes on where it was. ``--graph 3,1,4,...`` runs one graph that was printed.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from tests.properties.exact import build, check
from tests.properties.numbered import GROUP, ROTATION, Group, groups_of, outcome_of
from tests.properties.shrink import report


def main() -> int:
    """The command; 1 where a graph failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="graphs, rounded up to whole groups")
    parser.add_argument("--first", type=int, default=0, help="number of the first graph")
    parser.add_argument("--state", type=Path, help="file to go on from")
    parser.add_argument("--seconds", type=float, default=90.0, help="for shrinking each graph that fails")
    parser.add_argument("--graph", help="the choices of one graph, to run it alone")
    parser.add_argument("--targets", default=",".join(ROTATION), help="of the one graph")
    parser.add_argument("--sign-zero", default="plus", help="of the one graph")
    options = parser.parse_args()
    return _one(options) if options.graph else _many(options)


def _one(options: argparse.Namespace) -> int:
    choices = tuple(int(choice) for choice in options.graph.split(","))
    print(build([choices]).module.script())
    wrong = check([choices], list(filter(None, options.targets.split(","))), options.sign_zero).wrong
    print(wrong.get(choices, "exact"))
    return bool(wrong)


def _many(options: argparse.Namespace) -> int:
    done = _read(options.state)
    failed = sum(len(graphs) for graphs in done.values())
    wanted = groups_of(range(options.first, options.first + options.count), every=1)
    groups = [group for group in wanted if group.number not in done]
    print(f"{GROUP * len(done)} graphs done before, {GROUP * len(groups)} to do")
    start = time.monotonic()
    for index, group in enumerate(groups, 1):
        wrong = outcome_of(group).wrong
        outcome_of.cache_clear()
        failed += len(wrong)
        _write(options.state, group, [list(choices) for choices in wrong])
        for choices, message in wrong.items():
            print(report(choices, message, group.targets, group.sign_zero, options.seconds))
        pace = (time.monotonic() - start) / index / GROUP
        print(f"{GROUP * (len(done) + index)} graphs, {failed} failed, {pace:.2f} s each", flush=True)
    return bool(failed)


def _read(state: Path | None) -> dict[int, list]:
    if state is None or not state.exists():
        return {}
    lines = [json.loads(line) for line in state.read_text(encoding="utf-8").splitlines()]
    return {line["group"]: line["failed"] for line in lines}


def _write(state: Path | None, group: Group, failed: list) -> None:
    if state is not None:
        with state.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"group": group.number, "failed": failed}) + "\n")


if __name__ == "__main__":
    sys.exit(main())
