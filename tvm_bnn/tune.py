"""`python -m tvm_bnn.tune MODEL --target T`: try other decisions of the schedules, on this machine or on devices."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from tvm_bnn.compile import SHIPPED, SIGN_ZERO
from tvm_bnn.console import ArgumentParser, main_guard, positive
from tvm_bnn.errors import InputError, TargetError
from tvm_bnn.interrupt import held_back
from tvm_bnn.rpc import options as device_options
from tvm_bnn.tuning.log import FOLDER, INSTRUCTIONS, SECONDS

if TYPE_CHECKING:
    import numpy as np

    from tvm_bnn.frontend.source import Source
    from tvm_bnn.report.timing import Seconds
    from tvm_bnn.rpc.client import Place
    from tvm_bnn.runtime import Artifact
    from tvm_bnn.targets import Target
    from tvm_bnn.tuning.log import Record
    from tvm_bnn.tuning.tuner import Tuner

_TRIALS, _BUDGET_S = 1000, 1200
_ROUNDS = 15


@main_guard
def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    with held_back():
        from tvm_bnn.frontend.source import load_source, parse_shapes
        from tvm_bnn.gpus import name_here
        from tvm_bnn.report.machine import cpu_name, measure
        from tvm_bnn.summary import print_table
        from tvm_bnn.targets import resolve
        from tvm_bnn.tuning.devices import Pool
        from tvm_bnn.tuning.display import Screen, table
        from tvm_bnn.tuning.tasks import tasks_of
        from tvm_bnn.tuning.tuner import Tuner
    deadline = time.monotonic() + options.time_budget
    target, place = resolve(options.target, options.threads, gpu=True), _place(options)
    _check(target, place)
    shapes = parse_shapes(options.input_shape) if options.input_shape else None
    source = load_source(options.model or SHIPPED, None, options.weights, shapes)
    with tempfile.TemporaryDirectory(prefix="tvm_bnn-") as folder, Screen(console) as screen:
        pool = Pool(place, target.threads, screen.say, gpu=target.gpu.arch if target.gpu else None)
        try:
            tasks = tasks_of(source, target, Path(folder), options.sign_zero)
            log = Path(options.log)
            tuner = Tuner(tasks, target, pool, Path(folder), log, options.trials, deadline, screen)
            if place.here and target.gpu:
                tuner.device_of = lambda _: name_here()
            elif place.here:
                screen.say("measuring this machine's ceilings")
                tuner.device_of, tuner.limits = lambda _: cpu_name(), measure(target, copy_sizes=())
            tuner.run()
        finally:
            pool.close()
    print_table(console, table(tuner.states, tuner.limits, pool.unit))
    for line in _outcome(tuner):
        console.print(line)
    if place.here and tuner.choices:
        for line in _end_to_end(source, target, options.sign_zero, tuner.choices):
            console.print(line)
    return 0


def _place(options: argparse.Namespace) -> Place:
    if device_options.names_device(options) and options.local:
        raise InputError("found --local and a device; kernels are measured in one of these places: give one of them")
    return device_options.place(options)


def _check(target: Target, place: Place) -> None:
    """Raise TargetError where candidates cannot be built here, or not be measured where they are to be."""
    from tvm_bnn import cubin, gpus

    elsewhere = "name a device of that kind: --rpc HOST:PORT, or --tracker HOST:PORT --key KEY"
    if place.here and target.gpu and (lacks := gpus.lacking(target.gpu.arch, gpus.version_here())):
        raise TargetError(f"{target.name} {lacks}; {elsewhere}")
    if place.here and not target.native:
        raise TargetError(f"{target.name} is not this machine; {elsewhere}")
    if target.gpu:
        cubin.nvcc()


def _end_to_end(source: Source, target: Target, sign_zero: str, records: Mapping[str, Record]) -> list[str]:
    """The whole network without and with the records, in turns on this machine."""
    from tvm_bnn.compiler import compile_source
    from tvm_bnn.report.timing import MAX_SPREAD, interleave

    arrays = [value.numpy() for value in source.inputs]
    made = {
        "untuned": compile_source(source, target, sign_zero).artifact,
        "tuned": compile_source(source, target, sign_zero, records=records).artifact,
    }
    runs = {
        name: partial(_once, artifact, arrays) if target.gpu else partial(artifact, *arrays)
        for name, artifact in made.items()
    }
    timings = interleave(runs, _ROUNDS)
    before, after = (1e3 * timings[name].median for name in made)
    spread = max(timing.spread for timing in timings.values())
    gain = f"{before / after:.2f}x" if spread <= MAX_SPREAD else "no ratio"
    return [f"the network: {before:.2f} ms untuned, {after:.2f} ms tuned ({gain}; times spread by {spread:.0%})"]


def _once(artifact: Artifact, arrays: Sequence[np.ndarray]) -> Seconds:
    """Seconds of a run on a GPU, without the copies to it and back."""
    from tvm_bnn.report.timing import Seconds

    (seconds,) = artifact.benchmark(*arrays, repeat=1)
    return Seconds(seconds)


def _outcome(tuner: Tuner) -> list[str]:
    """What was gained, in lines."""
    chosen = [state for state in tuner.states if state.chosen]
    better = "faster" if tuner.pool.unit == SECONDS else "shorter"
    lines = [f"{len(chosen)} of {len(tuner.states)} kernels are {better} than with the schedules' own decisions"]
    before = sum(state.default * state.task.uses for state in tuner.states)
    after = sum(
        state.default * state.task.uses / (state.chosen.gain if state.chosen else 1.0) for state in tuner.states
    )
    if tuner.pool.unit == INSTRUCTIONS:
        counted = f"they execute {before / 1e6:.2f} million instructions, {after / 1e6:.2f} million with the records"
        return [*lines, counted, f"records are in {tuner.log_path}; compile uses those of times alone"]
    if tuner.states:
        lines.append(f"they take {1e3 * before:.2f} ms one after the other, and {1e3 * after:.2f} ms with the records")
    return [*lines, f"records are in {tuner.log_path}; compile finds them there"]


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="python -m tvm_bnn.tune",
        description="Find faster schedules for the kernels of a network, by trying them.",
    )
    parser.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help=".pt2 or .onnx file, or package.module:factory (default: the network that comes with the package)",
    )
    parser.add_argument(
        "--target",
        default="llvm",
        help='such as "llvm -mcpu=cortex-a72" or "cuda -arch=sm_90" (default: this machine)',
    )
    parser.add_argument("--local", action="store_true", help="measure on this machine (the default)")
    device_options.add_device(parser, all_of_key=True)
    parser.add_argument(
        "--trials",
        type=positive,
        default=_TRIALS,
        metavar="N",
        help=f"at most, with those in the log (default: {_TRIALS})",
    )
    parser.add_argument(
        "--time-budget", type=positive, default=_BUDGET_S, metavar="S", help=f"seconds at most (default: {_BUDGET_S})"
    )
    parser.add_argument(
        "--log", default=FOLDER, metavar="DIR", help=f"folder of records, which go on there (default: {FOLDER})"
    )
    parser.add_argument("--threads", type=positive, metavar="N", help="threads of each kernel (default: all)")
    parser.add_argument("--weights", metavar="FILE", help="state_dict for the factory's model: .pt, .pth, .safetensors")
    parser.add_argument(
        "--input-shape", action="append", metavar="N,C,H,W", help="of each input (repeat, or separate by ;)"
    )
    parser.add_argument("--sign-zero", choices=SIGN_ZERO, default="plus", help="as compile takes it (default: plus)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
