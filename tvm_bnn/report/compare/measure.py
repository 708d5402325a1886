"""Measuring a comparison, one cell after the other; each finished one is kept (`Store`).

Cells are: the facts of a network, its result in PyTorch, and for each group (a task, a machine, a number of threads)
the limits of the machine, the times of everything that runs its networks, in turns; then accuracy and memory of each.
What runs a network is made when the first cell asks for it: a run that is resumed prepares only what it needs.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tvm_bnn import artifact
from tvm_bnn.console import Progress
from tvm_bnn.emulated import processor
from tvm_bnn.errors import DeviceError
from tvm_bnn.report import instructions
from tvm_bnn.report.compare import content, energy, machines, sweep
from tvm_bnn.report.compare.config import Config, TargetTable, TaskTable
from tvm_bnn.report.compare.executors import LeftOut, Prepared, prepare
from tvm_bnn.report.compare.judging import Images, Judged, data_of, images_of, judge, packed
from tvm_bnn.report.compare.latency import latency
from tvm_bnn.report.compare.plan import planned
from tvm_bnn.report.compare.store import Store, source_digest
from tvm_bnn.report.compare.subjects import Subject, load
from tvm_bnn.report.limit import Work, work_of
from tvm_bnn.report.machine import MB, Limits
from tvm_bnn.report.networks import without_onednn
from tvm_bnn.report.peers import refresh
from tvm_bnn.report.peers.pytorch_eager import PEER as PYTORCH
from tvm_bnn.report.peers.pytorch_eager import module_run
from tvm_bnn.report.rows import OURS
from tvm_bnn.report.site import HERE, OnDevice, Site
from tvm_bnn.report.timing import interleave, repeated
from tvm_bnn.rpc.address import parse_address
from tvm_bnn.rpc.client import Place
from tvm_bnn.targets import Target, resolve

#: Training images from which peers that quantise take their ranges.
CALIBRATION = 8


@dataclass
class Measured:
    """What was measured: parts of a `Report`.

    answers : task -> network -> class maps of the first images, PNGs in base 64.
    """

    machines: dict[str, content.Machine] = field(default_factory=dict)
    tasks: dict[str, content.Task] = field(default_factory=dict)
    networks: dict[str, content.Network] = field(default_factory=dict)
    measurements: list[content.Measurement] = field(default_factory=list)
    sweeps: list[content.BranchSweep] = field(default_factory=list)
    images: dict[str, Images] = field(default_factory=dict)
    answers: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def report(
        self,
        title: str,
        commands: Sequence[str],
        samples: Sequence[content.Sample],
        ablations: Sequence[dict[str, Any]] = (),
    ) -> content.Report:
        """The whole, made now; verdicts are to be added. samples : see `samples.write`."""
        return content.Report(
            title=title,
            made=artifact.now(),
            commands=list(commands),
            notes=self.notes,
            machines=self.machines,
            tasks=self.tasks,
            networks=self.networks,
            measurements=self.measurements,
            samples=list(samples),
            sweeps=self.sweeps,
            ablations=list(ablations),
            verdicts=[],
        )


@dataclass(frozen=True)
class _Entry:
    """A network in an executor."""

    subject: Subject
    executor: str

    @property
    def name(self) -> str:
        return f"{self.subject.name} in {self.executor}"

    @property
    def key(self) -> dict[str, Any]:
        return {"network": self.subject.sha256, "executor": self.executor}


def measure(config: Config, store: Store, progress: Progress) -> Measured:
    """Everything that a configuration asks for.

    Raises InputError for networks and data sets that cannot be used, DeviceError where a device cannot be reached;
    what was finished by then is in the store.
    """
    for table in config.target:
        if table.emulated and (reason := processor.why_not()):
            raise DeviceError(reason)
        with _session(table):
            pass  # one that cannot be reached is told of before hours of measuring
    with torch.no_grad():
        return _Comparison(config, store, progress).run()


@contextmanager
def _session(table: TargetTable) -> Iterator[Site]:
    """Where a target is measured: this machine, or a device for as long as it lasts."""
    if table.rpc is None and table.tracker is None:
        yield HERE
        return
    rpc, tracker = (parse_address(text) if text else None for text in (table.rpc, table.tracker))
    with Place(rpc, tracker, table.key).session() as session:
        yield OnDevice(session, partial(resolve, table.target) if table.target else None)


class _Comparison:
    """One run."""

    def __init__(self, config: Config, store: Store, progress: Progress) -> None:
        self.config, self.store, self.progress = config, store, progress
        self.measured = Measured()
        self._references: dict[str, Judged] = {}
        self._calibration: dict[str, list[np.ndarray]] = {}
        with progress.phase("load data"):
            self.measured.images = {table.name: images_of(table) for table in config.task}
        with progress.phase("load networks"):
            self._tasks = {table.name: table for table in config.task}
            of_tasks = [(table, self._tasks[table.task]) for table in config.network]
            self.subjects = {table.name: load(table, task.size, task.data_set) for table, task in of_tasks}

    def run(self) -> Measured:
        for table in self.config.task:
            self.measured.tasks[table.name] = self.measured.images[table.name].described(table.size)
        self._facts()
        for target in self.config.target:
            if target.emulated:
                self._count(target, target.emulated)
                continue
            with _session(target) as site:
                self._on_site(target, site)
        self._reference_answers()
        return self.measured

    # --- networks -------------------------------------------------------------------------------------------------

    def _facts(self) -> None:
        networks = self.measured.networks
        for name, subject in self.subjects.items():
            with self.progress.phase(f"{name}: layers"):
                key = {"network": subject.sha256, "size": list(subject.pixels.shape), "source": source_digest()}
                found = self.store.get("facts", key, subject.facts)
                # what the configuration says of it is no part of the measurement
                mine = {"task": subject.table.task, "twin": subject.table.twin}
                networks[name] = content.Network(**{**found, **mine, "training": dict(subject.about)})
                if not subject.table.judged:
                    self.measured.notes.append(f"{name}: its accuracy is not measured, only what it costs")
        for name, network in networks.items():
            if network.twin is not None:
                ratio = networks[network.twin].operations / network.operations
                networks[name] = network.model_copy(update={"reduction": ratio})

    def _reference(self, subject: Subject) -> Judged:
        """PyTorch's own results, computed when the first cell needs them."""
        if subject.name not in self._references:
            run = module_run(subject.module, (subject.pixels,), torch.get_num_threads())
            self._references[subject.name] = judge(run, subject, self.measured.images[subject.table.task])
        return self._references[subject.name]

    def _in_pytorch(self, subject: Subject) -> dict[str, Any]:
        """Figures of a network in PyTorch, with and without oneDNN, and its answers."""

        def computed() -> dict[str, Any]:
            with self.progress.phase(f"{subject.name}: accuracy in PyTorch"):
                itself = self._reference(subject)
                images = self.measured.images[subject.table.task]
                without = judge(partial(without_onednn, subject.module, (subject.pixels,)), subject, images)
                return {
                    "figures": _plain(itself),
                    "without_onednn": _plain(without),
                    "agreement": itself.agreement(without),
                    "classes": packed(itself.classes[: self.config.samples]),
                }

        return self.store.get("reference", self._key(subject), computed)

    def _key(self, subject: Subject) -> dict[str, Any]:
        """What a result of a network on its images depends on."""
        return {
            "network": subject.sha256,
            "images": self.measured.images[subject.table.task].digest,
            "samples": self.config.samples,
            "source": source_digest(),
            "software": machines.versions(),
        }

    def _reference_answers(self) -> None:
        """Networks whose answers no measurement has given: those of PyTorch, where any are shown."""
        if not self.config.samples:
            return
        for name, subject in self.subjects.items():
            answers = self.measured.answers.setdefault(subject.table.task, {})
            if name not in answers and subject.table.judged:
                answers[name] = self._in_pytorch(subject)["classes"]

    # --- a machine ------------------------------------------------------------------------------------------------

    def _on_site(self, table: TargetTable, site: Site) -> None:
        counts = table.threads or [site.cpus]
        now = machines.described(site, site.target(counts[0]), {})
        self.measured.machines[table.name] = now
        counters = energy.meter() if site is HERE else None
        if counters is None:
            self.measured.notes.append(f"{table.name}: no energy, since no counter of it can be read")
        looks: dict[int, list[Limits]] = {threads: [] for threads in counts}
        rows: list[tuple[content.Measurement, Work | None]] = []
        for threads in counts:
            for task in self.config.task:
                looks[threads].append(self._look(table, site, now, threads, len(looks[threads])))
                with tempfile.TemporaryDirectory(prefix="tvm_bnn-") as folder:
                    group = _Group(self, table.name, site, task, threads, Path(folder), counters)
                    rows += group.measurements()
        # neighbours take from a ceiling, and give nothing to it: the highest of all looks is the machine's
        limits = {threads: machines.best(found) for threads, found in looks.items()}
        told = {str(threads): content.Limits(**found.json()) for threads, found in limits.items()}
        self.measured.machines[table.name] = now.model_copy(update={"limits": told})
        self.measured.measurements += [_beside_limit(row, work, limits[row.threads]) for row, work in rows]
        if self.config.sweep is not None and site is HERE:
            threads = counts[0]
            key = {
                "machine": machines.identity(now),
                "threads": threads,
                "sweep": self.config.sweep.model_dump(),
                "rounds": self.config.rounds,
                "seed": self.config.seed,
                "source": source_digest(),
            }
            swept = partial(sweep.measure, self.config.sweep, table.name, limits[threads])
            settings = self.config.rounds, self.config.seed, self.progress
            found = self.store.get("sweep", key, lambda: swept(*settings))
            self.measured.sweeps.append(content.BranchSweep(**{**found, "machine": table.name}))

    def _look(self, table: TargetTable, site: Site, machine: content.Machine, threads: int, number: int) -> Limits:
        """The machine's limits as they are found now, or were in an earlier run."""
        key = {"machine": machines.identity(machine), "threads": threads, "look": number, "source": source_digest()}
        with self.progress.phase(f"{table.name}, threads: {threads}: limits"):
            return _limits(self.store.get("limits", key, partial(_measured_limits, site, site.target(threads))))

    # --- an emulated processor ------------------------------------------------------------------------------------

    def _count(self, table: TargetTable, cpu: str) -> None:
        target = instructions.target_of(table.target or f"llvm -mcpu={cpu}")
        machine = machines.emulated(target)
        self.measured.machines[table.name] = machine
        for subject in self.subjects.values():
            if OURS not in subject.table.executors:
                continue

            def counted(subject: Subject = subject) -> dict[str, Any]:
                with self.progress.phase(f"{table.name}: {subject.name}"):
                    # a fixed image: how often a loop runs does not depend on it
                    subject.show(self.measured.images[subject.table.task].samples[0].image)
                    layers = instructions.layers_of(subject.name, subject.module, (subject.pixels,), target)
                    return {"instructions": sum(layer["instructions"] for layer in layers), "measured": artifact.now()}

            key = {"machine": machines.identity(machine), "network": subject.sha256, "source": source_digest()}
            found = self.store.get("instructions", {**key, "size": list(subject.pixels.shape)}, counted)
            self.measured.measurements.append(
                content.Measurement(
                    network=subject.name,
                    executor=OURS,
                    machine=table.name,
                    threads=1,
                    group=f"{subject.table.task}, {table.name}",
                    left_out=None,
                    **found,
                )
            )

    def calibration(self, subject: Subject) -> list[tuple[Tensor, ...]]:
        """Inputs of training images; memory of their own."""
        table = self._tasks[subject.table.task]
        if table.name not in self._calibration:
            self._calibration[table.name] = _training_images(table)
        inputs: list[tuple[Tensor, ...]] = []
        for image in self._calibration[table.name]:
            subject.show(image)
            inputs.append((subject.pixels.clone(),))
        return inputs


class _Group:
    """The networks of a task on a machine with so many threads: they take turns."""

    def __init__(
        self,
        whole: _Comparison,
        machine: str,
        site: Site,
        task: TaskTable,
        threads: int,
        folder: Path,
        counters: energy.Meter | None,
    ) -> None:
        self.whole, self.machine, self.site, self.task = whole, machine, site, task
        self.threads, self.folder, self.counters = threads, folder, counters
        subjects = [whole.subjects[table.name] for table in whole.config.networks_of(task.name)]
        self.entries = [_Entry(subject, executor) for subject in subjects for executor in subject.table.executors]
        self.name = f"{task.name}, {machine}, threads: {threads}"
        self._prepared: dict[_Entry, Prepared | LeftOut] = {}
        described = whole.measured.machines[machine]
        self.base = {"machine": machines.identity(described), "threads": threads, "source": source_digest()}

    def measurements(self) -> list[tuple[content.Measurement, Work | None]]:
        """A row for each network and executor, without its limit, and the least work of what ours was compiled from."""
        key = {
            **self.base,
            "entries": [entry.key for entry in self.entries],
            "size": list(self.task.size),
            "rounds": self.whole.config.rounds,
        }
        times = self.whole.store.get("times", key, self._times)
        return [self._row(entry, times[entry.name]) for entry in self.entries]

    def _ready(self, entry: _Entry) -> Prepared:
        """What runs it; raises LeftOut, the same every time."""
        if entry not in self._prepared:
            own = self.folder / hashlib.sha256(entry.subject.name.encode()).hexdigest()[:12]
            own.mkdir(exist_ok=True)
            with self.whole.progress.phase(f"{self.name}: prepare {entry.name}"):
                # calibration first: it shows images, and what follows is to see the last one
                calibration = self.whole.calibration(entry.subject) if "int8" in entry.executor else []
                try:
                    self._prepared[entry] = prepare(
                        entry.executor, entry.subject, self.site, self.threads, own, calibration
                    )
                except LeftOut as reason:
                    self._prepared[entry] = reason
        found = self._prepared[entry]
        if isinstance(found, LeftOut):
            raise found
        return found

    def _times(self) -> dict[str, Any]:
        """For each entry what its times tell, or why it was left out."""
        ready: dict[_Entry, Prepared] = {}
        told: dict[str, Any] = {}
        image = self.whole.measured.images[self.task.name].samples[0].image
        for entry in self.entries:
            try:
                ready[entry] = self._ready(entry)
            except LeftOut as reason:
                told[entry.name] = {"left_out": str(reason)}
            entry.subject.show(image)
        for one in ready.values():
            refresh(one.run)
        with self.whole.progress.phase(f"{self.name}: times"):
            runs = {entry.name: repeated(getattr(one.run, "seconds", one.run)) for entry, one in ready.items()}
            timings = interleave(runs, self.whole.config.rounds)
        for entry, one in ready.items():
            spent = energy.millijoules(one.run, self.counters) if self.counters else None
            told[entry.name] = {
                "left_out": None,
                "samples": list(timings[entry.name].samples),
                "energy_mj": spent,
                "measured": artifact.now(),
                **(self._of_ours(entry, one) if one.made else {}),
            }
        return told

    def _of_ours(self, entry: _Entry, one: Prepared) -> dict[str, Any]:
        """What only a compiled network tells."""
        assert one.made is not None and one.path is not None
        calls, plan = planned(one.made)
        layers = self.site.layers(one.made, one.run, [entry.subject.pixels.numpy()], self.whole.config.rounds)
        # a device may not tell of layers
        pairs = zip(layers, calls, strict=True) if layers else ()
        with_work = [content.LayerCall(**{**asdict(call), **layer}).model_dump() for layer, call in pairs]
        return {
            "work": asdict(work_of(one.made.optimized)),
            "artifact_bytes": one.path.stat().st_size,
            "compile_s": one.seconds,
            "tuned_layers": one.tuned,
            "layers": with_work,
            "memory_plan": plan.model_dump(),
        }

    def _row(self, entry: _Entry, told: dict[str, Any]) -> tuple[content.Measurement, Work | None]:
        row: dict[str, Any] = {"network": entry.subject.name, "executor": entry.executor, "group": self.name}
        row |= {"machine": self.machine, "threads": self.threads}
        if told["left_out"] is not None:
            return content.Measurement(**row, left_out=told["left_out"], measured=None), None
        taken = latency(told["samples"])
        own = {name: value for name, value in told.items() if name not in ("samples", "left_out", "work")}
        memory = self._memory(entry)
        found = content.Measurement(
            **row,
            **own,
            left_out=None,
            accuracy=self._accuracy(entry) if entry.subject.table.judged else None,
            latency=taken,
            throughput_per_s=1e3 / taken.median_ms,
            memory_mb=memory["peak"] / MB if memory else None,
        )
        return found, Work(**told["work"]) if "work" in told else None

    def _memory(self, entry: _Entry) -> dict[str, int] | None:
        def taken() -> dict[str, int] | None:
            ready = self._ready(entry)
            with self.whole.progress.phase(f"{self.name}: memory of {entry.name}"):
                found = ready.memory()
            return {"peak": found.peak, "growth": found.growth} if found else None

        key = {**self.base, **entry.key, "size": list(self.task.size)}
        return self.whole.store.get("memory", key, taken)

    def _accuracy(self, entry: _Entry) -> content.Accuracy:
        subject, whole = entry.subject, self.whole
        reference = whole._in_pytorch(subject)
        if entry.executor == PYTORCH.name and self.site is HERE:
            figures, other, agreement = reference["figures"], reference["without_onednn"], reference["agreement"]
            difference = _difference(other, figures)
        else:

            def judged() -> dict[str, Any]:
                run = self._ready(entry).run
                with whole.progress.phase(f"{self.name}: accuracy of {entry.name}"):
                    found = judge(run, subject, whole.measured.images[subject.table.task])
                    return {
                        "figures": _plain(found),
                        "agreement": found.agreement(whole._reference(subject)),
                        "classes": packed(found.classes[: whole.config.samples]),
                    }

            found = whole.store.get("accuracy", {**self.base, **entry.key, **whole._key(subject)}, judged)
            figures, agreement = found["figures"], found["agreement"]
            difference = _difference(figures, reference["figures"])
            if entry.executor == OURS:
                whole.measured.answers.setdefault(subject.table.task, {}).setdefault(subject.name, found["classes"])
        return content.Accuracy(figures=figures, difference=difference, agreement=agreement)


def _beside_limit(row: content.Measurement, work: Work | None, limits: Limits) -> content.Measurement:
    """A row with the least time for its work, where that is known."""
    if work is None or row.latency is None:
        return row
    limit = 1e3 * work.seconds(limits)
    update = {"limit_ms": limit, "limit_fraction": limit / row.latency.median_ms, "bound": work.bound(limits)}
    return row.model_copy(update=update)


def _training_images(table: TaskTable) -> list[np.ndarray]:
    """The first few of a task's training images, resized."""
    data = data_of(table, "train", CALIBRATION)
    return [data[index].image for index in range(min(CALIBRATION, len(data)))]


def _plain(judged: Judged) -> dict[str, Any]:
    return {name: figure.model_dump() for name, figure in judged.figures.items()}


def _difference(figures: dict[str, Any], reference: dict[str, Any]) -> dict[str, float | None]:
    pairs = {name: (figure["value"], reference[name]["value"]) for name, figure in figures.items()}
    return {name: None if None in pair else pair[0] - pair[1] for name, pair in pairs.items()}


def _measured_limits(site: Site, target: Target) -> dict[str, Any]:
    return asdict(site.limits(target))


def _limits(row: dict[str, Any]) -> Limits:
    """The other way; JSON has made text of the sizes."""
    return Limits(**{**row, "copy": {int(size): rate for size, rate in row["copy"].items()}})
