"""The driver: a source goes through the phases one after the other, and becomes an artifact."""

import contextlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import tvm
import tvm_ffi

from tvm_bnn import artifact, calibration, cubin, errors, explain, launches, linker
from tvm_bnn.console import Progress
from tvm_bnn.errors import OutputError
from tvm_bnn.exact_zeros import count_zeros
from tvm_bnn.frontend.importer import Imported
from tvm_bnn.frontend.naming import name_by_node
from tvm_bnn.frontend.source import Source
from tvm_bnn.lower import lower
from tvm_bnn.relay_passes.convert_binary import Decisions
from tvm_bnn.relay_passes.float_precision import activations, reduce_precision
from tvm_bnn.relay_passes.pipeline import optimize
from tvm_bnn.requirement import require_binary
from tvm_bnn.runtime import Artifact
from tvm_bnn.schedules import schedule_module
from tvm_bnn.schedules.apply import BUILD_CONFIG
from tvm_bnn.schedules.registers import PIPELINE
from tvm_bnn.schedules.threshold import share_large
from tvm_bnn.stages import Stages
from tvm_bnn.targets import Target
from tvm_bnn.tuning.log import Record

#: What sign(0) of a real tensor becomes: a convention, or the third level that PyTorch gives it.
SIGN_ZERO = ("plus", "minus", "exact")
_LAYOUTS = {4: "NCHW"}
# the code of a network is far smaller, that of one with very many different layers perhaps not
_CODE_BYTES = 8 << 20

# A pass is called from C++, and an error that crosses it keeps its type only where TVM knows the name.
for _error in (*errors.BnnError.__subclasses__(), errors.BnnError, KeyboardInterrupt):
    tvm_ffi.register_error(_error.__name__, _error)


@dataclass(frozen=True)
class Compilation:
    """An artifact and how it came about.

    imported : the module as imported, its values named after the program's nodes.
    optimized : the module behind the last graph pass: what the artifact computes, bit for bit.
    decisions : a record per convolution, linear layer and matmul, and the layers where sign(0) was chosen.
    float_precision : what its float layers were to compute in. calibrated : how many inputs gave the ranges of int8, 0
    where the example input did.
    """

    artifact: Artifact
    source: Source
    target: Target
    imported: Imported
    optimized: tvm.IRModule
    decisions: Decisions
    float_precision: str = "fp32"
    calibrated: int = 0


def compile_source(
    source: Source,
    target: Target,
    sign_zero: str = "plus",
    progress: Progress | None = None,
    stages: Stages | None = None,
    binary_only: bool = False,
    allow_float: Sequence[str] | None = None,
    float_precision: str = "fp32",
    calibrate: Sequence[Any] = (),
    records: Mapping[str, Record] = MappingProxyType({}),
) -> Compilation:
    """Compile a source for a target.

    sign_zero : one of SIGN_ZERO.
    float_precision : one of relay_passes.float_precision.PRECISIONS; what float layers compute in.
    calibrate : for int8, inputs that are typical, see `calibration.read_inputs`; by default the example inputs.
    records : workload -> the tuning record whose decisions its schedule takes, see `tuning.log.choices`.
    binary_only : refuse a network with float layers outside allow_float; see `requirement`.

    Raises UnsupportedError where the graph has something that there is no code for, or is not binary where it must be.
    """
    progress = progress or Progress(quiet=True)
    stages = stages or Stages()
    with progress.phase("import"), warnings.catch_warnings():
        # of PyTorch's and TVM's own making
        warnings.simplefilter("ignore")
        imported = name_by_node(source.imported(), source.single)
        stages.dump("import", imported.module)
    with progress.phase("optimize") as detail, stages.watched(detail):
        optimized, decisions = _optimized(imported.module, sign_zero)
    if binary_only:
        require_binary(decisions, allow_float)
    if float_precision != "fp32":
        with progress.phase("calibrate") as detail, stages.watched(detail):
            optimized = _rounded(source, optimized, decisions, float_precision, target, calibrate)
    with progress.phase("lower") as detail, stages.watched(detail):
        lowered = lower(optimized, target)
        stages.dump("lower", lowered.module)
    with progress.phase("schedule") as detail, stages.watched(detail):
        chosen = {workload: record.decisions for workload, record in records.items()}
        scheduled = schedule_module(lowered.module, lowered.family_of, target, chosen)
        if target.gpu is None:
            scheduled = share_large(scheduled, lowered.family_of, target.threads)
        stages.dump("schedule", scheduled)
    device_code = cubin.compiled_for(target.gpu.arch) if target.gpu else contextlib.nullcontext()
    config = {**BUILD_CONFIG, **launches.CONFIG} if target.gpu else BUILD_CONFIG
    with progress.phase("build") as detail, stages.watched(detail, config), device_code:
        executable = _built(scheduled, target)
    with progress.phase("link"):
        library = _linked(executable, target, _room(source))
    layers = explain.rows(decisions, optimized, lowered.kernel_of, scheduled)
    made = Artifact(library, _manifest(source, target, layers))
    if target.native:
        with progress.phase("check"):
            made.manifest["check"] = compare(source, made)
            made.manifest["check"]["exact_zeros"] = count_zeros(source, imported, decisions)
    return Compilation(made, source, target, imported, optimized, decisions, float_precision, len(calibrate))


def analysed(source: Source, sign_zero: str = "plus") -> tuple[tvm.IRModule, Decisions]:
    """A source behind the last graph pass, which is the same for every target, and what was decided of its layers."""
    with warnings.catch_warnings():
        # of PyTorch's and TVM's own making
        warnings.simplefilter("ignore")
        return _optimized(name_by_node(source.imported(), source.single).module, sign_zero)


def _optimized(module: tvm.IRModule, sign_zero: str) -> tuple[tvm.IRModule, Decisions]:
    decisions = Decisions()
    return optimize(module, decisions, sign_zero), decisions


def _rounded(
    source: Source, module: tvm.IRModule, decisions: Decisions, precision: str, target: Target, calibrate: Sequence[Any]
) -> tvm.IRModule:
    most: Mapping[str, float] = {}
    if precision == "int8":
        batches = calibration.read_inputs(calibrate, _manifest(source, target, []))
        most = calibration.largest(module, activations(module), batches or calibration.of_example(source.inputs))
    return reduce_precision(module, decisions, precision, most)


def _room(source: Source) -> int:
    """Bytes that linking needs on the disk at most: objects and library, each with the weights and some code."""
    return 2 * (_CODE_BYTES + source.weight_bytes)


def _built(scheduled: tvm.IRModule, target: Target) -> Any:
    described = target.tvm()
    passes = launches.pipeline(described) if target.gpu else "default"
    return tvm.compile(scheduled, target=described, relax_pipeline=passes, tir_pipeline=PIPELINE)


def _linked(executable: Any, target: Target, room: int) -> bytes:
    try:
        return linker.shared_object(executable, target.triple, room)
    except OSError as error:
        raise OutputError(
            f"cannot link in a temporary folder: {error.strerror or error}; set TMPDIR to a folder with "
            f"{(room >> 20) + 1} MB of free space"
        ) from error


def _manifest(source: Source, target: Target, layers: list[explain.Row]) -> artifact.Manifest:
    inputs: list[artifact.InputInfo] = []
    for name, value in zip(source.input_names, source.inputs, strict=True):
        row: artifact.InputInfo = {"name": name, "shape": list(value.shape), "dtype": _dtype(value)}
        if value.dim() in _LAYOUTS:
            row["layout"] = _LAYOUTS[value.dim()]
        inputs.append(row)
    outputs: list[artifact.OutputInfo] = [
        {"shape": list(value.shape), "dtype": _dtype(value)} for value in source.expected
    ]
    return artifact.new_manifest(
        source.name,
        inputs,
        outputs,
        target.manifest(),
        layers=layers,
        preprocessing=source.preprocessing,
        class_names=source.class_names,
        palette=source.palette,
    )


def _dtype(value: torch.Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def compare(source: Source, made: Artifact) -> dict[str, Any]:
    """The artifact beside the model itself (PyTorch, or what runs its ONNX form) on the example inputs.

    Per output: of whole numbers or bools ``agreement``, the share of equal elements; of floats ``max_abs`` and
    ``max_rel``, the largest difference alone and over the largest magnitude in the model's output.
    """
    results = made(*(value.numpy() for value in source.inputs))
    results = results if isinstance(results, tuple) else (results,)
    outputs = [
        _difference(expected.numpy(), found) for expected, found in zip(source.expected, results, strict=True)
    ]
    return {"compared_with": source.oracle, "outputs": outputs}


def _difference(expected: np.ndarray, found: np.ndarray) -> Mapping[str, float | int]:
    if not np.issubdtype(expected.dtype, np.floating):
        return {"elements": expected.size, "agreement": float(np.mean(expected == found)) if expected.size else 1.0}
    difference = float(np.max(np.abs(expected.astype(np.float64) - found), initial=0.0))
    magnitude = float(np.max(np.abs(expected), initial=0.0))
    return {
        "elements": expected.size,
        "max_abs": difference,
        "max_rel": difference / magnitude if magnitude else difference,
    }
