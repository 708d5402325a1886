"""What the parts of the network are good for: trained with and without them, on generated samples, with several seeds.

    python -m tvm_bnn.examples.training.ablation OUT_DIR --seeds 3

Writes OUT_DIR/ablation.json (`describe` says what is in it), OUT_DIR/TASK-{twin,k1,k3}.safetensors, the networks of
each task with the first seed, and OUT_DIR/runs, a checkpoint and a record for each run. A run whose record is there is
not repeated, if plan, data and versions are the same; one that was stopped goes on.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_bnn.console import ArgumentParser, main_guard, positive
from tvm_bnn.errors import InputError
from tvm_bnn.examples.training.options import add_plan_options
from tvm_bnn.interrupt import held_back

if TYPE_CHECKING:
    from tvm_bnn.examples.training.records import Record

PROGRAM = "python -m tvm_bnn.examples.training.ablation"
#: Fields of a plan that the ablation sets itself.
VARIED = ("variant", "branches", "attention", "upsampling", "seed", "init", "distil", "weights")


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog=PROGRAM,
        description="Train the network with one part changed at a time, with several seeds, on generated samples, and "
        "tell which differences are larger than those between seeds. What is finished is not repeated.",
    )
    parser.add_argument("out", type=Path, metavar="OUT_DIR", help="folder for the results and the trained networks")
    parser.add_argument("--seeds", type=positive, default=3, metavar="N", help="of each configuration; default 3")
    parser.add_argument("--only", nargs="+", metavar="RUN", help="runs whose names match, such as 'kitti-road-k3*'")
    parser.add_argument("--samples", type=positive, metavar="N", help="drawn ones to train on; default 400")
    parser.add_argument("--threads", type=positive, default=1, metavar="N", help="default 1")
    add_plan_options(parser, without=VARIED)
    return parser


def describe(records: list[Record], command: str, threads: int) -> dict[str, Any]:
    """What the runs so far say, as ablation.json has it.

    task, data_set, synthetic, size (H, W), metric, better, unit : of the ablated task. seeds : that were run.
    command, threads : what made it. centre : the configuration that the others differ from in one factor. runs : of
    the ablated task without its float twin, each as a Record. comparisons : each as a Comparison, with "from" and "to"
    for before and after. findings : each as a Finding. other_tasks : of every task the float twin, K=1 and K=3, with
    the first seed, each as a Record.
    """
    from tvm_bnn.examples.data.tasks import TASKS
    from tvm_bnn.examples.training.cases import ABLATED, CENTRE, shipped_cases
    from tvm_bnn.examples.training.findings import by_configuration, comparisons, findings

    runs = [record for record in records if record.task == ABLATED and record.variant == "binary"]
    result: dict[str, Any] = {"task": ABLATED, "data_set": TASKS[ABLATED].generated.name, "synthetic": True}
    result |= {"command": command, "threads": threads, "centre": CENTRE.configuration}
    if runs:
        metric, figure = next(iter(runs[0].figures.items()))
        groups = by_configuration(runs)
        result |= {"size": runs[0].made_with["plan"]["size"], "metric": metric, "seeds": sorted({r.seed for r in runs})}
        result |= {"better": figure["better"], "unit": figure["unit"], "runs": [vars(record) for record in runs]}
        result["comparisons"] = [comparison.as_json() for comparison in comparisons(groups)]
        result["findings"] = [vars(one) for one in findings(groups, figure["better"], figure["unit"])]
    ours = {(case.task, case.configuration, case.seed) for case in shipped_cases().values()}
    result["other_tasks"] = [vars(record) for record in records if (record.task, record.name, record.seed) in ours]
    return result


@main_guard
def main(arguments: list[str] | None = None) -> None:
    words = sys.argv[1:] if arguments is None else arguments
    fields = vars(_parser().parse_args(words))
    names = ("out", "seeds", "only", "samples", "threads")
    out, seeds, only, samples, threads = (fields.pop(name) for name in names)
    with held_back():
        import torch

        from tvm_bnn.examples.training.ablate import ablate, selected
    torch.set_num_threads(threads)
    cases = selected(seeds, only)
    if not cases:
        raise InputError(f"no run's name matches {' '.join(only)}; such as: kitti-road-k3-channel-nearest-seed0")
    command = shlex.join([*PROGRAM.split(), *("OUT_DIR" if word == str(out) else word for word in words)])
    ablate(cases, fields, samples, out, lambda records: describe(records, command, threads))


if __name__ == "__main__":
    raise SystemExit(main())
