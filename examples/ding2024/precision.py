"""What float layers in fewer bits cost the trained network: mIoU on the test split at each precision.

    python -m tvm_bnn.examples.ding2024.precision DATA

DATA is a folder that road_scenes.py wrote. int8 is calibrated on its first training images, and on the example input.
"""

import argparse
from pathlib import Path
from typing import Any

import tvm_bnn
from tvm_bnn.examples.ding2024.accuracy import evaluate, normalise
from tvm_bnn.examples.ding2024.road_folder import RoadFolder
from tvm_bnn.examples.ding2024.trained import demo

CALIBRATION = 16


def measure(data: Path, calibration: int = CALIBRATION) -> dict[str, dict[str, float]]:
    """`accuracy.iou` in percent by precision; of int8 once with so many training images, once with the example."""
    model = demo()
    training, testing = RoadFolder.open(data, "training"), RoadFolder.open(data, "testing")
    images = [normalise(training.image(index), model.preprocessing) for index in range(calibration)]
    variants: dict[str, dict[str, Any]] = {
        "fp32": {},
        "bf16": {"float_precision": "bf16"},
        f"int8, {calibration} images": {"float_precision": "int8", "calibration": images},
        "int8, the example input": {"float_precision": "int8"},
    }
    return {
        name: evaluate(tvm_bnn.compile(model, **options), model.preprocessing, testing)
        for name, options in variants.items()
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure the shipped network with float layers in fewer bits.")
    parser.add_argument("data", type=Path, help="folder written by road_scenes.py")
    for name, iou in measure(parser.parse_args(arguments).data).items():
        print(f"{name:24}", {part: round(value, 3) for part, value in iou.items()})


if __name__ == "__main__":
    main()
