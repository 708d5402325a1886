"""`python -m tvm_bnn.report headline REPORT.json --into README.md`: a report's figures in another text.

What stands between two markers in that text is replaced by a table a task and machine; `--check` says with exit code 1
that it is not what the report says.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tvm_bnn.artifact import whole_file
from tvm_bnn.console import ArgumentParser, main_guard
from tvm_bnn.errors import InputError
from tvm_bnn.report.compare import wording
from tvm_bnn.report.compare.blocks import Table
from tvm_bnn.report.compare.content import Measurement, Report, read
from tvm_bnn.report.compare.markdown import escaped, table
from tvm_bnn.report.compare.pareto import metric_of
from tvm_bnn.report.compare.sections import introduction
from tvm_bnn.report.compare.verdicts import fastest, rivals

BEGIN, END = "<!-- headline -->", "<!-- /headline -->"


@main_guard
def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    options = _parser().parse_args(arguments)
    path = Path(options.into)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read {path}: {reason}; give a text file with {BEGIN} and {END}") from error
    wanted = replaced(text, "\n".join(lines(read(Path(options.report)))).strip(), path)
    if options.check:
        if text != wanted:
            print(f"{path} is not what {options.report} says; run this again without --check", file=sys.stderr)
        return int(text != wanted)
    if text != wanted:
        with whole_file(path) as file:
            file.write(wanted.encode())
    print(f"{path} is up to date")
    return 0


def replaced(text: str, content: str, path: Path) -> str:
    """The text with other content between its markers.

    Raises InputError where it has not each of them once, in this order; `path` is named there.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        found = f"{text.count(BEGIN)} times {BEGIN} and {text.count(END)} times {END}"
        raise InputError(f"{path} has {found}; it needs each once, in this order, on lines of their own")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{content}\n\n{END}{rest.split(END)[1]}"


def lines(report: Report) -> Iterator[str]:
    """A table a machine and number of threads, in Markdown, each with its date; the report's commands below."""
    by_machine: dict[tuple[str, int], list[tuple[str, Measurement]]] = {}
    for place, members in wording.places(report):
        for each in chosen(report, members):
            by_machine.setdefault((place.machine, place.threads), []).append((place.task, each))
    for (machine, threads), rows in by_machine.items():
        yield str(table(_table(report, rows)))
        yield ""
        dates = sorted({each.measured[:10] for _, each in rows if each.measured})
        when = " to ".join(dict.fromkeys((*dates[:1], *dates[-1:])))
        yield escaped(f"{wording.where(report.machines[machine].cpu, threads)}, {when}.")
        yield ""
    for line in introduction(report)[1:]:
        yield escaped(line)
        yield ""
    yield from (f"    {line}" for command in report.commands for line in command.splitlines())


def chosen(report: Report, members: Sequence[Measurement]) -> list[Measurement]:
    """Of a place the float twins as they are compared, then ours of each binary network, fastest."""
    binary = [name for name in report.networks if report.networks[name].kind == "binary"]
    ours = [each for name in binary if (each := fastest(members, name, wording.is_ours)) is not None]
    twins = [other for each in ours for other in rivals(report, members, each.network) if other.network != each.network]
    return list({(each.network, each.executor): each for each in (*twins, *ours)}.values())


def _table(report: Report, rows: Sequence[tuple[str, Measurement]]) -> Table:
    cells = []
    for name, each in rows:
        task, latency = report.tasks[name], each.latency
        assert latency is not None, "what is chosen was timed"
        judged = metric_of(task, each)
        # times of a network with random weights do not depend on the data
        figures = ["-", "-"]
        if judged is not None:
            figures = [wording.data_set(task), f"{task.metric} {wording.value(judged, task.unit)}"]
        times = [wording.ms(latency.median_ms), wording.share(latency.spread)]
        sizes = [wording.megabytes(each.artifact_bytes), wording.share(each.limit_fraction, 0)]
        size = f"{task.size[0]}x{task.size[1]}"
        cells.append([each.network, size, each.executor, *times, *sizes, *reversed(figures)])
    heads = ["network", "input", "in", "latency", "spread", "file", "of limit", "accuracy", "on"]
    return Table("", heads, cells, 3)


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="python -m tvm_bnn.report headline",
        description=f"Put the figures of a report between {BEGIN} and {END} of a text.",
    )
    parser.add_argument("report", metavar="REPORT.json", help="as `compare` writes it")
    parser.add_argument("--into", required=True, metavar="FILE", help="the text, such as README.md")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if the text is out of date")
    return parser


if __name__ == "__main__":
    sys.exit(main())
