"""What other people's Python raises, told in one line: the kind, the message, and the line of their file."""

import os
import traceback
import zipfile
from pathlib import Path
from pickle import UnpicklingError

import torch

#: What code of a model's author, or a reader fed with a foreign file, may raise. Everything that derives from
#: Exception in practice, but not what stops the program.
RAISED_BY_USERS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    UnpicklingError,
    ValueError,
    zipfile.BadZipFile,
)

_NOT_THEIRS = tuple(f"{Path(file).parent}{os.sep}" for file in (torch.__file__, __file__))


def described(error: BaseException) -> str:
    """``ValueError: the image is 3x4; ... (net.py, line 12: raise ValueError(...))``."""
    place = where(error)
    return f"{first_line(error)} ({place})" if place else first_line(error)


def first_line(error: BaseException) -> str:
    """``ValueError: the image is 3x4``."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__


def where(error: BaseException) -> str:
    """The innermost line of the model's own code that an error passed through; '' when there is none."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(("<", *_NOT_THEIRS)) and os.sep + "importlib" + os.sep not in frame.filename:
            code = f": {frame.line}" if frame.line else ""
            return f"{Path(frame.filename).name}, line {frame.lineno}{code}"
    return ""
