"""The parts of the page behind its tasks: layers, branches, training, machines, and how everything was made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tvm_bnn.report.compare import wording
from tvm_bnn.report.compare.blocks import Block, Code, Gallery, Items, Section, Table, Text
from tvm_bnn.report.compare.content import Machine, Report
from tvm_bnn.report.compare.verdicts import SAME
from tvm_bnn.report.timing import MAX_SPREAD


def inside(report: Report) -> Iterator[Section]:
    blocks: list[Block] = [Gallery("layers")]
    shown = wording.detailed(report)
    for each in shown:
        if each.layers:
            rows = [
                [
                    ", ".join(call.layers) or wording.NONE,
                    call.kernel,
                    wording.ms(call.ms),
                    wording.count(call.binary_macs),
                    wording.count(call.float_macs),
                    wording.megabytes(call.bytes),
                ]
                for call in each.layers
            ]
            heads = ["layers", "kernel", "time", "binary MACs", "float MACs", "moved"]
            caption = f"{each.network} in {each.executor}, {wording.where(each.machine, each.threads)}: kernel calls"
            blocks.append(Table(caption, heads, rows, 2, long=True))
    if shown:
        about = (
            "Kernels are timed one by one; their sum is less than the time of the network by that of calls. Lines of "
            "a roofline are the machine's ceilings and, where they rise, its bandwidth for copies of so many MB; the "
            "area of a point is its share of the time."
        )
        yield Section("Inside the networks", [Text(about), *blocks])


def refused(report: Report) -> Iterator[Section]:
    tables: list[Block] = [
        Table(
            name,
            ["layer", "operator", "reason", "what to change"],
            [[each.path, each.op, each.reason, each.advice] for each in network.refused],
            4,
        )
        for name, network in report.networks.items()
        if network.refused
    ]
    if tables:
        yield Section("Layers that stay float", tables)


def branches(report: Report) -> Iterator[Section]:
    tables: list[Block] = []
    for sweep in report.sweeps:
        heads = ["K", "median", "spread", "K times K=1 over it", "moved", "binary MACs", "float MACs", "limit"]
        rows = [
            [
                str(each.branches),
                wording.ms(each.latency.median_ms),
                wording.share(each.latency.spread),
                wording.times(each.multiple),
                wording.megabytes(each.moved_bytes),
                wording.count(each.binary_macs),
                wording.count(each.float_macs),
                wording.ms(each.limit_ms),
            ]
            for each in sweep.counts
        ]
        size = f"{sweep.size[0]}x{sweep.size[1]}"
        tables.append(Table(f"{sweep.network} at {size}, {wording.where(sweep.machine, sweep.threads)}", heads, rows))
    if tables:
        about = "The same network with K parallel branches, in turns. Moved: tensors that must exist, each once."
        yield Section("Parallel branches", [Text(about), *tables, Gallery("branches")])


def training(ablation: Mapping[str, Any]) -> Iterator[Section]:
    metric, unit, data = str(ablation.get("metric", "")), str(ablation.get("unit", "")), wording.trained_on(ablation)
    blocks: list[Block] = [Text("One factor at a time, several seeds each. A row is a run.")]
    runs = ablation.get("runs", ())
    keys = [key for key in ("branches", "attention", "upsampling", "seed") if any(key in run for run in runs)]
    seen = [run.get("diagnostics") or {} for run in runs]
    measures = [name for name in dict.fromkeys(name for each in seen for name in each) if _is_measure(name, seen)]
    rows = [
        [
            str(run.get("name", wording.NONE)),
            *(str(run.get(key, wording.NONE)) for key in keys),
            wording.value(run.get("figures", {}).get(metric, {}).get("value"), unit),
            *(wording.number(each.get(name), 3) for name in measures),
            wording.number(run.get("seconds"), 0, " s"),
        ]
        for run, each in zip(runs, seen, strict=True)
    ]
    if rows:
        heads = ["run", *keys, f"{metric} ({data})", *(name.replace("_", " ") for name in measures), "trained in"]
        blocks.append(Table(f"Runs on {data}", heads, rows, len(keys), long=True))
    blocks += _compared(ablation, metric, unit, data)
    others = [
        [
            str(each.get("task", wording.NONE)),
            wording.labelled(str(each.get("data_set", "")), bool(ablation.get("synthetic"))),
            str(each.get("variant", wording.NONE)),
            str(each.get("branches") or wording.NONE),
            name,
            wording.value(found.get("value"), found.get("unit", "")),
        ]
        for each in ablation.get("other_tasks", ())
        for name, found in each.get("figures", {}).items()
    ]
    if others:
        heads = ["task", "data", "variant", "branches", "figure", "value"]
        blocks.append(Table("Networks of the other tasks", heads, others, 5, long=True))
    blocks.append(Gallery("training"))
    if ablation.get("command"):
        blocks.append(Code(str(ablation["command"]).splitlines()))
    yield Section(f"Training on {data}", blocks)


def _is_measure(name: str, seen: Sequence[Mapping[str, Any]]) -> bool:
    """Whether diagnostics have a single number under this name."""
    return any(isinstance(each.get(name), float) for each in seen) and not any(
        isinstance(each.get(name), (list, dict)) for each in seen
    )


def _compared(ablation: Mapping[str, Any], metric: str, unit: str, data: str) -> Iterator[Table]:
    rows = [
        [
            str(each.get("factor", wording.NONE)),
            str(each.get("from", wording.NONE)),
            str(each.get("to", wording.NONE)),
            wording.signed(each.get("difference"), unit),
            wording.points(each.get("seed_spread"), unit),
            "yes" if each.get("distinguishable") else "no",
        ]
        for each in ablation.get("comparisons", ())
    ]
    if rows:
        heads = ["factor", "from", "to", f"{metric} changes by", "seeds spread by", "told apart"]
        yield Table(f"Comparisons on {data}", heads, rows, 3)


def machines(report: Report) -> Iterator[Section]:
    if not report.machines:
        return
    names, found = list(report.machines), list(report.machines.values())
    facts: dict[str, list[str]] = {
        "processor": [each.cpu for each in found],
        "CPUs": [str(each.cpus) for each in found],
        "memory": [wording.number(each.memory_gb, 1, " GB") for each in found],
        "system": [each.system for each in found],
        "compiled for": [each.target for each in found],
        "reached": [each.device or "this machine" for each in found],
        "emulated": ["yes, instructions only" if each.emulated else "no" for each in found],
        "virtual": [wording.NONE if each.virtual is None else "yes" if each.virtual else "no" for each in found],
    }
    told = {"clock:": [each.clock for each in found], "version of": [each.versions for each in found]}
    for key, own in told.items():
        for name in dict.fromkeys(name for each in own for name in each):
            facts[f"{key} {name}"] = [each.get(name, wording.NONE) for each in own]
    rows = [[fact, *cells] for fact, cells in facts.items()]
    blocks: list[Block] = [Table("Machines, their clocks and versions", ["", *names], rows, len(names) + 1)]
    blocks += [_limits(name, each) for name, each in report.machines.items() if each.limits]
    yield Section("Machines", blocks)


def _limits(name: str, machine: Machine) -> Table:
    sizes = list(dict.fromkeys(size for each in machine.limits.values() for size in each.copy_bytes_per_s))
    heads = ["threads", "binary MAC/s", "fp32 MAC/s", "int8 MAC/s", "int8 tiles MAC/s"]
    rows = [
        [
            threads,
            wording.count(each.binary_macs_per_s),
            wording.count(each.fp32_macs_per_s),
            wording.count(each.int8_macs_per_s),
            wording.count(each.int8_tile_macs_per_s),
            *(wording.count(each.copy_bytes_per_s.get(size)) for size in sizes),
        ]
        for threads, each in machine.limits.items()
    ]
    return Table(f"Limits of {name}, measured", [*heads, *(f"copies of {size} MB, B/s" for size in sizes)], rows)


def made(report: Report) -> Iterator[Section]:
    if report.notes:
        yield Section("Notes", [Items(list(report.notes))])
    commands = [line for command in report.commands for line in command.splitlines()]
    blocks: list[Block] = [Code(commands)] if commands else []
    rows = []
    for name, each in report.networks.items():
        trained = "; ".join(f"{key}: {text}" for key, text in each.training.items())
        rows.append([name, each.file, each.sha256, trained or wording.NONE])
    if rows:
        heads = ["network", "file", "checksum of the parameters", "training"]
        blocks.append(Table("Networks and seeds", heads, rows, 4))
    if blocks:
        yield Section("How it was made", blocks)
    yield Section("How it was measured", [Items(_rules())])


def _rules() -> list[str]:
    return [
        "Executors that are compared on a machine took turns, one a round, with the same number of threads: drift "
        "meets all alike. Times are compared within such turns only.",
        "A time is a median. Its spread is the interquartile range of its samples over the median.",
        "Two times are told apart where the middle halves of their samples do not overlap. A ratio is that of the "
        f"medians; where one of them spreads by more than {wording.share(MAX_SPREAD, 0)}, it is that of the near ends "
        "of these halves, and is told as a lower bound.",
        f"Figures of accuracy within {SAME['%']:g} points, or {SAME['']:g} of a share, count as equal.",
        "Accuracy is computed from what each executor returned, on the same images; few images tell little differences "
        "badly.",
        "Memory is the peak resident set of an inference, less that of the same process before it has the network.",
        "The limit is the least time for the network's arithmetic and tensors at the machine's measured rates.",
        "On an emulated processor instructions are counted; nothing is timed there.",
    ]
