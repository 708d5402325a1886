"""What float layers read on inputs that are typical: the magnitudes that become 127 where they compute in int8.

The optimized network itself is run, with what its float layers read as results, on this machine whatever the target is.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tvm
from tvm import relax

from tvm_bnn import artifact, run
from tvm_bnn.errors import InputError
from tvm_bnn.lower import lower
from tvm_bnn.relay_passes.rewriter import DataflowRewriter
from tvm_bnn.schedules import schedule_module
from tvm_bnn.schedules.apply import machine_code
from tvm_bnn.targets import host

Arrays = tuple[np.ndarray, ...]
_NUMPY = (".npy", ".npz")


def read_inputs(given: Iterable[Any], manifest: artifact.Manifest) -> list[Arrays]:
    """The inputs to calibrate with: one tuple of arrays a call.

    given : of each call the path of an image (for a network that takes one, as `tvm_bnn.run` reads it), of a .npy file
        (one input) or of a .npz file (by the names of the inputs, or in their order), a tensor, or a tuple of them.

    Raises InputError for what is none of these, and for inputs that do not fit the manifest or are not finite.
    """
    return [_checked(_read(item, manifest), item, manifest) for item in given]


def _read(item: Any, manifest: artifact.Manifest) -> Sequence[Any]:
    if not isinstance(item, str | Path):
        return item if isinstance(item, tuple | list) else (item,)
    if Path(item).suffix.lower() not in _NUMPY:
        return (run.prepare(run.read_image(item), manifest),)
    try:
        read = np.load(item, allow_pickle=False)
        if isinstance(read, np.ndarray):
            return (read,)
        with read:
            names = [row["name"] for row in manifest["inputs"]]
            return [read[name] for name in (names if set(names) == set(read.files) else read.files)]
    except FileNotFoundError:
        raise InputError(f"there is no file {item} to calibrate with") from None
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{item} cannot be read as numpy's: {error}") from None


def _checked(values: Sequence[Any], item: Any, manifest: artifact.Manifest) -> Arrays:
    arrays = tuple(np.asarray(value) for value in values)
    wanted = [(row["dtype"], list(row["shape"])) for row in manifest["inputs"]]
    name = str(item) if isinstance(item, str | Path) else "an input to calibrate with"
    if [(str(array.dtype), list(array.shape)) for array in arrays] != wanted:
        found = ", ".join(f"{array.dtype} {list(array.shape)}" for array in arrays)
        expected = ", ".join(f"{dtype} {shape}" for dtype, shape in wanted)
        raise InputError(f"{name} holds {found or 'nothing'}; {manifest['name']} takes {expected}")
    if not all(np.isfinite(array).all() for array in arrays):
        raise InputError(f"{name} holds numbers that are not finite; nothing can be calibrated with them")
    return arrays


def largest(module: tvm.IRModule, read: Mapping[str, relax.Var], batches: Iterable[Arrays]) -> dict[str, float]:
    """The largest magnitude of each of the named values of an optimized module, over all batches.

    Raises InputError where one is not finite.
    """
    if not read:
        return {}
    values = list(dict.fromkeys(read.values()))
    target = host()
    lowered = lower(_returning(module, values), target)
    scheduled = schedule_module(lowered.module, lowered.family_of, target)
    machine = relax.VirtualMachine(machine_code(scheduled, target), tvm.cpu())
    most = dict.fromkeys(values, 0.0)
    for arrays in batches:
        for value, result in zip(values, machine["main"](*map(tvm.runtime.tensor, arrays)), strict=True):
            most[value] = max(most[value], float(np.max(np.abs(result.numpy()), initial=0.0)))
    for name, value in read.items():
        if not np.isfinite(most[value]):
            raise InputError(f"{name} reads numbers that are not finite on what is calibrated with: give other inputs")
    return {name: most[value] for name, value in read.items()}


class _Same(DataflowRewriter):
    def rewrite(self, call: relax.Call, name: str) -> None:
        return None


def _returning(module: tvm.IRModule, values: Sequence[relax.Var]) -> tvm.IRModule:
    """The module with other results: a tuple of values that it computes (or of its parameters)."""
    main, types = module["main"], relax.TupleType([value.ty for value in values])
    other = relax.Function(main.params, relax.SeqExpr(main.body.blocks, relax.Tuple(values)), types)
    return _Same().transform(tvm.IRModule({"main": other.with_attr("global_symbol", "main")}))


def of_example(inputs: Sequence[torch.Tensor]) -> list[Arrays]:
    """The example inputs of a model as the only ones to calibrate with."""
    return [tuple(value.numpy() for value in inputs)]
