"""The runs of the ablation: one factor at a time around a centre, on roads, and float and binary on every task."""

from dataclasses import dataclass, replace

from tvm_bnn.examples.data.tasks import TASKS
from tvm_bnn.examples.training.plan import Plan

ABLATED = "kitti-road"


@dataclass(frozen=True)
class Case:
    """One run, but for what all runs share."""

    task: str
    variant: str = "binary"
    branches: int = 3
    attention: str = "channel"
    upsampling: str = "nearest"
    seed: int = 0

    @property
    def configuration(self) -> str:
        """Without the task and the seed."""
        return "twin" if self.variant == "twin" else f"k{self.branches}-{self.attention}-{self.upsampling}"

    @property
    def name(self) -> str:
        return f"{self.task}-{self.configuration}-seed{self.seed}"

    def plan(self, shared: Plan) -> Plan:
        return replace(shared, **{name: value for name, value in vars(self).items() if name != "task"})


CENTRE = Case(ABLATED)
ONE, FIVE = replace(CENTRE, branches=1), replace(CENTRE, branches=5)
#: Factor -> pairs to compare, the simpler one first.
FACTORS: dict[str, list[tuple[Case, Case]]] = {
    "branches": [(ONE, CENTRE), (CENTRE, FIVE), (ONE, FIVE)],
    "attention": [
        (replace(CENTRE, attention="none"), replace(CENTRE, attention=kind)) for kind in ("channel", "spatial", "token")
    ],
    "upsampling": [(CENTRE, replace(CENTRE, upsampling=kind)) for kind in ("bilinear", "transposed", "pixel_shuffle")],
}


def shipped_cases() -> dict[str, Case]:
    """Name of a checkpoint -> its run: of each task the float twin, K=1 and K=3, with the first seed."""
    return {
        f"{task}-{which}": case
        for task in TASKS
        for which, case in {
            "twin": Case(task, variant="twin", branches=1),
            "k1": Case(task, branches=1),
            "k3": Case(task, branches=3),
        }.items()
    }


def all_cases(seeds: int) -> list[Case]:
    """Every run once: the ablation's and the shipped ones with the first seed, then the ablation's with others."""
    ablated = list(dict.fromkeys(case for pairs in FACTORS.values() for pair in pairs for case in pair))
    more = [replace(case, seed=seed) for seed in range(1, seeds) for case in ablated]
    return list(dict.fromkeys([*ablated, *shipped_cases().values(), *more]))
