"""Ctrl-C while modules load.

Python raises KeyboardInterrupt wherever it happens to be. Inside the loading of NumPy or PyTorch that ends in
another error, or in none: they catch what goes wrong there, and a half-loaded module fails later. So commands hold the
interruption back for the second or two that loading takes.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


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
