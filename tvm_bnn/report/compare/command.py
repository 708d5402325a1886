"""`python -m tvm_bnn.report compare CONFIG.toml -o DIR`, `merge A.json B.json -o DIR`, `headline` and `schema`."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tvm_bnn.artifact import now
from tvm_bnn.console import ArgumentParser, Progress
from tvm_bnn.errors import InputError

#: Finished measurements, inside the report's folder.
STORE = "measured"


def compare(arguments: Sequence[str]) -> int:
    """Measure what a configuration names, or what is missing of it, and write the report."""
    parser = ArgumentParser(
        prog="python -m tvm_bnn.report compare",
        description="Compare networks by accuracy and latency, and write report.html, report.md and report.json.",
    )
    parser.add_argument("config", metavar="CONFIG.toml", help="what to compare; docs/report.md describes it")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="of the report; a run goes on there")
    parser.add_argument("--fresh", action="store_true", help="measure again what is finished already")
    options = parser.parse_args(arguments)
    from tvm_bnn.report.compare import config as configuration

    chosen = configuration.read(Path(options.config))
    ablations = [_ablation(path) for path in chosen.ablations]
    from tvm_bnn.report.compare import measure, page, samples
    from tvm_bnn.report.compare.store import Store

    folder = Path(options.output)
    store = Store(folder / STORE, options.fresh)
    with Progress() as progress:
        measured = measure.measure(chosen, store, progress)
        with progress.phase("write"):
            commands, shown = _commands(arguments, measured), samples.write(measured, folder)
            report = page.conclude(measured.report(chosen.title, commands, shown, ablations), folder)
    _tell(report, folder)
    return 0


def merge(arguments: Sequence[str]) -> int:
    """Make one report of several."""
    parser = ArgumentParser(
        prog="python -m tvm_bnn.report merge",
        description="Make one report of several report.json: of two machines, for example.",
    )
    parser.add_argument("reports", nargs="+", metavar="REPORT.json")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="folder of the merged report")
    parser.add_argument("--title", help="by default those of the reports")
    options = parser.parse_args(arguments)
    if len(options.reports) < 2:
        raise InputError(f"found one report ({options.reports[0]}); two or more are merged")
    from tvm_bnn.report.compare import content, page
    from tvm_bnn.report.compare.merge import copy_samples, merged

    folder, paths = Path(options.output), [Path(path) for path in options.reports]
    read = [content.read(path) for path in paths]
    moved = [copy_samples(each, path.parent, folder, n) for n, (each, path) in enumerate(zip(read, paths, strict=True))]
    report = merged(moved, options.title)
    report = report.model_copy(update={"made": now(), "commands": [_command("merge", arguments), *report.commands]})
    _tell(page.conclude(report, folder), folder)
    return 0


def schema(arguments: Sequence[str]) -> int:
    """Print the JSON schema of report.json."""
    ArgumentParser(prog="python -m tvm_bnn.report schema", description="Print the schema of report.json.").parse_args(
        arguments
    )
    from tvm_bnn.report.compare.content import schema

    print(json.dumps(schema(), indent=1))
    return 0


def headline(arguments: Sequence[str]) -> int:
    """See `tvm_bnn.report.compare.headline`."""
    from tvm_bnn.report.compare.headline import main

    return main(arguments)


#: Name -> the command.
COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "compare": compare,
    "merge": merge,
    "headline": headline,
    "schema": schema,
}


def _ablation(path: Path) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the ablation {path}: {error}") from error
    if not isinstance(found, dict) or "runs" not in found:
        raise InputError(f"{path} is no result of tvm_bnn.examples.training.ablation: it has no runs")
    return found


def _commands(arguments: Sequence[str], measured) -> list[str]:
    trained = [network.training["command"] for network in measured.networks.values() if "command" in network.training]
    return list(dict.fromkeys([_command("compare", arguments), *trained]))


def _command(name: str, arguments: Sequence[str]) -> str:
    return shlex.join(["python", "-m", "tvm_bnn.report", name, *arguments])


def _tell(report, folder: Path) -> None:
    for verdict in report.verdicts:
        print(f"- {verdict.text}")
    print(f"written to {folder}: report.html, report.md, report.json", file=sys.stdout)
