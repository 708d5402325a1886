"""The demonstration's page: one self-contained HTML file, pictures inside."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

TEMPLATE = "demo_page.html.j2"
JPEG_QUALITY = 85


def as_data(picture: Image.Image) -> str:
    """The picture as an address that carries it."""
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def render(facts: Mapping[str, Any], scenes: Sequence[Mapping[str, Any]]) -> str:
    """The page.

    facts : see `demo_report.facts`.
    scenes : for each a name, the percent of pixels that are right, and its panels as PIL images.
    """
    # a missing fact is a fault of ours and no empty place on the page
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["data"] = as_data
    return environment.get_template(TEMPLATE).render(**facts, scenes=scenes)
