"""What the demonstration leaves in its folder: figures, pictures and the page."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tvm_bnn import artifact, run
from tvm_bnn.examples.ding2024 import demo_page, demo_pictures
from tvm_bnn.examples.ding2024.demo_networks import BINARY, COMPILED, TWIN, Result, Scene, agreement
from tvm_bnn.report.timing import WARM_UP, ratio, ratio_text
from tvm_bnn.runtime import Artifact

OVERVIEW = 4


def facts(results: Sequence[Result], compiled: Artifact, branches: int) -> dict[str, Any]:
    """The figures, as plain data: content of results.json and of the page.

    miou_difference : of the compiled network to the same one in PyTorch, in points; agreement : percent of pixels to
    which both give the same class. faster : how many times faster than the float twin, None where times spread too
    widely.
    """
    twin, binary, ours = results
    rows = [
        {
            "title": result.title,
            "iou": dict(result.iou),
            "ms": 1e3 * result.timing.median,
            "spread": result.timing.spread,
            "faster": ratio(twin.timing, result.timing),
            "faster_text": ratio_text(twin.timing, result.timing),
            "bytes": result.bytes,
        }
        for result in results
    ]
    manifest = compiled.manifest
    return {
        "networks": rows,
        "miou_difference": ours.iou["mIoU"] - binary.iou["mIoU"],
        "agreement": 100 * agreement(ours.classes, binary.classes),
        "scenes_measured": len(ours.classes),
        "size": list(ours.classes[0].shape),
        "branches": branches,
        "threads": compiled.threads,
        "target": manifest["target"]["name"],
        "rounds": len(ours.timing.samples),
        "warm_up": WARM_UP,
        "legend": dict(zip(manifest["class_names"] or [], manifest["palette"] or [], strict=True)),
        "versions": manifest["versions"],
    }


def print_results(console: Console, about: dict[str, Any]) -> None:
    """The three networks side by side, and what the figures mean."""
    height, width = about["size"]
    table = Table(box=None, pad_edge=False)
    for head in ("network", "mIoU", "latency", "against the twin", "file"):
        table.add_column(head, justify="left" if head == "network" else "right")
    for row in about["networks"]:
        faster = "" if row["title"] == TWIN else row["faster_text"]
        cells = (f"{row['iou']['mIoU']:.2f} %", f"{row['ms']:.2f} ms", faster, f"{row['bytes'] / 1e6:.2f} MB")
        table.add_row(row["title"], *cells)
    console.print(table)
    plural = "s" if about["threads"] > 1 else ""
    console.print(
        f"{COMPILED} - {BINARY}: {about['miou_difference']:+.3f} points of mIoU; "
        f"the same class in {about['agreement']:.3f} % of the pixels"
    )
    console.print(
        f"mIoU: {about['scenes_measured']} synthetic test scenes of {height}x{width}. Latency: target "
        f"{about['target']}, {about['threads']} thread{plural}, in turns, median of {about['rounds']} rounds after "
        f"{about['warm_up']} to warm up. File: PyTorch's state_dict in float32; the compiled one has the code too."
    )


def write(folder: Path, about: dict[str, Any], scenes: Sequence[Scene], predicted: Sequence[np.ndarray]) -> None:
    """Write pictures, page and figures, each file whole or not at all; raises OutputError."""
    colours = run.palette(len(about["legend"]), list(about["legend"].values()))
    shown: list[dict[str, Any]] = []
    for scene, classes in zip(scenes, predicted, strict=False):
        panels = demo_pictures.panels(scene, classes, colours)
        run.save_image(demo_pictures.side_by_side(panels), folder / "scenes" / scene.name)
        shown.append({"name": scene.name, "right": 100 * float(np.mean(classes == scene.truth)), "panels": panels})
    overview = demo_pictures.overview([row["panels"] for row in shown[:OVERVIEW]], about["legend"])
    demo_pictures.save_small_png(overview, folder / "overview.png")
    for name, text in (("index.html", demo_page.render(about, shown)), ("results.json", json.dumps(about, indent=1))):
        with artifact.whole_file(folder / name) as file:
            file.write(text.encode() + b"\n")
