"""Which operators PyTorch takes apart before they are translated: all that it takes apart by itself, but for resizing.

A smooth resize is one operator of Relax where its positions follow from the two sizes. Where they follow from a scale
that gives no whole size, such as 1.7 for 5 pixels, Relax has no operator for it, and PyTorch takes it apart.
"""

from collections.abc import Callable

import torch

from tvm_bnn.frontend.torch_converters import argument, follows_sizes

_SMOOTH = (torch.ops.aten.upsample_bilinear2d.vec, torch.ops.aten.upsample_bicubic2d.vec)


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
