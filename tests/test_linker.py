"""Linking: the library that comes out, which linker is taken, and what is said when there is none."""

import ctypes
import os
import stat
import sys
from pathlib import Path

import pytest
import tvm
from tvm import te

from tvm_bnn import linker
from tvm_bnn.errors import OutputError, TargetError
from tvm_bnn.targets import host, resolve

ELF_MACHINE = {"x86_64": 62, "aarch64": 183, "arm": 40}


def object_for(target, folder: Path) -> Path:
    """An object file with one small kernel."""

    a = te.placeholder((16,), "float32", "a")
    b = te.compute((16,), lambda i: a[i] + 1.0, "b")
    main = te.create_prim_func([a, b])
    module = tvm.compile(tvm.IRModule({"main": main}), target=target.tvm()).mod
    path = folder / "kernel.o"
    module.write_to_file(str(path))
    return path


def machine_of(path: Path) -> int:
    """The architecture in an ELF header; fails for what is no ELF shared library."""
    header = path.read_bytes()[:20]
    assert header[:4] == b"\x7fELF" and header[16] == 3
    return int.from_bytes(header[18:20], "little")


def fake_tool(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def only_tools(tmp_path, monkeypatch):
    """An empty folder that is the whole search path, without the ziglang wheel."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(linker.importlib.util, "find_spec", lambda name: None)
    return folder


def test_native_library_loads(tmp_path):
    target = host()
    if not any(linker.candidates(target.triple)):
        pytest.skip("no linker for this machine is installed")
    linker.link(tmp_path / "kernel.so", [object_for(target, tmp_path)], target.triple)
    assert machine_of(tmp_path / "kernel.so") == ELF_MACHINE[target.arch]
    ctypes.CDLL(str(tmp_path / "kernel.so"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kernel.o", "kernel.so"]


@pytest.mark.parametrize("text", ["llvm -mcpu=cortex-a72", "llvm -mtriple=armv7l-linux-gnueabihf -mcpu=cortex-a7"])
def test_foreign_library_is_linked(tmp_path, text):
    target = resolve(text)
    if not any(linker.candidates(target.triple)):
        pytest.skip(f"no linker for {target.triple} is installed (pip install ziglang)")
    linker.link(tmp_path / "kernel.so", [object_for(target, tmp_path)], target.triple)
    assert machine_of(tmp_path / "kernel.so") == ELF_MACHINE[target.arch]


def test_fcompile_fits_tvm(tmp_path):
    made = linker.fcompile("aarch64-linux-gnu")
    assert made.object_format == "o"
    assert made.get_target_triple() == "aarch64-linux-gnu"
    with pytest.raises(TargetError, match="only Linux"):
        linker.fcompile("arm64-apple-macos")(str(tmp_path / "x.so"), [], options=["-O2"])


def test_own_linkers_come_before_general_ones(only_tools, monkeypatch):
    for name in ("cc", "ld", "ld.lld", "aarch64-linux-gnu-gcc", "aarch64-linux-gnu-ld"):
        fake_tool(only_tools, name, "exit 0")
    monkeypatch.setattr(linker.platform, "machine", lambda: "x86_64")
    names = [Path(command[0]).name for command in linker.candidates("x86_64-linux-gnu")]
    assert names == ["cc", "ld", "ld.lld"]
    names = [Path(command[0]).name for command in linker.candidates("aarch64-linux-gnu")]
    assert names == ["aarch64-linux-gnu-gcc", "aarch64-linux-gnu-ld", "ld.lld"]


def test_ziglang_is_the_last_resort(only_tools, monkeypatch):
    monkeypatch.setattr(linker.importlib.util, "find_spec", lambda name: object())
    assert list(linker.candidates("aarch64-linux-gnu")) == [[sys.executable, "-m", "ziglang", "ld.lld"]]


def test_a_broken_linker_gives_way_to_the_next(only_tools, tmp_path):
    fake_tool(only_tools, "aarch64-linux-gnu-gcc", "echo no collect2 >&2; exit 1")
    fake_tool(only_tools, "ld.lld", 'while [ "$1" != -o ]; do shift; done; echo linked > "$2"')
    linker.link(tmp_path / "out.so", ["a.o"], "aarch64-linux-gnu")
    assert (tmp_path / "out.so").read_text() == "linked\n"


@pytest.mark.parametrize(
    ("triple", "package"),
    [("aarch64-linux-gnu", "binutils-aarch64-linux-gnu"), ("armv7l-linux-gnueabihf", "binutils-arm-linux-gnueabihf")],
)
def test_no_linker_says_what_to_install(only_tools, tmp_path, monkeypatch, triple, package):
    monkeypatch.setattr(linker.platform, "machine", lambda: "x86_64")
    with pytest.raises(TargetError, match=f"no linker for {triple} was found.*pip install ziglang.*{package}"):
        linker.link(tmp_path / "out.so", ["a.o"], triple)


def test_failure_names_the_linker_and_leaves_nothing(only_tools, tmp_path):
    fake_tool(
        only_tools, "ld.lld", 'while [ "$1" != -o ]; do shift; done; echo half > "$2"; echo bad reloc >&2; exit 1'
    )
    (tmp_path / "out.so").write_text("old")
    with pytest.raises(TargetError, match=r"cannot link for aarch64-linux-gnu: ld.lld: bad reloc"):
        linker.link(tmp_path / "out.so", ["a.o"], "aarch64-linux-gnu")
    assert (tmp_path / "out.so").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["out.so", "tools"]


def test_missing_folder_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match=r"cannot write .*no-such-folder"):
        linker.link(tmp_path / "no-such-folder" / "out.so", ["a.o"], host().triple)
