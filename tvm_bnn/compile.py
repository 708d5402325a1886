"""`tvm_bnn.compile(...)`, the function, and `python -m tvm_bnn.compile`, the command.

The two share a name: this module can be called, and a call is `compile_model`.
"""

from __future__ import annotations

import argparse
import inspect
import os
import sys
import tempfile
import types
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from tvm_bnn.artifact import SUFFIX
from tvm_bnn.console import ArgumentParser, Progress, main_guard, positive
from tvm_bnn.errors import InputError, OutputError
from tvm_bnn.interrupt import held_back

if TYPE_CHECKING:
    # loaded when there is something to compile: help and mistakes need none of it
    import torch

    from tvm_bnn.compiler import Compilation
    from tvm_bnn.runtime import Artifact
    from tvm_bnn.stages import Stages
    from tvm_bnn.targets import Target
    from tvm_bnn.tuning.log import Log

#: What is compiled when no model is named.
SHIPPED = "tvm_bnn.examples.ding2024:demo"
SHIPPED_NAME = "ding2024"
SIGN_ZERO = ("plus", "minus", "exact")
FLOAT_PRECISION = ("fp32", "tf32", "bf16", "int8")
INPUT_DTYPES = ("float32", "uint8")


def compile_model(
    model: torch.nn.Module | torch.export.ExportedProgram | str | os.PathLike[str],
    example_inputs: Any = None,
    target: str = "llvm",
    threads: int | None = None,
    sign_zero: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    name: str | None = None,
    progress: Progress | None = None,
    dump_ir: str | os.PathLike[str] | None = None,
    require_binary: bool = False,
    allow_float: Sequence[str] | None = None,
    float_precision: str = "fp32",
    calibration: Sequence[Any] | None = None,
    input_dtype: str = "float32",
    log: str | os.PathLike[str] | None = None,
    untuned: bool = False,
) -> Artifact:
    """Compile a PyTorch or ONNX model into an artifact.

    model : a torch.nn.Module (taken in eval mode), a torch.export.ExportedProgram, the path of a .pt2 or .onnx file,
        or "package.module:factory".
    example_inputs : the arguments of one call, a tensor or a tuple of tensors; may be left out where the model knows
        them: an exported program, a model with a method example_inputs().
    target : "llvm" (this machine), "llvm -mcpu=cortex-a72", "cuda -arch=sm_90", JSON, or a tag; see tvm_bnn.targets.
    threads : how many threads the artifact uses; by default all CPUs of this machine, or of the board.
    sign_zero : what torch.sign(0) of a real tensor becomes: "plus" (the default), "minus", or "exact" (0).
    weights : a state_dict file to load into the model first.
    name : of the network, in its manifest.
    progress : shows the phases and keeps their times.
    dump_ir : a folder that receives the module after each stage and pass.
    require_binary : raise UnsupportedError where a convolution or linear layer stays float, outside allow_float.
    allow_float : patterns (as in file names) of the module paths of layers that may; by default the first and the last
        convolution or linear layer.
    float_precision : what the float convolutions and linear layers compute in: "fp32", "tf32", "bf16" or "int8".
    calibration : typical inputs that give the ranges of int8 (paths of images, .npy or .npz files, tensors, or tuples
        of them, one a call); by default the example inputs.
    input_dtype : "uint8" makes an artifact that reads the pixels of an image; the model's ``preprocessing`` (by default
        pixel / 255) becomes part of it.

    log : folder of tuning records (`python -m tvm_bnn.tune` writes them); by default those that come with the package
        and those in ./tuning_logs.
    untuned : use no records.

    Where the target runs here, the artifact is run on the example inputs, and its difference to PyTorch (to
    onnxruntime, for an ONNX model) is in manifest["check"].

    Raises ModelError, InputError, TargetError, UnsupportedError or OutputError: all of them BnnError.
    """
    from tvm_bnn.stages import Stages

    made = _compile(
        model,
        target,
        example_inputs=example_inputs,
        threads=threads,
        sign_zero=sign_zero or "plus",
        weights=weights,
        name=name,
        progress=progress or Progress(quiet=True),
        stages=Stages(dump_ir),
        binary_only=require_binary,
        allow_float=allow_float,
        float_precision=float_precision,
        calibration=calibration,
        input_dtype=input_dtype,
        log=log,
        untuned=untuned,
    )
    for note in made.source.notes:
        warnings.warn(note, stacklevel=2)
    return made.artifact


def _compile(
    model: Any,
    target: str,
    *,
    progress: Progress,
    stages: Stages,
    example_inputs: Any = None,
    input_shape: Sequence[tuple[int, ...]] | None = None,
    threads: int | None = None,
    sign_zero: str = "plus",
    weights: str | os.PathLike[str] | None = None,
    name: str | None = None,
    binary_only: bool = False,
    allow_float: Sequence[str] | None = None,
    float_precision: str = "fp32",
    calibration: Sequence[Any] | None = None,
    input_dtype: str = "float32",
    log: str | os.PathLike[str] | None = None,
    untuned: bool = False,
) -> Compilation:
    from tvm_bnn.compiler import compile_source
    from tvm_bnn.frontend.source import load_source
    from tvm_bnn.targets import resolve
    from tvm_bnn.tuning.log import choices

    if sign_zero not in SIGN_ZERO:
        raise InputError(f"found sign_zero={sign_zero!r}; accepted are {', '.join(SIGN_ZERO)}")
    if allow_float is not None and not binary_only:
        raise InputError("found allow_float without require_binary; every layer may be float unless that is asked for")
    if isinstance(allow_float, str):
        raise InputError(f"found allow_float={allow_float!r}; accepted is a list of patterns: try [{allow_float!r}]")
    if float_precision not in FLOAT_PRECISION:
        raise InputError(f"found float_precision={float_precision!r}; accepted are {', '.join(FLOAT_PRECISION)}")
    if input_dtype not in INPUT_DTYPES:
        raise InputError(f"found input_dtype={input_dtype!r}; accepted are {', '.join(INPUT_DTYPES)}")
    if calibration is not None and float_precision != "int8":
        raise InputError(f"found inputs to calibrate {float_precision} with; only int8 has ranges to be found")
    if isinstance(calibration, str | os.PathLike):
        raise InputError(f"found calibration={os.fspath(calibration)!r}; accepted is a list: try [...] around it")
    if untuned and log is not None:
        raise InputError("found a log of tuning records that are not to be used; leave out one of log and untuned")
    resolved = resolve(target, threads, gpu=True)
    records = _records(resolved, log, untuned)
    with progress.phase("export"):
        source = load_source(model, example_inputs, weights, input_shape, name, input_dtype)
    made = compile_source(
        source,
        resolved,
        sign_zero,
        progress,
        stages,
        binary_only,
        allow_float,
        float_precision,
        calibration or (),
        choices(records.records),
    )
    made.source.notes.extend(records.summary())
    return made


def _records(target: Target, log: str | os.PathLike[str] | None, untuned: bool) -> Log:
    """The tuning records for a target, of a folder or wherever they are found."""
    from tvm_bnn.tuning.log import Log, found, read

    if untuned:
        return Log()
    if log is None:
        return found(target.name, target.threads)
    if not Path(log).is_dir():
        raise InputError(f"cannot read the tuning logs in {os.fspath(log)}: there is no such folder")
    return read(Path(log), target.name, target.threads)


class _CallableModule(types.ModuleType):
    """A module that is called as the function it is named after."""

    __call__ = staticmethod(compile_model)


sys.modules[__name__].__class__ = _CallableModule
__signature__ = inspect.signature(compile_model)


# --- the command ------------------------------------------------------------------------------------------------


@main_guard
def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    options = _parser().parse_args(arguments)
    for path in (options.output, options.json):
        _check_folder(path)
    with Progress() as progress:
        with progress.phase("start"), held_back():
            from tvm_bnn import summary
            from tvm_bnn.frontend.source import parse_shapes
            from tvm_bnn.stages import Stages
        stages = Stages(options.dump_ir)
        made = _compile(
            options.model or SHIPPED,
            options.target,
            input_shape=parse_shapes(options.input_shape) if options.input_shape else None,
            threads=options.threads,
            sign_zero=options.sign_zero,
            weights=options.weights,
            name=None if options.model else SHIPPED_NAME,
            progress=progress,
            stages=stages,
            binary_only=options.require_binary,
            allow_float=options.allow_float,
            float_precision=options.float_precision,
            calibration=options.calibration,
            input_dtype=options.input_dtype,
            log=options.log,
            untuned=options.untuned,
        )
    output = Path(options.output or f"{made.source.name}-{made.target.name}{SUFFIX}")
    made.artifact.save(output)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    if not options.model:
        print(f"no MODEL was given: this is the shipped example network, {SHIPPED}")
    if options.explain:
        summary.print_rows(console, made)
    if options.time_passes:
        summary.print_passes(console, progress.seconds, stages.times)
    summary.print_summary(console, made, output, progress.seconds, options.sign_zero)
    if options.json:
        summary.write_json(options.json, made, output, progress.seconds)
    return 0


def _check_folder(path: str | None) -> None:
    """Refuse at the start what could not be written at the end."""
    if path is None:
        return
    folder = Path(path).parent
    if not folder.is_dir():
        raise OutputError(f"cannot write {path}: there is no folder {folder}; make it, or choose another")
    if Path(path).is_dir():
        raise OutputError(f"cannot write {path}: it is a folder; give the name of a file")
    try:
        # a file without a name: nothing stays behind, and read-only disks are noticed too
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: no file can be made in {folder} ({error.strerror}); choose another folder"
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="python -m tvm_bnn.compile",
        description="Compile a PyTorch network with binary layers into one file of native code.",
    )
    parser.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help=".pt2 or .onnx file, or package.module:factory (default: the network that comes with the package)",
    )
    parser.add_argument(
        "--target", default="llvm", help='such as "llvm -mcpu=cortex-a72" or "cuda -arch=sm_90" (default: this machine)'
    )
    parser.add_argument("-o", "--output", metavar="OUT", help=f"file to write (default: ./MODEL-TARGET{SUFFIX})")
    parser.add_argument("--weights", metavar="FILE", help="state_dict for the factory's model: .pt, .pth, .safetensors")
    parser.add_argument(
        "--input-shape", action="append", metavar="N,C,H,W", help="of each input (repeat, or separate by ;)"
    )
    parser.add_argument("--threads", type=positive, metavar="N", help="threads that the artifact uses (default: all)")
    parser.add_argument(
        "--sign-zero", choices=SIGN_ZERO, default="plus", help="what torch.sign(0) becomes (default: plus)"
    )
    parser.add_argument(
        "--require-binary", action="store_true", help="fail if a convolution or linear layer stays float"
    )
    parser.add_argument(
        "--allow-float",
        nargs="+",
        action="extend",
        metavar="PATTERN",
        help="module paths that may stay float, such as 'head.*' (default: the first and the last layer)",
    )
    parser.add_argument(
        "--input-dtype",
        choices=INPUT_DTYPES,
        default="float32",
        help="uint8: read the pixels of an image, and normalise them as the model says (default: float32)",
    )
    parser.add_argument(
        "--float-precision",
        choices=FLOAT_PRECISION,
        default="fp32",
        help="what float convolutions and linear layers compute in (default: fp32)",
    )
    parser.add_argument(
        "--calibration",
        nargs="+",
        action="extend",
        metavar="PATH",
        help="images, .npy or .npz inputs that give the ranges of int8 (default: the example input)",
    )
    parser.add_argument("--log", metavar="DIR", help="tuning records (default: the package's, and ./tuning_logs)")
    parser.add_argument("--untuned", action="store_true", help="use no tuning records")
    parser.add_argument("--explain", action="store_true", help="print a row per layer: what became of it, and why")
    parser.add_argument("--json", metavar="FILE", help="write these rows and the totals")
    parser.add_argument("--dump-ir", metavar="DIR", help="write the module after each stage and pass")
    parser.add_argument("--time-passes", action="store_true", help="print what each phase and pass took")
    return parser


if __name__ == "__main__":
    sys.exit(main())
