"""Parallel branches as networks write them: one kernel, and no map of a branch in memory, however they are merged."""

import pytest
import torch
from torch import Tensor, nn
from tvm import relax

from tvm_bnn import targets
from tvm_bnn.frontend.naming import name_by_node
from tvm_bnn.frontend.source import load_source
from tvm_bnn.lower import lower
from tvm_bnn.nn import BinaryConv2d, RPReLU, SoftGate, ThresholdSign
from tvm_bnn.relay_passes.decisions import Decisions
from tvm_bnn.relay_passes.pipeline import optimize
from tvm_bnn.relay_passes.rewriter import bindings_of, op_name

CHANNELS, SIZE = 64, (16, 32)
#: Kind of merge -> shape of a branch's weight; None: no weight.
MERGES = {"mean": None, "scalars": (), "channels": (CHANNELS, 1, 1), "pixels": (1, *SIZE), "gates": None}


class Branches(nn.Module):
    """Branches that read the same signs, merged; what reads the merged maps are binary convolutions."""

    def __init__(self, kind: str, branches: int) -> None:
        super().__init__()
        self.kind, shape = kind, MERGES[kind]
        self.sign = ThresholdSign(CHANNELS)
        self.branches = nn.ModuleList(
            nn.Sequential(BinaryConv2d(CHANNELS, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS), RPReLU(CHANNELS))
            for _ in range(branches)
        )
        self.weight = nn.Parameter(torch.randn(branches, *(shape or ())))
        self.gate = SoftGate()
        self.readers = nn.ModuleList(
            nn.Sequential(ThresholdSign(CHANNELS), BinaryConv2d(CHANNELS, CHANNELS, 3)) for _ in range(branches)
        )

    def merged(self, maps: list[Tensor]) -> list[Tensor]:
        """One map, or of gates one a branch."""
        if self.kind == "gates":
            return self.gate(maps)
        weighted = maps if self.kind == "mean" else [m * w for m, w in zip(maps, self.weight, strict=True)]
        total = weighted[0]
        for each in weighted[1:]:
            total = total + each
        return [total / len(maps) if self.kind == "mean" else total]

    def forward(self, x: Tensor) -> Tensor:
        maps = self.merged([branch(self.sign(x)) for branch in self.branches])
        result = self.readers[0](maps[0])
        for reader, value in zip(list(self.readers)[1:], maps[1:], strict=False):
            result = result + reader(value)
        return result


@pytest.mark.parametrize("cpu", ["sapphirerapids", "x86-64-v3"])
@pytest.mark.parametrize("branches", [3, 5])
@pytest.mark.parametrize("kind", MERGES)
def test_no_branch_is_stored(kind, branches, cpu):
    torch.manual_seed(0)
    source = load_source(Branches(kind, branches).eval(), (torch.zeros(1, CHANNELS, *SIZE),))
    module = optimize(name_by_node(source.imported(), source.single).module, Decisions())
    lowered = lower(module, targets.resolve(f"llvm -mcpu={cpu}", threads=1))
    calls = [b.value for b in bindings_of(lowered.module["main"]) if op_name(b.value).startswith("relax.call_tir")]
    types = [call.ty.fields if isinstance(call.ty, relax.TupleType) else [call.ty] for call in calls]
    made = [str(field.dtype) for fields in types for field in fields]
    # signs, the merged branches, what reads these, and the result in PyTorch's layout
    assert len(calls) == 4
    assert made[:-2] == ["uint32"] * (1 + (branches if kind == "gates" else 1))
