"""How long compiling takes: chains of 10 to 1,000 binary convolutions, and Group-Nets of several sizes.

python -m tests.networks.compile_time                     # all rows, one thread
python -m tests.networks.compile_time --rows 'chain-*'    # some of them

Each row is compiled in a process of its own, on one thread. Times are processor seconds, the linker's included, so that
a machine that does other things as well changes them little.
"""

import argparse
import fnmatch
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn

from tests.networks.common import image, settle
from tests.networks.groupnet import groupnet18
from tvm_bnn.compiler import compile_source
from tvm_bnn.console import Progress
from tvm_bnn.frontend.source import load_source
from tvm_bnn.nn import BinaryConv2d, sign
from tvm_bnn.relay_passes.rewriter import bindings_of
from tvm_bnn.targets import resolve

PHASES = ("export", "import", "optimize", "lower", "schedule", "build", "link", "check")
COUNTS = (10, 30, 100, 300, 1000)
CHANNELS = (32, 64, 96, 128)


class Chain(nn.Module):
    """BN - sign - conv - shortcut, so many times.

    distinct : neighbouring layers have different channel counts, and every seventh another kernel.
    """

    def __init__(self, count: int, distinct: bool) -> None:
        super().__init__()
        widths = [CHANNELS[i % 4] if distinct else 64 for i in range(count + 1)]
        kernels = [(1, 3, 3, 5)[i // 4 % 4] if distinct else 3 for i in range(count)]
        self.convs = nn.ModuleList(
            BinaryConv2d(before, after, kernel, padding=kernel // 2)
            for before, after, kernel in zip(widths, widths[1:], kernels, strict=False)
        )
        self.bns = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[:-1])
        self.stem = nn.Conv2d(3, widths[0], 1)

    def forward(self, x):
        x = self.stem(x)
        for bn, conv in zip(self.bns, self.convs, strict=True):
            y = conv(sign(bn(x)))
            x = y + x if y.shape == x.shape else y
        return x


ROWS: dict[str, Callable[[], nn.Module]] = {
    **{f"chain-{count}": partial(Chain, count, False) for count in COUNTS},
    **{f"distinct-{count}": partial(Chain, count, True) for count in COUNTS},
    "groupnet-k5": groupnet18,
    "groupnet-k5-wide": partial(groupnet18, blocks=(3, 3, 3, 3), branches=6),
}


def processor_seconds() -> float:
    """Of this process and of those that it has waited for."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


class Phases(Progress):
    """Processor seconds instead of the clock's."""

    @contextmanager
    def phase(self, name: str) -> Iterator[Callable[[str], None]]:
        """See Progress."""
        start = processor_seconds()
        yield lambda detail: None
        self.seconds[name] = self.seconds.get(name, 0.0) + processor_seconds() - start


def measure(name: str) -> None:
    """Compile one row and print its line."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = settle(ROWS[name]())
    progress = Phases(quiet=True)
    with progress.phase("export"):
        source = load_source(model, image(1, 3, 32, 32))
    made = compile_source(source, resolve("llvm", 1), progress=progress)
    values = sum(1 for _ in bindings_of(made.imported.module["main"]))
    binary = sum(layer.decision == "binary" for layer in made.decisions.layers)
    cells = " | ".join(f"{progress.seconds[phase]:.1f}" for phase in PHASES)
    print(f"| {name} | {binary} | {values} | {sum(progress.seconds.values()):.1f} | {cells} |", flush=True)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.networks.compile_time", description=__doc__)
    parser.add_argument("--rows", default="*", help="a pattern of names")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(options.one)
        return 0
    print("| network | binary layers | values | seconds | " + " | ".join(PHASES) + " |")
    print("|" + "---|" * (4 + len(PHASES)), flush=True)
    for name in fnmatch.filter(ROWS, options.rows):
        subprocess.run([sys.executable, "-m", "tests.networks.compile_time", "--one", name], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
