"""Train the network, or its float twin, on a folder in the layout of the KITTI road benchmark (see road_folder.py).

    python -m tvm_bnn.examples.ding2024.train DATA OUT/twin.safetensors --variant twin
    python -m tvm_bnn.examples.ding2024.train DATA OUT/k3.safetensors --branches 3 --init OUT/twin.safetensors \
        --distil 1

The demonstration's four classes; the three tasks have `tvm_bnn.examples.training`, whose runs these are.
"""

import json
from pathlib import Path

import torch

from tvm_bnn.console import ArgumentParser, main_guard, positive
from tvm_bnn.examples.ding2024.accuracy import evaluate
from tvm_bnn.examples.ding2024.road_folder import RoadFolder
from tvm_bnn.examples.training.options import add_plan_options
from tvm_bnn.examples.training.plan import as_plan
from tvm_bnn.examples.training.run import shown, train


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m tvm_bnn.examples.ding2024.train",
        description="Train the network of Ding et al. 2024, or its float twin.",
    )
    parser.add_argument("data", type=Path, help="folder in the layout of the KITTI road benchmark")
    parser.add_argument("out", type=Path, help="compact checkpoint to write, NAME.safetensors")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    add_plan_options(parser)
    return parser


@main_guard
def main(arguments: list[str] | None = None) -> None:
    given = vars(_parser().parse_args(arguments))
    data, out = given.pop("data"), given.pop("out")
    torch.set_num_threads(given.pop("threads"))
    plan = as_plan(given)
    folder = RoadFolder.open(data, "training")
    with shown(out.stem, plan.total) as watch:
        run = train(plan, folder, out, watch=watch)
    model = run.network(argmax=True)
    run.write(out, model)
    print(json.dumps({"validation": evaluate(model, model.preprocessing, RoadFolder.open(data, "validation"))}))


if __name__ == "__main__":
    raise SystemExit(main())
