"""What a comparison is, as data: the content of report.json, from which the page, its pictures and texts are made.

Everything that a page shows is here, so that a report can be drawn again, merged with another, or read by a program.
The classes are checked when a file is read, and give the JSON schema (`schema`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tvm_bnn.errors import InputError

VERSION = 1


class _Part(BaseModel):
    """A part of a report: plain data, with no key that is not known."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, ser_json_inf_nan="null")


class Limits(_Part):
    """What a number of threads can do at best on a machine, measured (`tvm_bnn.report.machine`)."""

    binary_macs_per_s: float
    """Binary multiply-accumulates per second: the popcount ceiling."""
    fp32_macs_per_s: float
    """Float32 multiply-accumulates per second: the FMA ceiling."""
    int8_macs_per_s: float | None
    """On vectors; null where there is no instruction for it."""
    int8_tile_macs_per_s: float | None
    """On tiles (AMX); null without."""
    copy_bytes_per_s: dict[str, float]
    """Size of the copied array in MB -> bytes read plus written per second."""


class Machine(_Part):
    """Where something was measured."""

    cpu: str
    cpus: int
    memory_gb: float | None
    system: str
    target: str
    """What ours is compiled for there, as a row of the target table."""
    device: str | None
    """Its address for a device over RPC; null for the machine that made the report."""
    emulated: bool
    """Whether instructions are counted and nothing is timed."""
    virtual: bool | None
    """Whether it shares its cores with other guests; null where that cannot be told."""
    clock: dict[str, str]
    """What is known of frequencies and load when measuring began: governor, MHz, load average."""
    limits: dict[str, Limits]
    """By number of threads."""
    versions: dict[str, str]
    """Of everything that is compared."""


class Task(_Part):
    """What the networks are for, and what they are judged on."""

    data_set: str
    """Its name; "synthetic-..." for drawings, of which a figure says nothing about photographs."""
    synthetic: bool
    split: str
    images: int
    size: tuple[int, int]
    """(H, W) of the networks' input."""
    seed: int | None
    """Of drawn images."""
    metric: str
    """The figure that the task is known by."""
    better: Literal["higher", "lower"]
    unit: Literal["%", ""]
    """"%": in points of 100; otherwise a share of 1."""
    class_names: list[str]
    palette: list[tuple[int, int, int]]


class Refused(_Part):
    """A layer that stays float."""

    path: str
    op: str
    reason: str
    advice: str


class Network(_Part):
    """One network of a task."""

    task: str
    kind: Literal["float", "binary"]
    twin: str | None
    """Of a binary network: the name of the float network that it is compared with."""
    branches: int | None
    attention: str | None
    upsampling: str | None
    file: str
    """The checkpoint, or the factory that made it."""
    sha256: str
    """Of its parameters."""
    training: dict[str, str]
    """What its checkpoint says of it: command, plan, seed, seconds; empty for random weights."""
    parameters: int
    weight_bytes: int
    """A bit for each binary weight, 4 bytes for any other parameter."""
    binary_macs: int
    float_macs: int
    """Of one inference. Padded taps count."""
    operations: float
    """float_macs + binary_macs / 64, as papers count computational complexity: a machine word is one operation."""
    reduction: float | None
    """How many times as many operations the float network `twin` takes."""
    binary_share: float
    """Of the multiply-accumulates."""
    layers_binary: int
    layers_float: int
    refused: list[Refused]
    """The layers that stay float, with reasons; of a float network none are listed."""


class Figure(_Part):
    """A measure of accuracy; null where it is undefined."""

    value: float | None
    better: Literal["higher", "lower"]
    unit: Literal["%", ""]


class Accuracy(_Part):
    """How right a network is on its task's images, as an executor computes it."""

    figures: dict[str, Figure]
    """The task's metric first."""
    difference: dict[str, float | None]
    """Figure less that of the same network in PyTorch, by name."""
    agreement: float | None
    """Share of all pixels with the same class as in PyTorch; of PyTorch itself: without oneDNN."""


class Latency(_Part):
    """Times of one inference, from an input in memory to a result in memory."""

    samples_ms: list[float]
    """One a round, in their order; of short inferences the median of as many as fit into 10 ms."""
    median_ms: float
    p95_ms: float
    least_ms: float
    spread: float
    """Interquartile range over the median."""


class LayerCall(_Part):
    """One kernel call of an inference of ours."""

    kernel: str
    layers: list[str]
    """Paths of the modules that it computes."""
    ms: float
    binary_macs: int
    float_macs: int
    bytes: int
    """Of its arguments and results: each read or written once."""


class Buffer(_Part):
    """A piece of memory in an inference of ours."""

    bytes: int
    first: int
    last: int
    """Calls of `MemoryPlan.calls` from which on, and up to which, it is in use."""


class MemoryPlan(_Part):
    """Which intermediate results exist when, as planned at compile time."""

    calls: list[str]
    buffers: list[Buffer]
    planned_bytes: int
    """Of all storage that the plan holds; buffers share it."""
    peak_bytes: int
    """Of buffers that are in use at the same time."""


class Measurement(_Part):
    """A network on an executor on a machine, with so many threads."""

    network: str
    executor: str
    """"tvm_bnn" (ours), "tvm_bnn-tuned", or a peer such as "onnxruntime-int8"."""
    machine: str
    threads: int
    group: str
    """Measurements of one group took turns: their times may be compared."""
    left_out: str | None
    """Why there is nothing to report; then everything below is null."""
    measured: str | None
    """Date and time."""
    accuracy: Accuracy | None = None
    latency: Latency | None = None
    throughput_per_s: float | None = None
    """Inferences per second, one after the other."""
    instructions: int | None = None
    """Executed in one inference, on an emulated processor; no time can be told from it."""
    memory_mb: float | None = None
    """Peak resident set of an inference, less that of a process without the network."""
    artifact_bytes: int | None = None
    compile_s: float | None = None
    limit_ms: float | None = None
    """The least time by the machine's measured limits."""
    limit_fraction: float | None = None
    """limit_ms / median_ms."""
    bound: Literal["compute", "bandwidth"] | None = None
    energy_mj: float | None = None
    """Millijoules of one inference; null where the platform has no counter."""
    tuned_layers: int | None = None
    layers: list[LayerCall] = []
    memory_plan: MemoryPlan | None = None


class Sample(_Part):
    """One image of a task's data set, segmented side by side; files are PNGs beside the report."""

    task: str
    name: str
    image: str
    truth: str
    predictions: dict[str, str]
    """Network -> its class map in PyTorch, or compiled where it was."""
    difference: str | None
    """Where the float and the (last) binary network differ."""
    differing: float | None
    """Share of pixels there."""


class BranchCount(_Part):
    """A network with K parallel branches: what the branches cost."""

    branches: int
    latency: Latency
    moved_bytes: int
    """Of tensors that must exist, each moved once (`tvm_bnn.report.limit`)."""
    binary_macs: int
    float_macs: int
    limit_ms: float
    multiple: float
    """K times the median of K=1, over the median of this: above 1, branches cost less than K networks."""


class BranchSweep(_Part):
    """The same network with K = 1, 2, ... on one machine, in turns."""

    network: str
    machine: str
    threads: int
    size: tuple[int, int]
    counts: list[BranchCount]


class Verdict(_Part):
    """A sentence that the numbers say."""

    task: str | None
    about: list[str]
    """Networks, executors or machines that it speaks of."""
    text: str
    numbers: dict[str, float]
    """Those in the text, before rounding."""
    machine: str | None = None
    """Where it holds; null where it is about no machine."""
    threads: int | None = None


class Report(_Part):
    """The whole comparison."""

    version: Literal[1] = 1
    title: str
    made: str
    """Date and time, UTC."""
    commands: list[str]
    """Exactly what made it, and what made the networks."""
    notes: list[str]
    """What a reader must know: missing peers, missing devices, no energy counter, ..."""
    machines: dict[str, Machine]
    tasks: dict[str, Task]
    networks: dict[str, Network]
    measurements: list[Measurement]
    samples: list[Sample]
    sweeps: list[BranchSweep]
    ablations: list[dict[str, Any]]
    """Results of training one factor at a time, as `tvm_bnn.examples.training.ablation` writes them."""
    verdicts: list[Verdict]


def schema() -> dict[str, Any]:
    """The JSON schema of report.json."""
    return Report.model_json_schema()


def read(path: Path) -> Report:
    """A report.json; raises InputError where the file is none."""
    try:
        return Report.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}; give a report.json") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise InputError(f"{path} is no report of version {VERSION}: {where}: {first['msg']}") from error
