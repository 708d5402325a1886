"""``--require-binary``: a network that has to be binary either is, or is not compiled."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from tvm_bnn.errors import UnsupportedError
from tvm_bnn.relay_passes.decisions import Decisions, Layer

#: What the requirement is about; products of two activations have no weights to be binary.
REQUIRED = ("conv1d", "conv2d", "conv3d", "conv2d_transpose", "linear")
_NAMED = 5
_EXPLAINED = 2


def require_binary(decisions: Decisions, allow_float: Sequence[str] | None = None) -> None:
    """Raise UnsupportedError where a convolution or linear layer stayed in floats.

    allow_float : patterns (as in file names) of module paths that may; by default the first and the last layer.
    """
    layers = [layer for layer in decisions.layers if layer.op in REQUIRED]
    if allow_float is None:
        found = [layer for layer in layers[1:-1] if layer.decision != "binary"]
    else:
        found = [layer for layer in layers if layer.decision != "binary" and not _matches(layer, allow_float)]
    if not found:
        return
    names = list(dict.fromkeys(layer.path for layer in found))
    named = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    reasons = "; ".join(f"{layer.path}: {layer.reason}" for layer in found[:_EXPLAINED])
    allowed = "the first and the last layer" if allow_float is None else ", ".join(allow_float) or "none"
    raise UnsupportedError(
        f"{len(names)} layer{'s' if len(names) > 1 else ''} stayed float that had to be binary: {named} ({reasons}); "
        f"allowed to be float: {allowed}: change the model, or allow more with --allow-float PATTERN"
    )


def _matches(layer: Layer, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(layer.path, pattern) for pattern in patterns)
