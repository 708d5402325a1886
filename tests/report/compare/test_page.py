"""The page: its numbers are those of report.json, it needs no network, and HTML and Markdown say the same."""

import json
import re
from html.parser import HTMLParser

import pytest

from tests.report.compare import made
from tvm_bnn.errors import OutputError
from tvm_bnn.report.compare import content, page
from tvm_bnn.report.compare.blocks import Table
from tvm_bnn.report.compare.markdown import escaped, table
from tvm_bnn.report.compare.sections import PUBLISHED_ATTENTION, PUBLISHED_SPEED_UP, sections
from tvm_bnn.report.compare.verdicts import SAME, verdicts
from tvm_bnn.report.timing import MAX_SPREAD

VOID = {"meta", "img", "br", "hr", "input"}
#: Numbers on a page that no report gives: what papers claim and when, bits of a word, and the rules of the verdicts.
STATED = {PUBLISHED_SPEED_UP, PUBLISHED_ATTENTION, 2024, 64, 100 * MAX_SPREAD, *SAME.values()}
NUMBER = re.compile(r"(?:(?<![\w.])|(?<=\dx))\d+(?:\.\d+)?(?!\.?\d)(?=x\b|x\d|\b)( (?:%|MB|s\b|[TGMk]\b))?")
#: Unit -> powers of ten from a number of the report to the one that is shown.
POWERS = {" %": (0, 2), " MB": (-6, 0), " s": (0, -3), " T": (-12,), " G": (-9,), " M": (-6,), " k": (-3,), None: (0,)}


class Page(HTMLParser):
    """What a reader of the page gets: text, tables, headings, and what it refers to."""

    def __init__(self, text):
        super().__init__()
        self.text, self.style, self.addresses, self.headings, self.alts, self.tags = "", "", [], [], [], set()
        self.tables, self._open = [], []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.add(tag)
        self.addresses += [given[name] for name in ("src", "href", "action", "data", "poster") if name in given]
        if tag == "img":
            self.alts.append(given["alt"])
        if tag not in VOID:
            self._open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        self.text += "\n"

    def handle_data(self, data):
        if self._open and self._open[-1] == "style":
            self.style += data
            return
        self.text += data
        if self._open and self._open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data


def told(report):
    return report.model_copy(update={"verdicts": verdicts(report)})


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of a whole report."""
    folder = tmp_path_factory.mktemp("report")
    page.write(told(made.whole()), folder)
    return folder


@pytest.fixture(scope="module")
def html(written):
    return Page((written / "report.html").read_text(encoding="utf-8"))


def numbers_in(text):
    return [(each.group().split()[0].rstrip("x"), each.group(1)) for each in NUMBER.finditer(text)]


def parts(value, key=None):
    """Numbers and strings of a JSON value; sentences are left out, since they are made of numbers."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield name
            yield from parts(each, name)
    elif isinstance(value, list):
        for each in value:
            yield from parts(each, key)
    elif isinstance(value, str) and key == "text":
        return
    elif value is not None and not isinstance(value, bool):
        yield value


def unknown_numbers(text, report):
    """Numbers of a text that are no rounding of a number in the report, and in none of its names."""
    found = list(parts(report))
    known = {float(token) for each in found if isinstance(each, str) for token, _ in numbers_in(each)} | STATED
    values = [abs(each) for each in found if not isinstance(each, str)]
    unknown = []
    for token, unit in numbers_in(text):
        shown, half = float(token), 0.5 * 10.0 ** -len(token.partition(".")[2]) + 1e-9
        if shown not in known and not any(
            abs(value * 10.0**power - shown) <= half for value in values for power in POWERS[unit]
        ):
            unknown.append(token + (unit or ""))
    return unknown


def test_every_number_of_the_page_is_in_the_report(written, html):
    report = json.loads((written / "report.json").read_text(encoding="utf-8"))
    shown = numbers_in(html.text)
    assert len(shown) > 300
    assert unknown_numbers(html.text, report) == []


@pytest.mark.parametrize("changed", ["4.56x", "83.17 %", "9.99 MB", "1.61 G", "7777"])
def test_a_number_from_nowhere_would_be_found(written, changed):
    report = json.loads((written / "report.json").read_text(encoding="utf-8"))
    assert unknown_numbers(f"it is {changed} here", report) == [changed.rstrip("x")]


def test_the_json_is_the_report(written):
    assert content.read(written / "report.json") == told(made.whole())


def test_the_page_needs_no_network(html):
    assert html.addresses
    assert all(each.startswith(("#", "data:image/svg+xml;base64,")) for each in html.addresses)
    assert not html.tags & {"script", "link", "iframe", "object", "embed"}
    assert "url(" not in html.style
    assert "@import" not in html.style


def test_the_page_can_be_read_by_everyone(html):
    assert html.headings[0] == 1
    assert html.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(html.headings, html.headings[1:], strict=False))
    assert len(html.alts) == 12
    assert all(html.alts)
    assert "color-scheme: light dark" in html.style
    assert "@media print" in html.style


def test_verdicts_come_first(html):
    assert html.text.index("Verdicts") < html.text.index("as fast as") < html.text.index("medians of times")


def test_names_are_shown_as_they_are(html, written):
    assert made.ODD in html.text
    assert "b" not in html.tags
    source = (written / "report.html").read_text(encoding="utf-8")
    assert "<networks>" not in source
    assert "größer" in source


def test_markdown_has_the_same_tables(html, written):
    lines = (written / "report.md").read_text(encoding="utf-8").splitlines()
    rows = [
        [re.sub(r"\\(.)", r"\1", cell) for cell in re.split(r"(?<!\\) \| ", line[2:-2])]
        for line in lines
        if line.startswith("| ") and ":--" not in line
    ]
    assert rows == [row for own in html.tables for row in own]
    assert len(html.tables) > 10


def test_markdown_shows_the_pictures(written):
    linked = re.findall(r"\]\((plots/[^)]+)\)", (written / "report.md").read_text(encoding="utf-8"))
    assert len(linked) == 12
    for file in linked:
        assert (written / file).is_file()
        assert (written / file).with_suffix(".png").is_file()
    assert not list(written.rglob("*.partial"))


def test_figures_of_drawn_images_are_labelled(html):
    for rows in html.tables:
        for head in rows[0]:
            if head.startswith(("mIoU (", "MAE (", "MaxF (")):
                assert "synthetic" in head
    assert "say nothing about photographs" in html.text


def test_emulated_machines_have_instructions_alone():
    blocks = [block for section in sections(told(made.whole())) for block in section.blocks]
    (own,) = [
        block for block in blocks if isinstance(block, Table) and block.caption.startswith(f"{made.BOARD}, 1 thread")
    ]
    assert own.heads == ["network", "executor", "instructions an inference"]
    assert "no time can be told" in own.caption


def test_what_was_measured_apart_stands_apart():
    captions = [
        block.caption
        for section in sections(told(made.whole()))
        for block in section.blocks
        if isinstance(block, Table) and "medians" in block.caption
    ]
    assert len(captions) == len(set(captions)) == 4
    assert any("turns of another run" in each for each in captions)


@pytest.mark.parametrize("report", [made.empty(), made.small()])
def test_little_is_a_page_too(report, tmp_path):
    page.write(told(report), tmp_path / "new" / "folder")
    assert "The numbers allow none." in Page((tmp_path / "new/folder/report.html").read_text(encoding="utf-8")).text


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another folder"):
        page.write(made.empty(), tmp_path / "file")


def test_markdown_escapes_what_would_mean_something():
    assert escaped("a|b\n*c* <i> [d](e)") == r"a\|b \*c\* \<i\> \[d\](e)"
    shown = table(Table("", ["a", "b"], [["x|y", "1"]]))
    assert shown == "| a | b |\n| :-- | --: |\n| x\\|y | 1 |"
