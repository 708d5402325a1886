"""What schedules ask of a kernel: which stages it has, and the common tail of every template."""

from dataclasses import dataclass

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from tvm_bnn.schedules.mask import gather_mask


@dataclass(frozen=True)
class Stages:
    """Names of a kernel's stages in program order."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, sch: Schedule) -> "Stages":
        """Read them from the only function of the schedule."""
        root = sch.get_sblock("root")
        return cls(tuple(sch.get(child).name_hint for child in sch.get_child_blocks(root)))

    def has(self, name: str) -> bool:
        """Whether the kernel has this stage."""
        return name in self.names

    def starting(self, *prefixes: str) -> list[str]:
        """Stages with one of these prefixes, in program order."""
        return [name for name in self.names if name.startswith(prefixes)]

    @property
    def values(self) -> list[str]:
        """Stages that compute one element each, and those that add up rows of them."""
        return self.starting("out_", "cond_", "sums_")

    @property
    def packs(self) -> bool:
        """Whether some output is packed bits."""
        return bool(self.starting("bits_"))


def extent(sch: Schedule, loop: LoopRV) -> int:
    """Trip count of a loop."""
    return int(sch.get(loop).extent)


def vectorize_channels(sch: Schedule, loop: LoopRV, lanes: int) -> list[LoopRV]:
    """Split a channel loop into unrolled vectors; loops that are no multiple of a vector stay scalar."""
    count = extent(sch, loop)
    if count % lanes == 0:
        outer, inner = sch.split(loop, [count // lanes, lanes])
        sch.vectorize(inner)
        return [outer, inner]
    if count in (2, 4, 8) and count < lanes:
        sch.vectorize(loop)
    return [loop]


def pack_tail(sch: Schedule, at: dict[str, LoopRV], unroll: int = 64) -> None:
    """Place the masks and words of each predicate under the loop where the predicate is.

    at : predicate stage -> loop. Everything is placed before any stage is decomposed: placing needs whole reductions.
    """
    for cond, loop in at.items():
        for name in (cond.replace("cond_", "mask_"), cond.replace("cond_", "bits_")):
            block = sch.get_sblock(name)
            sch.reverse_compute_at(block, loop, preserve_unit_loops=True)
            loops = inner_loops(sch, block, loop)
            if name.startswith("mask_"):
                sch.set_scope(block, 0, "local")
                loops = loops[:-1]
            for inner in loops:
                if extent(sch, inner) <= unroll:
                    sch.unroll(inner)
    for cond in at:
        sch.set_scope(sch.get_sblock(cond), 0, "local")
        mask = sch.get_sblock(cond.replace("cond_", "mask_"))
        lane = sch.get_loops(mask)[-1]
        gather_mask(sch, mask, lane, extent(sch, lane))


def inner_loops(sch: Schedule, block: SBlockRV, at: LoopRV) -> list[LoopRV]:
    """Loops of a block below another loop."""
    loops = sch.get_loops(block)
    outer = sch.get(at)
    for position, loop in enumerate(loops):
        if sch.get(loop).same_as(outer):
            return list(loops[position + 1 :])
    return list(loops)
