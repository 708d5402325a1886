"""The figures of a report in another text, and whether they are out of date."""

import shutil
from pathlib import Path

import pytest

from tests.report.compare import made
from tvm_bnn.report.compare.headline import BEGIN, END, chosen, main, replaced
from tvm_bnn.report.compare.wording import places


@pytest.fixture
def report(tmp_path):
    path = tmp_path / "report.json"
    path.write_text(made.whole().model_dump_json())
    return path


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"before größer\n\n{BEGIN}\nold\n{END}\n\nafter\n", encoding="utf-8")
    return path


def test_what_is_between_the_markers_is_replaced(report, text):
    assert main([str(report), "--into", str(text)]) == 0
    found = text.read_text(encoding="utf-8")
    assert found.startswith(f"before größer\n\n{BEGIN}\n\n| network |")
    assert found.endswith(f"\n\n{END}\n\nafter\n")
    assert "old" not in found
    assert r"| k1 | 128x256 | tvm\_bnn | 1.61 ms | 2.0 % | 1.23 MB | 50 % | mIoU 81.20 % | synthetic-street |" in found
    assert "A Processor 9000, 2 threads, 2026-01-02." in found
    assert "say nothing about photographs" in found
    assert "    python -m tvm_bnn.report compare --config 'a & b.toml' -o out" in found
    assert "cortex" not in found


def test_check_changes_nothing_and_tells(report, text, capsys):
    before = text.read_bytes()
    assert main([str(report), "--into", str(text), "--check"]) == 1
    assert text.read_bytes() == before
    assert "run this again without --check" in capsys.readouterr().err
    assert main([str(report), "--into", str(text)]) == 0
    assert main([str(report), "--into", str(text), "--check"]) == 0
    text.write_text(text.read_text(encoding="utf-8").replace("81.20", "81.30"), encoding="utf-8")
    assert main([str(report), "--into", str(text), "--check"]) == 1


@pytest.mark.parametrize("content", ["", BEGIN, END, f"{END}\n{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_markers_must_be_there_once(report, text, content, capsys):
    text.write_text(content)
    assert main([str(report), "--into", str(text)]) == 2
    assert "it needs each once, in this order" in capsys.readouterr().err
    assert text.read_text() == content


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.json", "--into", "{text}"], "cannot read none.json"),
        (["{report}", "--into", "none.md"], "cannot read none.md"),
        (["{text}", "--into", "{text}"], "is no report of version 1"),
        (["{report}"], "--into"),
    ],
)
def test_mistakes_are_one_line(report, text, arguments, words, capsys):
    given = [each.format(report=report, text=text) for each in arguments]
    assert main(given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words in line


def test_a_report_without_times_leaves_a_text_without_tables(report, text):
    report.write_text(made.empty().model_dump_json())
    assert main([str(report), "--into", str(text)]) == 0
    assert "|" not in text.read_text(encoding="utf-8")


def test_twins_stand_before_ours_and_once():
    _, members = list(places(made.whole()))[1]
    found = [(each.network, each.executor) for each in chosen(made.whole(), members)]
    assert found == [
        ("float", "onnxruntime-fp32"),
        ("float", "onnxruntime-int8"),
        ("float", "pytorch-eager"),
        ("float", "tvm_bnn"),
        ("k1", "tvm_bnn"),
        (made.ODD, "tvm_bnn-tuned"),
    ]


def test_the_rest_of_the_text_stays(text):
    content = text.read_text(encoding="utf-8")
    assert replaced(replaced(content, "a", text), "old", text) == replaced(content, "old", text)


def test_other_files_are_left_alone(report, text, tmp_path):
    shutil.copy(report, tmp_path / "copy.json")
    main([str(report), "--into", str(text)])
    assert sorted(each.name for each in tmp_path.iterdir()) == ["README.md", "copy.json", "report.json"]
    assert (tmp_path / "copy.json").read_bytes() == report.read_bytes()


def test_readme_says_what_the_committed_report_says():
    root = Path(__file__).parents[3]
    assert main([str(root / "docs/report/report.json"), "--into", str(root / "README.md"), "--check"]) == 0
