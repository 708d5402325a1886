"""Which operators PyTorch takes apart before they are translated: all that it takes apart by itself, but for resizing.

A smooth resize is one operator of Relax where its positions follow from the two sizes. Where they follow from a scale
that gives no whole size, such as 1.7 for 5 pixels, Relax has no operator for it, and PyTorch takes it apart.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch

from tvm_bnn.frontend.torch_converters import argument, follows_sizes

_SMOOTH = (torch.ops.aten.upsample_bilinear2d.vec, torch.ops.aten.upsample_bicubic2d.vec)


@contextmanager
def signature_read_once() -> Iterator[None]:
    """While it decomposes, PyTorch makes the tables of all parameters and buffers anew for each of them.

    So its time grows with the square of their number. Inside the block it reads tables that are made once.
    """
    home, name = torch.export.exported_program, "_populate_param_buffer_metadata_to_new_gm"
    populate = getattr(home, name, None)
    if populate is None:  # another version of PyTorch
        yield
        return

    def with_tables(metadata: Any, module: Any, signature: Any) -> None:
        tables = SimpleNamespace(
            inputs_to_parameters=signature.inputs_to_parameters, inputs_to_buffers=signature.inputs_to_buffers
        )
        populate(metadata, module, tables)

    setattr(home, name, with_tables)
    try:
        yield
    finally:
        setattr(home, name, populate)


def decompositions_for(program: torch.export.ExportedProgram) -> dict[torch._ops.OperatorBase, Callable]:
    """The table for `ExportedProgram.run_decompositions`."""
    table = torch.export.default_decompositions()
    for operator in _SMOOTH:
        nodes = [node for node in program.graph.nodes if node.target is operator]
        if all(follows_sizes(node, argument(node, 3, "scale_factors")) for node in nodes):
            table.pop(operator, None)
        else:
            table.update(torch._decomp.get_decompositions([operator]))
    return table
