"""Several reports as one: those of two machines, of two sets of networks."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from tvm_bnn.errors import OutputError
from tvm_bnn.report.compare.content import Report, Sample

Part = TypeVar("Part", bound=BaseModel)


def merged(reports: Sequence[Report], title: str | None = None) -> Report:
    """All of them; what bears the same name and is not the same gets another one. Verdicts are to be made anew.

    Measurements keep their groups apart: times of different runs have not taken turns and are not compared.
    """
    first = reports[0]
    whole = first.model_copy(
        update={
            "title": title or " and ".join(dict.fromkeys(report.title for report in reports)),
            "machines": {}, "tasks": {}, "networks": {}, "measurements": [], "samples": [], "sweeps": [],
            "commands": _once([command for report in reports for command in report.commands]),
            "notes": _once([note for report in reports for note in report.notes]),
            "ablations": _once([each for report in reports for each in report.ablations]),
            "verdicts": [],
        }
    )  # fmt: skip
    for number, report in enumerate(reports, 1):
        # the same machine in two runs is two: clocks and neighbours were others
        machines = _added(whole.machines, report.machines, number, lambda one, two: False)
        tasks = _added(whole.tasks, report.tasks, number, _equal)
        networks = _added(
            whole.networks,
            {
                name: network.model_copy(update={"task": tasks[network.task]})
                for name, network in report.networks.items()
            },
            number,
            lambda one, two: (one.sha256, one.task) == (two.sha256, two.task),
        )
        for name in report.networks:
            twin = whole.networks[networks[name]].twin
            if twin is not None and networks.get(twin, twin) != twin:
                renamed = whole.networks[networks[name]].model_copy(update={"twin": networks[twin]})
                whole.networks[networks[name]] = renamed
        whole.measurements.extend(
            each.model_copy(
                update={
                    "network": networks[each.network],
                    "machine": machines[each.machine],
                    "group": each.group if len(reports) == 1 else f"{each.group} (report {number})",
                }
            )
            for each in report.measurements
        )
        whole.sweeps.extend(each.model_copy(update={"machine": machines[each.machine]}) for each in report.sweeps)
        known = {(each.task, each.name) for each in whole.samples}
        whole.samples.extend(
            sample
            for each in report.samples
            if ((sample := _renamed(each, tasks, networks)).task, sample.name) not in known
        )
    return whole


def copy_samples(report: Report, source: Path, folder: Path, number: int) -> Report:
    """The report with its sample pictures, which lie in `source`, copied to `folder` under names of their own.

    Samples whose pictures are not there are left out. Raises OutputError.
    """

    def copied(path: str) -> str:
        name = f"samples/{number}-{Path(path).name}"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, folder / name)
        return name

    kept = []
    try:
        for each in report.samples:
            paths = [each.image, each.truth, *each.predictions.values(), each.difference]
            if all((source / path).is_file() for path in paths if path is not None):
                new = {
                    "image": copied(each.image),
                    "truth": copied(each.truth),
                    "predictions": {network: copied(path) for network, path in each.predictions.items()},
                    "difference": copied(each.difference) if each.difference else None,
                }
                kept.append(each.model_copy(update=new))
    except OSError as error:
        raise OutputError(f"cannot copy pictures to {folder}: {error.strerror or error}") from error
    return report.model_copy(update={"samples": kept})


def _added(
    whole: dict[str, Part], more: Mapping[str, Part], number: int, same: Callable[[Any, Any], bool]
) -> dict[str, str]:
    """Add parts to those that are there; old name -> name in the whole."""
    names = {}
    for name, part in more.items():
        chosen = name
        if name in whole and not same(whole[name], part):
            chosen = f"{name} ({number})"
        whole.setdefault(chosen, part)
        names[name] = chosen
    return names


def _equal(one: BaseModel, two: BaseModel) -> bool:
    return one == two


def _renamed(sample: Sample, tasks: Mapping[str, str], networks: Mapping[str, str]) -> Sample:
    predictions = {networks[name]: path for name, path in sample.predictions.items()}
    return sample.model_copy(update={"task": tasks[sample.task], "predictions": predictions})


def _once(items: list[Any]) -> list[Any]:
    """Each once, in order; items may be unhashable."""
    found: list[Any] = []
    for item in items:
        if item not in found:
            found.append(item)
    return found
