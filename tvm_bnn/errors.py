"""What users can do wrong, as one small tree of exceptions.

Every message says what was found, what is accepted and what to try; the commands print it on one line
and exit with 2.
"""


class BnnError(Exception):
    """Base of every error that a user can mend; its text is the whole story."""


class ModelError(BnnError):
    """The model cannot be found, loaded, exported or imported."""


class UnsupportedError(BnnError):
    """The graph holds an operator or a shape that the compiler has no code for."""


class TargetError(BnnError):
    """The target is unknown, or does not fit this machine."""


class ArtifactError(BnnError):
    """The artifact file is damaged, foreign, or made for another machine."""


class InputError(BnnError):
    """An input has the wrong number, shape, dtype or content."""


class OutputError(BnnError):
    """A result cannot be written."""


class DeviceError(BnnError):
    """A device or a tracker cannot be reached, hangs up, takes too long, or computes something wrong."""
