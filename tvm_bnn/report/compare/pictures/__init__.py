"""The pictures of a comparison report: a file each, made with matplotlib's objects and none of its global state."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from tvm_bnn.artifact import whole_file
from tvm_bnn.report.compare import wording
from tvm_bnn.report.compare.content import Report
from tvm_bnn.report.compare.pareto import points
from tvm_bnn.report.compare.pictures import accuracy, branches, layers, memory, roofline, samples, style, training

#: Dots per inch of a PNG.
RESOLUTION = 160


class Picture(NamedTuple):
    """A picture of a report.

    name : of its file, without ending. section : the key of the part of the page that it belongs to. alt : what it
    shows, for who cannot see it.
    """

    name: str
    section: str
    alt: str
    figure: Figure


def pictures(report: Report, folder: Path) -> Iterator[Picture]:
    """All that the report has content for, one after the other.

    folder : that the files of the samples are in; samples without a file are left out.
    """
    taken: set[str] = set()
    for picture in _pictures(report, folder):
        name = picture.name
        while name in taken:
            name += "-again"
        taken.add(name)
        yield picture._replace(name=name)


def _pictures(report: Report, folder: Path) -> Iterator[Picture]:
    yield from _latencies(report)
    for sample in report.samples:
        if samples.is_complete(sample, folder):
            task = report.tasks[sample.task]
            figure = samples.samples(sample, task, folder, f"{wording.data_set(task)}: {sample.name}")
            alt = f"Image {sample.name} of {sample.task}: {', '.join(samples.panels(sample))}, side by side"
            yield Picture(wording.slug("sample", sample.task, sample.name), f"samples {sample.task}", alt, figure)
    yield from _insides(report)
    for sweep in report.sweeps:
        where = wording.where(sweep.machine, sweep.threads)
        if sweep.counts:
            figure = branches.branches(sweep, f"Cost of branches: {sweep.network}, {where}")
            alt = f"Latency and bytes moved of {sweep.network} against the number of branches, on {where}"
            yield Picture(wording.slug("branches", sweep.network, where), "branches", alt, figure)
    for ablation in report.ablations:
        task, data = ablation.get("task", "training"), ablation.get("data_set", "")
        if training.runs_with_figure(ablation):
            figure = training.figures(ablation, f"{data}: figures of all seeds")
            alt = f"{ablation.get('metric')} of each configuration and seed trained on {data}, with means"
            yield Picture(wording.slug("training", task), "training", alt, figure)
        if training.losses_of(ablation):
            figure = training.losses(ablation, f"{data}: loss, mean of the seeds")
            yield Picture(
                wording.slug("losses", task), "training", f"Loss over the steps of training on {data}", figure
            )


def _latencies(report: Report) -> Iterator[Picture]:
    # ours come first
    executors = sorted((each.executor for each in report.measurements), key=lambda each: not wording.is_ours(each))
    marks = accuracy.marks_of(executors)
    for place, members in wording.places(report):
        task = report.tasks[place.task]
        if len(found := points(task, members)) > 1:
            where = wording.where(place.machine, place.threads)
            figure = accuracy.accuracy(task, found, marks, f"{wording.data_set(task)}, {where}")
            alt = f"{task.metric} against latency of all networks and executors for {place.task} on {where}"
            yield Picture(wording.slug("latency", place.task, where), place.task, alt, figure)


def _insides(report: Report) -> Iterator[Picture]:
    """Time of the layers, roofline and memory of each network of ours."""
    for each in wording.detailed(report):
        name = f"{each.network} in {each.executor}"
        where = wording.where(each.machine, each.threads)
        if each.layers:
            figure = layers.layers(each.layers, f"Where time goes: {name}, {where}")
            alt = f"Time of the kernels of {name} on {where}, those that take most on top"
            yield Picture(wording.slug("layers", name, where), "layers", alt, figure)
        limits = report.machines[each.machine].limits.get(str(each.threads))
        if limits is not None and (calls := roofline.counted(each.layers)):
            figure = roofline.roofline(calls, limits, f"Roofline: {name}, {where}")
            alt = f"Multiply-accumulates per second against those per byte of the kernels of {name} on {where}"
            yield Picture(wording.slug("roofline", name, where), "layers", alt, figure)
        if each.memory_plan is not None and each.memory_plan.buffers:
            figure = memory.memory(each.memory_plan, f"Memory: {name}, {where}")
            alt = f"Intermediate results of {name} over its kernel calls, with the most bytes in use at a time"
            yield Picture(wording.slug("memory", name, where), "layers", alt, figure)


def save(figure: Figure, path: Path) -> bytes:
    """Write `path`.svg and `path`.png; the same figure gives the same files. Returns the SVG. Raises OutputError."""
    drawn = svg(figure)
    for ending, content in (("svg", drawn), ("png", png(figure))):
        with whole_file(path.with_name(f"{path.name}.{ending}")) as file:
            file.write(content)
    return drawn


def svg(figure: Figure) -> bytes:
    """As an SVG file, letters as shapes: it looks alike wherever it is opened."""
    return _saved(figure, "svg", {"Date": None})


def png(figure: Figure) -> bytes:
    """As a PNG file."""
    return _saved(figure, "png", {})


def _saved(figure: Figure, ending: str, metadata: dict[str, None]) -> bytes:
    file = io.BytesIO()
    with style.style(), warnings.catch_warnings():
        # a name in a script that the font lacks; the page's text and tables have it
        warnings.filterwarnings("ignore", r"Glyph .* missing from font")
        figure.savefig(file, format=ending, dpi=RESOLUTION, metadata=metadata)
    return file.getvalue()
