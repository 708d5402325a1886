"""The page of a comparison: one self-contained HTML file, the same in Markdown, its pictures and its numbers.

    report.html    everything, pictures inside; no network is needed
    report.md      the same text, with links to the pictures
    report.json    the numbers (`content.Report`)
    plots/*        each picture as SVG and as PNG
"""

from __future__ import annotations

import base64
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tvm_bnn.artifact import make_folder, whole_file
from tvm_bnn.report.compare import pictures
from tvm_bnn.report.compare.content import Report
from tvm_bnn.report.compare.markdown import escaped, table
from tvm_bnn.report.compare.sections import introduction, sections
from tvm_bnn.report.compare.verdicts import verdicts

PLOTS = "plots"
#: Pixels of a screen to an inch, as browsers count them.
SCREEN = 96


class Shown(NamedTuple):
    """A picture on the page. address : that carries it. file : beside the page. width, height : in pixels."""

    address: str
    file: str
    alt: str
    width: int
    height: int


def conclude(report: Report, folder: Path) -> Report:
    """Add the verdicts that its numbers allow, and write it; see `write`."""
    report = report.model_copy(update={"verdicts": verdicts(report)})
    write(report, folder)
    return report


def write(report: Report, folder: Path) -> None:
    """Write the report into a folder, which is made where it is not there; verdicts are those that it has.

    Samples are drawn where their files are in `folder`. Every file is written whole. Raises OutputError.
    """
    make_folder(folder / PLOTS)
    shown: defaultdict[str, list[Shown]] = defaultdict(list)
    for picture in pictures.pictures(report, folder):
        file = f"{PLOTS}/{picture.name}.svg"
        content = pictures.save(picture.figure, folder / PLOTS / picture.name)
        address = f"data:image/svg+xml;base64,{base64.b64encode(content).decode()}"
        width, height = (round(SCREEN * each) for each in picture.figure.get_size_inches())
        shown[picture.section].append(Shown(address, file, picture.alt, width, height))
    texts = {
        "report.html": rendered(report, shown, "page.html.j2"),
        "report.md": rendered(report, shown, "page.md.j2"),
        "report.json": report.model_dump_json(indent=1) + "\n",
    }
    for name, text in texts.items():
        with whole_file(folder / name) as out:
            out.write(text.encode())


def rendered(report: Report, shown: defaultdict[str, list[Shown]], template: str) -> str:
    """The page by a template of this folder, whose ending says what it is.

    shown : the pictures of each section.
    """
    html = ".html" in template
    # what is missing is a fault of ours and no empty place on the page
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=html,
        finalize=None if html else escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"table": table, "verbatim": Markup}
    return environment.get_template(template).render(
        title=report.title, introduction=introduction(report), sections=sections(report), pictures=shown
    )
