"""Measure the shipped checkpoints on the test split and write checkpoints/figures.json.

    python -m tvm_bnn.examples.ding2024.figures DATA

DATA is a folder that road_scenes.py wrote. The networks are measured as loaded from their files. The first scenes
are measured apart, for a quick check that the shipped networks are the measured ones.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from tvm_bnn.examples.ding2024.accuracy import evaluate
from tvm_bnn.examples.ding2024.road_folder import RoadFolder
from tvm_bnn.examples.ding2024.road_scenes import SceneId
from tvm_bnn.examples.ding2024.trained import CHECKPOINTS
from tvm_bnn.examples.ding2024.weights import load_compact, read_compact
from tvm_bnn.examples.training.plan import Plan, as_plan

FIGURES = CHECKPOINTS / "figures.json"
QUICK = 16
MODULE = "python -m tvm_bnn.examples.ding2024"


def training_command(plan: Plan, name: str, threads: str) -> str:
    """The command line of a training run, with placeholders for its folders."""
    words = [f"{MODULE}.train DATA OUT/{name}.safetensors", f"--variant {plan.variant}"]
    if plan.variant == "binary":
        words += [f"--branches {plan.branches}", *(["--init OUT/twin.safetensors"] if plan.init else [])]
    for option in ("distil", "weights", "steps", "until", "grow", "rates", "batch", "size", "seed"):
        value = getattr(plan, option)
        if value or option in ("grow", "seed"):
            words.append(f"--{option} " + (" ".join(map(str, value)) if isinstance(value, tuple) else str(value)))
    return " ".join([*words, *(["--bfloat16"] if plan.bfloat16 else []), f"--threads {threads}"])


def measure(checkpoint: Path, folder: RoadFolder) -> dict[str, Any]:
    """IoU in percent on all and on the first QUICK scenes of the folder, and where the network comes from."""
    about = read_compact(checkpoint)[1]
    plan = as_plan(json.loads(about["plan"]))
    model = load_compact(checkpoint)
    result: dict[str, Any] = {"checkpoint": checkpoint.name}
    result |= {"steps": plan.steps, "bytes": checkpoint.stat().st_size, "training_seconds": int(about["seconds"])}
    # the first runs took no note of their threads: it was one
    threads = about.get("threads", "1")
    result["command"] = training_command(plan, checkpoint.stem.removeprefix("demo-"), threads)
    first = [folder.names.index(SceneId("testing", index).name) for index in range(QUICK)]
    for key, indices in (("test", range(len(folder))), ("first", first)):
        iou = evaluate(model, model.preprocessing, folder, indices)
        result[key] = {name: round(value, 3) for name, value in iou.items()}
    return result


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure the shipped networks and write their figures.")
    parser.add_argument("data", type=Path, help="folder written by road_scenes.py")
    data = parser.parse_args(arguments).data
    scenes = json.loads((data / "scenes.json").read_text())
    counts = scenes["counts"]
    options = f"--train {counts['training']} --val {counts['validation']} --test {counts['testing']}"
    size = " ".join(map(str, scenes["size"]))
    figures: dict[str, Any] = {
        "data": {**scenes, "command": f"{MODULE}.road_scenes DATA {options} --seed {scenes['seed']} --size {size}"},
        "unit": "percent intersection over union",
        "networks": {},
    }
    folder = RoadFolder.open(data, "testing")
    for checkpoint in sorted(CHECKPOINTS.glob("*.safetensors")):
        figures["networks"][checkpoint.stem] = measure(checkpoint, folder)
        print(checkpoint.stem, figures["networks"][checkpoint.stem]["test"])
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
