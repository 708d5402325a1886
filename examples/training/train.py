"""Train a network of one of the three tasks, in binary or in float.

    python -m tvm_bnn.examples.training.train TASK OUT.safetensors --variant twin
    python -m tvm_bnn.examples.training.train TASK OUT.safetensors --branches 3 --attention spatial --seed 1
    python -m tvm_bnn.examples.training.train TASK OUT.safetensors --data-root ROOT --preset published --device cuda

A command that was stopped, given again, goes on where its last save was (OUT.state).
"""

from dataclasses import asdict
from pathlib import Path

from tvm_bnn.console import ArgumentParser, main_guard, positive
from tvm_bnn.errors import InputError
from tvm_bnn.examples.training.options import add_plan_options, usable_device
from tvm_bnn.interrupt import held_back

SUFFIX = ".safetensors"


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m tvm_bnn.examples.training.train",
        description="Train the network of Ding et al. 2024, binary or its float twin, for one of three tasks, on its "
        "data set or on generated samples. A stopped run goes on where it was.",
    )
    parser.add_argument("task", metavar="TASK", help="cityscapes, kitti-road or ecssd")
    parser.add_argument("out", type=Path, metavar="OUT", help=f"compact checkpoint to write, NAME{SUFFIX}")
    parser.add_argument("--data-root", type=Path, metavar="ROOT", help="where the data set is; default: none, drawn")
    parser.add_argument("--samples", type=positive, metavar="N", help="drawn ones to train on; default 400")
    parser.add_argument("--preset", default="small", help="what is not given below: small (the default) or published")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="default cpu")
    parser.add_argument("--threads", type=positive, metavar="N", help="of the CPU; default PyTorch's")
    parser.add_argument("--workers", type=positive, metavar="N", help="threads that prepare batches; default none")
    add_plan_options(parser)
    return parser


@main_guard
def main(arguments: list[str] | None = None) -> None:
    fields = vars(_parser().parse_args(arguments))
    names = ("task", "out", "data_root", "samples", "preset", "device", "threads", "workers")
    name, out, root, samples, preset, device, threads, workers = (fields.pop(name) for name in names)
    if out.suffix != SUFFIX:
        raise InputError(f"found {out} to write to; accepted: NAME{SUFFIX}")
    if root is not None and samples is not None:
        raise InputError("found --samples with --data-root; they are for samples that are drawn: leave out one of them")
    with held_back():
        import torch

        from tvm_bnn.examples.data.dataset import open_data
        from tvm_bnn.examples.data.tasks import task_named
        from tvm_bnn.examples.training.make import make
        from tvm_bnn.examples.training.plan import PRESETS, as_plan
        from tvm_bnn.examples.training.run import shown
        from tvm_bnn.examples.training.splits import SAMPLES, draw_splits, open_splits
    if preset not in PRESETS:
        raise InputError(f"found preset {preset!r}; accepted: {', '.join(PRESETS)}")
    task, device = task_named(name), usable_device(device)
    torch.set_num_threads(threads or torch.get_num_threads())
    count = (samples or SAMPLES) if root is None else len(open_data(task, root, "train"))
    plan = as_plan({**asdict(PRESETS[preset](task, count)), **fields})
    splits = draw_splits(task, plan, count) if root is None else open_splits(task, root, plan)
    with shown(out.stem, plan.total) as watch:
        run, trained = make(plan, splits, out, watch, device, workers or 0)
    metric, figure = next(iter(trained.figures.items()))
    print(f"{splits.val.name}, {len(splits.val)} samples of val: {metric} {figure.value:.4g}{figure.unit}")
    print(f"{out}: {run.step} steps, {run.seconds:.0f} s")


if __name__ == "__main__":
    raise SystemExit(main())
