"""The command: what cannot be packed is one line, and leaves nothing behind."""

import gzip
import os
import tarfile

import numpy as np
import pytest

from tests.package.conftest import plain_network
from tvm_bnn import artifact, package, runtime_libraries
from tvm_bnn.bundle import contents
from tvm_bnn.errors import OutputError, TargetError
from tvm_bnn.targets import host_arch

OTHER = next(arch for arch in runtime_libraries.PLATFORMS if arch != host_arch())


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A network of one image."""
    return plain_network(tmp_path_factory.mktemp("plain"))


def refused(capsys, *arguments):
    """The one line of a command that fails."""
    assert package.main([str(item) for item in arguments]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: ") and said.err.count("\n") == 1
    return said.err


def for_target(path, folder, **target):
    """The same artifact, with another target in its manifest."""
    with artifact.opened(path) as content:
        manifest = {**content.manifest, "target": {**content.manifest["target"], **target}}
        artifact.write(folder / "other.bnn", content.library.read(), manifest)
    return folder / "other.bnn"


def test_it_says_what_to_do_next(plain, tmp_path, capsys):
    out = tmp_path / "my.tar.gz"
    assert package.main([str(plain), "-o", str(out)]) == 0
    first, *_, copy, unpack, run = capsys.readouterr().out.splitlines()
    folder = f"plain-{plain_target(plain)}"
    assert first.startswith(f"{out}: {out.stat().st_size / 1e6:.2f} MB, for ")
    assert copy.split() == ["scp", "my.tar.gz", "pi@board:"] and unpack.split() == ["tar", "-xzf", "my.tar.gz"]
    assert run.split() == [f"{folder}/run", f"{folder}/example.ppm", "-o", "classes.png"]
    with tarfile.open(out) as content:
        rows = content.getmembers()
    assert {row.name.split("/")[0] for row in rows} == {folder}
    assert {(row.uid, row.gid, row.uname, row.gname) for row in rows} == {(0, 0, "", "")}
    assert [row.name for row in rows if row.mode == 0o755] == [f"{folder}/run"]
    assert {row.mode for row in rows} == {0o755, 0o644}


def plain_target(path):
    with artifact.opened(path) as content:
        return content.manifest["target"]["name"]


def test_no_runtime_for_32_bits(plain, tmp_path, capsys):
    path = for_target(plain, tmp_path, name="cortex-a7", triple="armv7l-linux-gnueabihf")
    line = refused(capsys, path, "-o", tmp_path / "x.tar.gz")
    assert "compiled for cortex-a7 (armv7l-linux-gnueabihf), and TVM's project publishes its runtime" in line
    assert "build the runtime of the same version from TVM's sources" in line
    assert os.listdir(tmp_path) == ["other.bnn"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x.zip", "a bundle is a .tar.gz or .tgz; try -o bundle.tar.gz"),
        ("none/x.tar.gz", "there is no folder"),
    ],
)
def test_outputs(plain, tmp_path, capsys, name, message):
    assert message in refused(capsys, plain, "-o", tmp_path / name)


def test_what_is_no_artifact(tmp_path, capsys):
    (tmp_path / "x.bnn").write_bytes(b"hello")
    assert "is no compiled network" in refused(capsys, tmp_path / "x.bnn", "-o", tmp_path / "x.tgz")
    assert "cannot read the artifact" in refused(capsys, tmp_path / "y.bnn", "-o", tmp_path / "x.tgz")


def test_examples_that_do_not_fit(plain, tmp_path, capsys):
    out = tmp_path / "x.tgz"
    assert "there is no image none.png" in refused(capsys, plain, "-o", out, "--input-example", "none.png")
    assert "found 2 example inputs; plain takes one image" in refused(
        capsys, plain, "-o", out, "--input-example", "a.png", "b.png"
    )
    other = plain_network(tmp_path, (2, 3))
    np.save(tmp_path / "x.npy", np.zeros((2, 4), np.float32))
    for given, message in (
        (["x.npy"], "input 'x' is float32 [2, 3], and "),
        (["none.npy"], "cannot read the example input"),
        (["x.npy", "x.npy"], "found 2 example inputs; the network takes 1"),
    ):
        paths = [tmp_path / name for name in given]
        assert message in refused(capsys, other, "-o", out, "--input-example", *paths)
    assert not out.exists()


def test_free_sizes_and_foreign_dtypes(plain, tmp_path, capsys):
    for row, message in (
        ({"shape": [None, 3, 8, 16]}, "input 'x' has the shape [None, 3, 8, 16]; the runner needs a fixed one"),
        ({"dtype": "bfloat16"}, "the runner knows no bfloat16; it reads and writes float32"),
    ):
        with artifact.opened(plain) as content:
            manifest = {**content.manifest, "inputs": [{**content.manifest["inputs"][0], **row}]}
            artifact.write(tmp_path / "odd.bnn", content.library.read(), manifest)
        assert message in refused(capsys, tmp_path / "odd.bnn", "-o", tmp_path / "x.tgz")


def test_extra_library_goes_with_those_that_call_it(plain, tmp_path):
    name = f"lib/{runtime_libraries.EXTRA}"
    with artifact.opened(plain) as content:
        library = content.library.read()
        artifact.write(tmp_path / "sorting.bnn", library + b"\0tvm.contrib.sort.argsort\0", content.manifest)
    for path, there in ((plain, False), (tmp_path / "sorting.bnn", True)):
        with artifact.opened(path) as content:
            assert (name in contents.bundle(content, "x.tgz").members) == there


def test_without_a_connection(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(TargetError, match=rf"cannot download apache-tvm==.* for {OTHER}: ERROR: .*is needed once"):
        runtime_libraries.folder(OTHER)
    assert not [path for path in (tmp_path / "tvm_bnn" / "runtime").iterdir() if not path.name.endswith(".lock")]


def test_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "tvm_bnn").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(OutputError, match="set XDG_CACHE_HOME to another folder"):
        runtime_libraries.folder(host_arch())


def test_archive_tells_no_time(plain, tmp_path):
    out = tmp_path / "x.tgz"
    assert package.main([str(plain), "-o", str(out)]) == 0
    # RFC 1952: flags (no name), then four bytes of time
    assert out.read_bytes()[3:8] == bytes(5)
    assert gzip.decompress(out.read_bytes())
