"""The suite `ablation`: a network as it is compiled, and with one optimisation after the other switched off.

What an optimisation buys is measured end to end. All variants give the same result, bit for bit, which is checked. A
variant with the same kernels is none, and is left out of the row: the network has nothing that the optimisation is for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import tvm
import tvm_ffi

from tvm_bnn.compiler import Compilation, compile_source
from tvm_bnn.console import Progress
from tvm_bnn.lower import module as lowering
from tvm_bnn.relay_passes import partition, pipeline
from tvm_bnn.relay_passes.decisions import Decisions
from tvm_bnn.relay_passes.rewriter import op_name
from tvm_bnn.report import variants
from tvm_bnn.report.kernel_cases import BRANCHES_APART, RESIZE_APART, UPSAMPLED_READ_AS_VIEW
from tvm_bnn.report.machine import Limits
from tvm_bnn.report.networks import NETWORKS, ROUNDS, Network
from tvm_bnn.report.peers import Peer
from tvm_bnn.runtime import Artifact
from tvm_bnn.targets import Target, host

SUITE = "ablation"
ROWS: Sequence[Network] = NETWORKS


@dataclass(frozen=True)
class Switch:
    """An optimisation, and how to do without it: what stands in for a name of a module, or another target.

    place : (module, name, stand-in). target : the target to compile for instead.
    """

    name: str
    place: tuple[Any, str, Any] | None = None
    target: Callable[[Target], Target] = lambda target: target

    @contextmanager
    def off(self) -> Iterator[None]:
        """Compile without it inside."""
        if self.place is None:
            yield
        else:
            with patch.object(*self.place):
                yield


def _kernels(**less: Any) -> tuple[Any, str, Any]:
    """Kernels that can do less."""
    able = lowering._kernels
    return lowering, "_kernels", lambda target: dataclasses.replace(able(target), **less)


def _no(*_calls: Any) -> bool:
    return False


def _unpaired(*readers: str) -> tuple[Any, str, Any]:
    """Kernels in which these operators read no rows of sums that the kernel makes itself."""
    able = lowering._kernels

    def less(target: Target) -> partition.Kernels:
        pairs = able(target).pairs
        return dataclasses.replace(
            able(target), pairs=lambda first, second: op_name(second) not in readers and pairs(first, second)
        )

    return lowering, "_kernels", less


def _no_pass(name: str) -> tuple[Any, str, Any]:
    """The pipeline without a pass."""
    return pipeline, name, lambda *_: tvm.ir.transform.Sequential([])


SWITCHES: tuple[Switch, ...] = (
    Switch("matrix unit", target=lambda target: dataclasses.replace(target, matrix="")),
    Switch("epilogues", _kernels(take_members=_no)),
    Switch("shared kernels of sums", BRANCHES_APART),
    Switch("rows for 1x1 convolutions", _unpaired("bnn.bconv2d")),
    Switch("rows of scores", _unpaired("bnn.bmatmul", "bnn.weighted_mean")),
    Switch("sums of rows", _kernels(sum_rows=_no)),
    Switch("masks where the maps are made", _kernels(masks=_no)),
    Switch("pooling where the map is made", (partition, "LARGE_MAP", float("inf"))),
    Switch("head that computes its rows", (partition, "MOST_READERS", 0)),
    Switch("argmax of the resize", (partition, "absorbed_resizes", lambda function: set())),
    Switch("sums before upsampling", UPSAMPLED_READ_AS_VIEW),
    Switch("resizing where bits are made", RESIZE_APART),
    Switch("channels in the order of a shuffle", _no_pass("OrderChannels")),
    Switch("views where they are read", _no_pass("SinkViews")),
    Switch("writing in place", (lowering, "write_in_place", lambda module, family_of: module)),
)


def without(switch: Switch) -> str:
    """What a network compiled without an optimisation is called."""
    return f"without {switch.name}"


def measure(
    networks: Sequence[Network],
    limits: Mapping[int, Limits],
    peers: Sequence[Peer] = (),
    rounds: int = ROUNDS,
    progress: Progress | None = None,
    target: Callable[[int], Target] = host,
    switches: Sequence[Switch] = SWITCHES,
) -> list[dict[str, Any]]:
    """One row per network and number of threads, its `peers` being the variants; no other `peers` take part."""
    del peers
    made = partial(_variants, switches)
    return variants.measure(SUITE, networks, made, limits, rounds, progress, target, alike=True)


def _variants(switches: Sequence[Switch], whole: Compilation) -> dict[str, Artifact]:
    """Those of a network whose kernels are others without the optimisation."""
    imported, target, found = whole.imported.module, whole.target, {}
    kernels = kernels_hash(imported, target)
    for switch in switches:
        with switch.off():
            less = switch.target(target)
            if kernels_hash(imported, less) != kernels:
                found[without(switch)] = compile_source(whole.source, less).artifact
    return found


def kernels_hash(imported: tvm.IRModule, target: Target) -> int:
    """Equal for two networks with the same kernels, before scheduling, and the same calls of them."""
    return int(tvm_ffi.structural_hash(lowering.lower(pipeline.optimize(imported, Decisions()), target).module))
