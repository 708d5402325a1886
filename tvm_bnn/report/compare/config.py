"""What to compare: a TOML file, read and checked before anything is measured (docs/report.md shows one)."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from tvm_bnn.errors import InputError
from tvm_bnn.examples.data.tasks import TASKS
from tvm_bnn.report.peers import PEERS
from tvm_bnn.report.rows import OURS
from tvm_bnn.rpc.address import parse_address

#: Ours with the tuning records that there are.
TUNED = f"{OURS}-tuned"
EXECUTORS = (OURS, TUNED, *(peer.name for peer in PEERS))
#: The machine that makes the report.
HERE = "this machine"

Name = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Count = Annotated[int, Field(ge=1)]
Size = tuple[Count, Count]


class _Table(BaseModel):
    """A table of the file, with no key that is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class TaskTable(_Table):
    """[[task]]: what networks are judged on."""

    name: Name
    """Of the data set, where `data` does not tell it: cityscapes, kitti-road, ecssd."""
    data: Name | None = None
    """The data set of a task that has a name of its own: the same images at another size, for example."""
    images: Count = 40
    """So many of its split."""
    size: Size
    """(H, W) of the networks' input; images are resized to it."""
    split: Name = "val"
    data_root: Path | None = None
    """Where the data set is; without it, images are drawn, and every figure is labelled so."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of drawn images."""

    @model_validator(mode="after")
    def _known(self) -> TaskTable:
        if self.data_set not in TASKS:
            raise ValueError(f"found {self.data_set!r}; the data sets are {', '.join(TASKS)}")
        return self

    @property
    def data_set(self) -> str:
        """Whose images these are."""
        return self.data or self.name


class NetworkTable(_Table):
    """[[network]]: one network of a task, and what runs it."""

    name: Name
    task: Name
    checkpoint: Path | None = None
    """A compact checkpoint, as `tvm_bnn.examples.training` writes it."""
    model: Name | None = None
    """Or "package.module:factory", as for tvm_bnn.compile; weights : its state_dict."""
    weights: Path | None = None
    twin: Name | None = None
    """Of a binary network: the float network that it is compared with."""
    judged: bool = True
    """Whether its accuracy is measured: not of random weights, of which only times tell anything."""
    executors: Annotated[list[Name], Field(min_length=1)]

    @model_validator(mode="after")
    def _whole(self) -> NetworkTable:
        if (self.checkpoint is None) == (self.model is None):
            raise ValueError("a network is given as checkpoint or as model, one of them")
        if self.weights is not None and self.model is None:
            raise ValueError("weights go with model; a checkpoint has its own")
        for executor in self.executors:
            if executor not in EXECUTORS:
                raise ValueError(f"found executor {executor!r}; accepted are {', '.join(EXECUTORS)}")
        return self


class TargetTable(_Table):
    """[[target]]: where to measure; this machine where there is none."""

    name: Name = HERE
    rpc: str | None = None
    """HOST:PORT of a device."""
    tracker: str | None = None
    """Or HOST:PORT of a tracker, with the key of a device."""
    key: str = ""
    emulated: str | None = None
    """Or a processor to emulate, such as cortex-a72: instructions are counted, nothing is timed."""
    target: str | None = None
    """What to compile for, where a device does not tell."""
    threads: list[Count] = []
    """Numbers of threads; by default all of its CPUs."""

    @model_validator(mode="after")
    def _one_place(self) -> TargetTable:
        if sum(value is not None for value in (self.rpc, self.tracker, self.emulated)) > 1:
            raise ValueError("a target is one of rpc, tracker and emulated; found two of them")
        if (self.tracker is None) != (not self.key) and self.rpc is None:
            raise ValueError("tracker and key go together")
        for address in (self.rpc, self.tracker):
            if address is not None:
                parse_address(address)
        return self


class SweepTable(_Table):
    """[sweep]: the demonstration's network with several numbers of branches, random weights."""

    branches: Annotated[list[Count], Field(min_length=2)] = [1, 2, 3, 4, 5, 6, 7, 8]
    size: Size = (256, 512)

    @model_validator(mode="after")
    def _from_one(self) -> SweepTable:
        if self.branches[0] != 1 or sorted(set(self.branches)) != self.branches:
            raise ValueError(f"branches rise from 1, which the others are compared with; found {self.branches}")
        return self


class Config(_Table):
    """The whole file."""

    title: Name
    rounds: Count = 11
    """That count, of each group of measurements that take turns."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of random weights and of the input that is timed."""
    samples: Annotated[int, Field(ge=0)] = 3
    """Images of each task that are shown."""
    task: Annotated[list[TaskTable], Field(min_length=1)]
    network: Annotated[list[NetworkTable], Field(min_length=1)]
    target: list[TargetTable] = [TargetTable()]
    sweep: SweepTable | None = None
    ablations: list[Path] = []
    """Results of tvm_bnn.examples.training.ablation to show."""

    @model_validator(mode="after")
    def _references(self) -> Config:
        for kind, tables in (("task", self.task), ("network", self.network), ("target", self.target)):
            names = [table.name for table in tables]
            if repeated := {name for name in names if names.count(name) > 1}:
                raise ValueError(f"every {kind} has a name of its own; found {sorted(repeated)[0]!r} twice")
        tasks, networks = {each.name for each in self.task}, {each.name: each for each in self.network}
        for network in self.network:
            if network.task not in tasks:
                raise ValueError(f"network {network.name!r} is for task {network.task!r}; there is {sorted(tasks)}")
            twin = networks.get(network.twin or "")
            if network.twin is not None and (twin is None or twin.task != network.task):
                raise ValueError(f"network {network.name!r}: its twin {network.twin!r} is no network of its task")
        return self

    def networks_of(self, task: str) -> list[NetworkTable]:
        """Those for a task, in the order of the file."""
        return [network for network in self.network if network.task == task]


def read(path: Path) -> Config:
    """The file; paths in it are relative to its folder. Raises InputError with what is wrong in it, and where."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}; give a TOML file") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path} is no TOML file: {error}") from error
    try:
        config = Config.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        known = f"; known are {', '.join(_keys(first['loc']))}" if first["type"] == "extra_forbidden" else ""
        raise InputError(f"{path}: {where + ': ' if where else ''}{message}{known}") from error
    return _resolved(config, path.absolute().parent)


def _keys(location: tuple[int | str, ...]) -> list[str]:
    tables: tuple[type[_Table], ...] = (TaskTable, NetworkTable, TargetTable, SweepTable)
    inside = {table.__name__.removesuffix("Table").lower(): table for table in tables}
    return sorted(inside[str(location[0])].model_fields if len(location) > 1 else Config.model_fields)


def _resolved(config: Config, folder: Path) -> Config:
    def network(table: NetworkTable) -> NetworkTable:
        files = {"checkpoint": table.checkpoint, "weights": table.weights}
        return table.model_copy(update={name: folder / path for name, path in files.items() if path is not None})

    def task(table: TaskTable) -> TaskTable:
        return table if table.data_root is None else table.model_copy(update={"data_root": folder / table.data_root})

    networks, ablations = [network(table) for table in config.network], [folder / path for path in config.ablations]
    for path in (*ablations, *(file for table in networks for file in (table.checkpoint, table.weights))):
        if path is not None and not path.is_file():
            raise InputError(f"{path} is not there; paths are relative to the folder of the configuration")
    tasks = [task(table) for table in config.task]
    return config.model_copy(update={"network": networks, "task": tasks, "ablations": ablations})
