"""What the page of a comparison says, part by part, before it is HTML or Markdown.

Numbers are those of report.json, rounded; nothing is computed here but units.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tvm_bnn.report.compare import appendix, wording
from tvm_bnn.report.compare.blocks import Block, Gallery, Items, Section, Table, Text
from tvm_bnn.report.compare.content import Measurement, Network, Report, Task
from tvm_bnn.report.compare.verdicts import grouped

#: What Ding et al. 2024 (arXiv 2405.17776) report: speed-up by binary arithmetic, reduction of attention.
PUBLISHED_SPEED_UP, PUBLISHED_ATTENTION = 137.9, 100


def sections(report: Report) -> list[Section]:
    """The page from top to bottom; parts without content are left out."""
    found = [*_verdicts(report)]
    for name, task in report.tasks.items():
        found += _task(report, name, task)
    found += appendix.inside(report)
    found += appendix.refused(report)
    found += appendix.branches(report)
    found += [part for ablation in report.ablations for part in appendix.training(ablation)]
    found += appendix.machines(report)
    found += appendix.made(report)
    return found


def introduction(report: Report) -> list[str]:
    """What stands under the title."""
    lines = [f"Made {report.made}."]
    drawn = [wording.data_set(task) for task in report.tasks.values() if task.synthetic]
    drawn += [wording.trained_on(each) for each in report.ablations if each.get("synthetic")]
    if drawn:
        lines.append(
            f"Synthetic data: images of {', '.join(dict.fromkeys(drawn))} are drawn by a program; figures on them "
            "compare the networks here, and say nothing about photographs."
        )
    return lines


def _verdicts(report: Report) -> Iterator[Section]:
    yield Section("Verdicts", [] if report.verdicts else [Text("The numbers allow none.")])
    for heading, together in grouped(report.verdicts):
        yield Section(heading, [Items([each.text for each in together])], 3)


def _task(report: Report, name: str, task: Task) -> Iterator[Section]:
    seed = "" if task.seed is None else f", seed {task.seed}"
    about = (
        f"Data: {wording.data_set(task)}, {task.split}, {wording.plural(task.images, 'image')}{seed}, read at "
        f"{task.size[0]}x{task.size[1]} (height x width). The metric is {task.metric}; {task.better} is better."
    )
    blocks: list[Block] = [Text(about)]
    own = [(place, members) for place, members in wording.places(report) if place.task == name]
    for place, members in own:
        where = wording.where(place.machine, place.threads)
        if sum(other[:3] == place[:3] for other, _ in own) > 1:
            where += f", turns of {place.group}"
        blocks += _measured(report, task, members, where)
    blocks.append(Gallery(name))
    blocks += _figures(report, task, [each for _, members in own for each in members])
    networks = {key: network for key, network in report.networks.items() if network.task == name}
    if networks:
        blocks += [_networks(networks), Text(_published())]
    blocks += _left_out(report, name)
    blocks.append(Gallery(f"samples {name}"))
    yield Section(f"{name}: accuracy and latency", blocks)


def _measured(report: Report, task: Task, members: Sequence[Measurement], where: str) -> Iterator[Block]:
    """The headline table of a place; of what is emulated, one of instructions alone."""
    if any(each.latency for each in members):
        yield _timed(task, members, where)
    counted = [each for each in members if each.latency is None and each.instructions is not None]
    if counted:
        rows = [[each.network, each.executor, wording.count(each.instructions)] for each in counted]
        heads = ["network", "executor", "instructions an inference"]
        processor = "emulated processor" if report.machines[counted[0].machine].emulated else "processor"
        yield Table(f"{where}: instructions counted on an {processor}; no time can be told", heads, rows, 2)


def _timed(task: Task, members: Sequence[Measurement], where: str) -> Table:
    """Accuracy, times and sizes of the members with latency; columns without a value are left out."""
    timed, times = zip(*((each, each.latency) for each in members if each.latency is not None), strict=True)
    columns = {
        f"{task.metric} ({wording.data_set(task)})": [
            wording.figure(each.accuracy.figures.get(task.metric) if each.accuracy else None) for each in timed
        ],
        "median": [wording.ms(each.median_ms) for each in times],
        "95th percentile": [wording.ms(each.p95_ms) for each in times],
        "spread": [wording.share(each.spread) for each in times],
        "inferences/s": [wording.number(each.throughput_per_s, 1) for each in timed],
        "peak memory": [wording.number(each.memory_mb, 1, " MB") for each in timed],
        "file": [wording.megabytes(each.artifact_bytes) for each in timed],
        "compiled in": [wording.number(each.compile_s, 1, " s") for each in timed],
        "limit": [wording.ms(each.limit_ms) for each in timed],
        "of limit": [wording.share(each.limit_fraction, 0) for each in timed],
        "bound by": [each.bound or wording.NONE for each in timed],
        "energy": [wording.number(each.energy_mj, 1, " mJ") for each in timed],
    }
    shown = {head: cells for head, cells in columns.items() if set(cells) != {wording.NONE}}
    rows = [
        [each.network, each.executor, *(cells[number] for cells in shown.values())] for number, each in enumerate(timed)
    ]
    ours = frozenset(number for number, each in enumerate(timed) if wording.is_ours(each.executor))
    return Table(f"{where}: medians of times taken in turns", ["network", "executor", *shown], rows, 2, ours)


def _figures(report: Report, task: Task, members: Sequence[Measurement]) -> Iterator[Block]:
    """All figures of accuracy, and how far they are from PyTorch's; the same row once."""
    judged = [(each, each.accuracy) for each in members if each.accuracy is not None]
    names = list(dict.fromkeys(name for _, found in judged for name in found.figures))
    rows = [
        [
            each.network,
            each.executor,
            each.machine,
            *(wording.figure(found.figures.get(name)) for name in names),
            wording.signed(found.difference.get(task.metric), task.unit),
            wording.share(found.agreement, 3),
        ]
        for each, found in judged
    ]
    if rows:
        heads = ["network", "executor", "machine", *names, f"{task.metric} less PyTorch's", "same class as PyTorch"]
        unique = [list(row) for row in dict.fromkeys(map(tuple, rows))]
        caption = f"All figures on {wording.data_set(task)}; PyTorch's own share is that without oneDNN"
        yield Table(caption, heads, unique, 3, long=True)


def _networks(networks: Mapping[str, Network]) -> Table:
    heads = "network,kind,branches,attention,upsampling,parameters,weights,float MACs,binary MACs,operations"
    heads += ",reduction,binary share,binary layers,float layers"
    rows = [
        [
            name,
            each.kind,
            wording.NONE if each.branches is None else str(each.branches),
            each.attention or wording.NONE,
            each.upsampling or wording.NONE,
            wording.count(each.parameters),
            wording.megabytes(each.weight_bytes),
            wording.count(each.float_macs),
            wording.count(each.binary_macs),
            wording.count(each.operations),
            wording.NONE if each.reduction is None else wording.times(each.reduction),
            wording.share(each.binary_share),
            str(each.layers_binary),
            str(each.layers_float),
        ]
        for name, each in networks.items()
    ]
    ours = frozenset(number for number, each in enumerate(networks.values()) if each.kind == "binary")
    return Table("Networks; weights of one bit count as a bit", heads.split(","), rows, 5, ours)


def _published() -> str:
    return (
        "Operations are counted as papers count computational complexity: float multiply-accumulates, and binary ones "
        "by machine words of 64. The reduction is that from the float twin, over whole networks, float layers too. "
        f"Beside it: Ding et al. 2024 report up to {PUBLISHED_SPEED_UP}x by binary arithmetic, and "
        f"{PUBLISHED_ATTENTION}x less computation of attention. Neither of them is a ratio of measured times."
    )


def _left_out(report: Report, task: str) -> Iterator[Block]:
    rows = [
        [each.network, each.executor, wording.where(each.machine, each.threads), each.left_out]
        for each in report.measurements
        if each.left_out is not None and report.networks[each.network].task == task
    ]
    if rows:
        yield Table("Left out", ["network", "executor", "machine", "reason"], rows, 4)
