"""What all commands share: how they end, how they read their arguments, how they show progress."""

from __future__ import annotations

import argparse
import functools
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TextIO

from rich.console import Console
from rich.progress import Progress as Bars
from rich.progress import SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from tvm_bnn.errors import BnnError, InputError
from tvm_bnn.interrupt import EXIT_INTERRUPTED, MESSAGE, end_loading

EXIT_ERROR = 2
EXIT_NO_READER = 128 + 13


def main_guard(function: Callable[..., int | None]) -> Callable[..., int]:
    """Make `function` the main function of a command: it returns the exit code and shows no traceback to users.

    A BnnError becomes one line, `error: ...`, on stderr and exit code 2; Ctrl-C gives 130, and a reader of the output
    that has gone away (`| head`) 141, as if the signal had ended it. Anything else is a fault of this program and keeps
    its traceback.
    """

    @functools.wraps(function)
    def main(*args: object, **kwargs: object) -> int:
        try:
            end_loading()
            code = function(*args, **kwargs) or 0
            sys.stdout.flush()
            return code
        except BnnError as error:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            return EXIT_ERROR
        except KeyboardInterrupt:
            print(MESSAGE, file=sys.stderr)
            return EXIT_INTERRUPTED
        except BrokenPipeError:
            if not _nobody_reads():
                raise
            return EXIT_NO_READER

    return main


def _nobody_reads() -> bool:
    """Whether standard output leads nowhere; from then on it does so silently, also when Python ends."""
    output = sys.stdout.fileno()
    poll = select.poll()
    poll.register(output, 0)
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True


class ArgumentParser(argparse.ArgumentParser):
    """argparse, whose complaints are one line like every other error."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; {self.prog} --help shows what is accepted")


def positive(text: str) -> int:
    """A whole number from 1 up, for `add_argument(type=...)`."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}; a whole number from 1 up is needed")
    return number


class Progress:
    """The phases of a command, each with a spinner and its time; silent where stderr is no terminal.

    with Progress() as progress:
        with progress.phase("import"):
            ...
    progress.seconds  # {"import": 0.3}
    """

    def __init__(self, quiet: bool = False, file: TextIO | None = None) -> None:
        self.seconds: dict[str, float] = {}
        console = Console(file=file or sys.stderr)
        self.shown = console.is_terminal and not quiet
        self._bars = Bars(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description}"),
            TextColumn("[dim]{task.fields[detail]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not self.shown,
        )

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    @contextmanager
    def phase(self, name: str) -> Iterator[Callable[[str], None]]:
        """One named phase; yields a function that shows a detail, such as the operator being compiled, beside it.

        A phase that is entered again adds to its time. One that raises stays unfinished on the screen.
        """
        task = self._bars.add_task(name, total=None, detail="")
        start = time.perf_counter()
        try:
            yield lambda detail: self._bars.update(task, detail=detail)
            self._finish(task)
        finally:
            self._bars.stop_task(task)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def _finish(self, task: TaskID) -> None:
        self._bars.update(task, total=1, completed=1, detail="")
