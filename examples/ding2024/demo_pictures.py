"""The pictures of the demonstration: image | truth | prediction of a scene, and a few scenes as one picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tvm_bnn import artifact, run
from tvm_bnn.examples.ding2024.demo_networks import Scene

GAP = 6
HEADS = ("image", "truth", "compiled network")
OVERVIEW_WIDTH = 300
_PAPER, _INK = (255, 255, 255), (30, 30, 30)


def panels(scene: Scene, classes: np.ndarray, colours: np.ndarray) -> tuple[Image.Image, Image.Image, Image.Image]:
    """Image, image with the true classes painted over it, and with the predicted ones."""
    image = Image.fromarray(scene.image)
    return image, run.overlay(image, scene.truth, colours), run.overlay(image, classes, colours)


def side_by_side(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures of one size in a row."""
    width, height = pictures[0].size
    sheet = Image.new("RGB", (len(pictures) * (width + GAP) - GAP, height), _PAPER)
    for index, picture in enumerate(pictures):
        sheet.paste(picture, (index * (width + GAP), 0))
    return sheet


def overview(rows: Sequence[Sequence[Image.Image]], legend: dict[str, tuple[int, ...]]) -> Image.Image:
    """Rows of panels, small, with a head above each column and the colours of the classes below."""
    width, height = rows[0][0].size
    small = (OVERVIEW_WIDTH, round(OVERVIEW_WIDTH * height / width))
    lines = [side_by_side([p.resize(small, Image.Resampling.LANCZOS) for p in row]) for row in rows]
    font = ImageFont.load_default(14)
    text = 24
    sheet = Image.new("RGB", (lines[0].width, text + len(lines) * (small[1] + GAP) + text), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, head in enumerate(HEADS):
        pen.text((column * (small[0] + GAP) + 2, 3), head, fill=_INK, font=font)
    for index, line in enumerate(lines):
        sheet.paste(line, (0, text + index * (small[1] + GAP)))
    x, y = 2.0, sheet.height - text + 3
    for name, colour in legend.items():
        pen.rectangle((x, y + 2, x + 14, y + 14), fill=tuple(colour))
        pen.text((x + 20, y), name, fill=_INK, font=font)
        x += 20 + pen.textlength(name, font) + 24
    return sheet


def save_small_png(picture: Image.Image, path: Path) -> None:
    """Write a PNG of 256 colours, whole or not at all; raises OutputError."""
    # the first call chooses the colours, the second one mixes them
    mixed = picture.quantize(palette=picture.quantize(), dither=Image.Dither.FLOYDSTEINBERG)
    with artifact.whole_file(path) as file:
        mixed.save(file, format="PNG", optimize=True)
