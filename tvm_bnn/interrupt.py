"""Ctrl-C while modules load.

Python raises KeyboardInterrupt wherever it happens to be. Inside the loading of NumPy or PyTorch that ends in
another error, or in none: they catch what goes wrong there, and a half-loaded module fails later. So commands hold the
interruption back for the second or two that loading takes. Before that, while a command itself is loaded, there is
nothing to clean up and nobody to catch anything: it ends at once.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_INTERRUPTED = 130
MESSAGE = "interrupted"
#: The modules whose main function is under `console.main_guard`.
COMMANDS = (
    "tvm_bnn.compile",
    "tvm_bnn.run",
    "tvm_bnn.tune",
    "tvm_bnn.package",
    "tvm_bnn.device",
    "tvm_bnn.report",
    "tvm_bnn.report.compare.headline",
    "tvm_bnn.examples.data",
    "tvm_bnn.examples.ding2024.show",
    "tvm_bnn.examples.ding2024.train",
    "tvm_bnn.examples.training.ablation",
    "tvm_bnn.examples.training.train",
)


def begin_command() -> None:
    """Until `end_loading`, Ctrl-C ends the process; nothing happens in a process that is no command of this package.

    For the first line of the package, which Python loads on its way to ``python -m tvm_bnn.compile``.
    """
    if sys.argv[:1] != ["-m"] or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    if any(pair[0] == "-m" and pair[1] in COMMANDS for pair in zip(sys.orig_argv, sys.orig_argv[1:], strict=False)):
        signal.signal(signal.SIGINT, _end)


def end_loading() -> None:
    """From here on, Ctrl-C is a KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(_number: int, _frame: FrameType | None) -> None:
    os.write(2, f"{MESSAGE}\n".encode())
    os._exit(EXIT_INTERRUPTED)


@contextmanager
def kept_here() -> Iterator[None]:
    """Processes and threads that are started inside never see Ctrl-C: a terminal sends it to all of a command's."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def held_back() -> Iterator[None]:
    """Let what is inside finish, then raise KeyboardInterrupt if Ctrl-C was pressed meanwhile.

    Outside the main thread, which alone sees Ctrl-C, nothing is held.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed = False

    def note(_number: int, _frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pressed:
            raise KeyboardInterrupt
