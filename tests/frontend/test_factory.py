"""`package.module:factory`: what is found, and what is said of what is not."""

import sys
from pathlib import Path

import pytest
from torch import nn

from tvm_bnn.errors import ModelError
from tvm_bnn.frontend.factory import call_factory, is_factory

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("networks")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("nets:Net", True), ("a.b.c:make_1", True), ("net.pt2", False), ("a/net:x", False), (":x", False), ("a:", False)],
)
def test_spelling(text, expected):
    assert is_factory(text) is expected


def test_function_class_and_ready_model(networks):
    for text in ("user_networks:net", "user_networks:Net", "user_networks:ready"):
        model, home = call_factory(text)
        assert isinstance(model, networks.Net)
        assert home is networks


def test_shipped_network_by_its_folder_without_a_checkout(monkeypatch, tmp_path):
    # the checkout's own `examples` must not be importable for this to mean anything
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry and Path(entry).resolve() != ROOT])
    for name in [name for name in sys.modules if name.split(".")[0] == "examples"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ModelError, match=r"no module tvm_bnn\.examples\.ding204 \(did you mean ding2024\?\)"):
        call_factory("examples.ding204:demo")
    from tvm_bnn.examples import ding2024

    monkeypatch.setattr(ding2024, "demo", nn.Identity())
    assert call_factory("examples.ding2024:demo") == (ding2024.demo, ding2024)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user_netwroks:Net", r"there is no package user_netwroks \(did you mean user_networks"),
        ("tvm_bnn.exmples.ding2024:demo", r"there is no module tvm_bnn\.exmples \(did you mean examples\?\)"),
        ("user_networks:Nett", r"user_networks has no Nett \(did you mean Net"),
        ("user_networks:number", r"of type int; accepted is a torch\.nn\.Module"),
        ("user_networks:needs", r"needs the arguments dataset; a factory is called without any"),
        ("user_networks:fails", r"failed: ValueError: no such data set \(user_networks\.py, line \d+: raise"),
    ],
)
def test_refusals(text, message):
    with pytest.raises(ModelError, match=message):
        call_factory(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("import a_module_that_nobody_has", "no module a_module_that_nobody_has; install what provides it"),
        ("raise RuntimeError('broken')", r"importing broken failed: RuntimeError: broken \(broken\.py, line 1"),
        ("def f(:", "importing broken failed: SyntaxError"),
    ],
)
def test_modules_that_cannot_be_imported(tmp_path, monkeypatch, content, message):
    (tmp_path / "broken.py").write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModelError, match=message):
        call_factory("broken:f")
