"""`python -m tvm_bnn.examples.ding2024.show -o demo_output`: the trained network on test scenes it never saw.

Compiles the network for this machine, segments the synthetic test split with it and with its float twin and its
original in PyTorch, and writes to the folder:

    index.html     the figures and the first scenes, self-contained
    overview.png   a few scenes as one picture
    scenes/*.png   image | truth | prediction
    results.json   the figures
    demo.bnn       the compiled network
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tvm_bnn.artifact import make_folder
from tvm_bnn.console import ArgumentParser, Progress, main_guard, positive
from tvm_bnn.errors import InputError, OutputError
from tvm_bnn.interrupt import held_back
from tvm_bnn.targets import available_cpus

SCENES = 200
PICTURES = 12
ROUNDS = 31


@main_guard
def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    options = _parser().parse_args(arguments)
    folder, threads = Path(options.output), options.threads or available_cpus()
    if threads > available_cpus():
        raise InputError(f"found --threads {threads}; from 1 to {available_cpus()} (the CPUs here) can be used")
    _check_folder(folder)
    with held_back():
        import torch

        import tvm_bnn
        from tvm_bnn.examples.ding2024 import demo, demo_float_twin, demo_networks, demo_report
    torch.set_num_threads(threads)
    binary, twin = demo(options.branches), demo_float_twin()
    with Progress() as progress:
        compiled = tvm_bnn.compile(binary, threads=threads, name="demo", progress=progress)
        scenes = demo_networks.draw(options.scenes, binary.config.input_size, progress)
        with progress.phase("save"):
            make_folder(folder / "scenes")
            compiled.save(folder / "demo.bnn")
        networks = demo_networks.three(twin, binary, compiled, (folder / "demo.bnn").stat().st_size)
        results = demo_networks.measure(networks, scenes, binary.preprocessing, options.rounds, progress)
        about = demo_report.facts(results, compiled, options.branches)
        with progress.phase("write"):
            demo_report.write(folder, about, scenes[: options.pictures], results[-1].classes)
    demo_report.print_results(Console(highlight=False, soft_wrap=True), about)
    print(f"took {sum(progress.seconds.values()):.0f} s; look at {folder / 'index.html'}")
    return 0


def _check_folder(folder: Path) -> None:
    """Refuse at the start what could not be written at the end."""
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not existing.is_dir():
        raise OutputError(f"cannot write to {folder}: {existing} is a file; give the name of a folder")
    try:
        # a file without a name: nothing stays behind, and read-only disks are noticed too
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise OutputError(
            f"cannot write to {folder}: no file can be made in {existing} ({error.strerror}); choose another folder"
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="python -m tvm_bnn.examples.ding2024.show",
        description="Compile the trained example network for this machine and show it on synthetic test scenes.",
    )
    parser.add_argument("-o", "--output", default="demo_output", metavar="DIR", help="default: demo_output")
    parser.add_argument("--scenes", type=positive, default=SCENES, help=f"test scenes to segment (default: {SCENES})")
    parser.add_argument("--pictures", type=positive, default=PICTURES, help=f"of them shown (default: {PICTURES})")
    parser.add_argument("--branches", type=int, choices=(1, 3), default=1, help="K (default: 1)")
    parser.add_argument("--threads", type=positive, help="threads of every network (default: all CPUs)")
    parser.add_argument("--rounds", type=positive, default=ROUNDS, help=f"to measure latency (default: {ROUNDS})")
    return parser


if __name__ == "__main__":
    sys.exit(main())
