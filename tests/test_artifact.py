"""The artifact file and its runtime: what is written is what runs, and no damage goes unnoticed."""

import errno
import io
import json
import os
import resource
import struct
import zipfile

import pytest

from tvm_bnn import artifact
from tvm_bnn.errors import ArtifactError, OutputError

MANIFEST = artifact.new_manifest(
    "small",
    [{"name": "x", "shape": [1, 3, 4, 8], "dtype": "float32", "layout": "NCHW"}],
    [{"shape": [1, 3, 4, 8], "dtype": "float32"}],
    {"name": "t", "triple": "x86_64-linux-gnu", "required_features": [], "threads": 1},
    layers=[{"path": "conv", "op": "conv2d", "shape": [1], "decision": "float", "reason": "", "rule": "", "macs": 3}],
    palette=[(0, 0, 0), (255, 0, 0)],
)


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "model.bnn"
    artifact.write(path, b"\x7fELF library", MANIFEST, {"notes.txt": b"hello"})
    return path


def sealed(payload: bytes, version: int = artifact.FORMAT_VERSION) -> bytes:
    """A file with a right header around any payload."""
    return artifact._HEADER.pack(artifact.MAGIC, version, len(payload), artifact._digest(version, payload)) + payload


def test_what_is_written_is_read(written):
    manifest, library, extra = artifact.read_all(written)
    assert (manifest, library, extra) == (MANIFEST, b"\x7fELF library", {"notes.txt": b"hello"})
    assert artifact.read(written) == (MANIFEST, b"\x7fELF library")


def test_manifest_has_versions_and_time():
    assert MANIFEST["versions"].keys() == {"tvm_bnn", "tvm", "torch", "python"}
    assert MANIFEST["versions"]["tvm"].startswith("0.27")
    assert MANIFEST["created"].endswith("+00:00")
    assert MANIFEST["palette"] == [[0, 0, 0], [255, 0, 0]]


def test_equal_content_is_equal_bytes(written, tmp_path):
    artifact.write(tmp_path / "again.bnn", b"\x7fELF library", MANIFEST, {"notes.txt": b"hello"})
    assert (tmp_path / "again.bnn").read_bytes() == written.read_bytes()


def test_payload_is_an_ordinary_zip(written):
    with zipfile.ZipFile(io.BytesIO(written.read_bytes()[52:])) as archive:
        assert archive.namelist() == ["manifest.json", "library.so", "notes.txt"]
        assert json.loads(archive.read("manifest.json"))["name"] == "small"


def test_any_damaged_byte_is_noticed(written):
    whole = written.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x40
        written.write_bytes(damaged)
        with pytest.raises(ArtifactError, match=r"is damaged: its checksum|is no compiled network|is cut short"):
            artifact.read(written)


def test_any_truncation_is_noticed(written):
    whole = written.read_bytes()
    for size in range(0, len(whole), 7):
        written.write_bytes(whole[:size])
        with pytest.raises(ArtifactError, match="is cut short: "):
            artifact.read(written)


def test_appended_bytes_are_noticed(written):
    written.write_bytes(written.read_bytes() + b"\n")
    with pytest.raises(ArtifactError, match="is damaged"):
        artifact.read(written)


def test_foreign_file_is_named(tmp_path):
    (tmp_path / "model.bnn").write_bytes(b"PK\x03\x04 a zip of something else")
    with pytest.raises(ArtifactError, match=r"is no compiled network: it starts with b'PK.*expected is a \.bnn file"):
        artifact.read(tmp_path / "model.bnn")


def test_newer_format_says_update(tmp_path):
    (tmp_path / "model.bnn").write_bytes(sealed(b"whatever comes", version=7))
    with pytest.raises(ArtifactError, match="has format 7, and this tvm_bnn reads formats up to 1; update"):
        artifact.read(tmp_path / "model.bnn")


def test_damaged_version_is_damage_and_no_newer_format(written):
    content = bytearray(written.read_bytes())
    content[8:12] = struct.pack("<I", 7)
    written.write_bytes(content)
    with pytest.raises(ArtifactError, match="is damaged"):
        artifact.read(written)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ArtifactError, match=r"cannot read the artifact .*No such file"):
        artifact.read(tmp_path / "none.bnn")
    with pytest.raises(ArtifactError, match=r"cannot read the artifact .*Is a directory"):
        artifact.read(tmp_path)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"library.so": b""}, "holds no manifest.json"),
        ({"manifest.json": json.dumps(MANIFEST).encode()}, "holds no library.so"),
        ({"manifest.json": b"{", "library.so": b""}, "is no JSON"),
        ({"manifest.json": b"[]", "library.so": b""}, "lacks an object"),
        ({"manifest.json": b'{"name": "x"}', "library.so": b""}, "lacks inputs, outputs, target, layers, versions"),
        (
            {"manifest.json": json.dumps({**MANIFEST, "target": {}}).encode(), "library.so": b""},
            r"lacks target\.name, target\.triple",
        ),
    ],
)
def test_whole_file_with_wrong_content(tmp_path, members, message):
    (tmp_path / "model.bnn").write_bytes(sealed(artifact._pack(members)))
    with pytest.raises(ArtifactError, match=message):
        artifact.read(tmp_path / "model.bnn")


def test_sealed_payload_that_is_no_zip(tmp_path):
    (tmp_path / "model.bnn").write_bytes(sealed(b"no zip"))
    with pytest.raises(ArtifactError, match=r"payload of .* cannot be read"):
        artifact.read(tmp_path / "model.bnn")


def test_unwritable_paths(tmp_path):
    with pytest.raises(OutputError, match=r"cannot write .*No such file or directory"):
        artifact.write(tmp_path / "no" / "model.bnn", b"", MANIFEST)
    (tmp_path / "model.bnn").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*Is a directory"):
        artifact.write(tmp_path / "model.bnn", b"", MANIFEST)
    assert sorted(os.listdir(tmp_path)) == ["model.bnn"]


def test_full_disk_leaves_the_old_file_and_nothing_else(written, monkeypatch):
    before = written.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OutputError, match=rf"cannot write .*{os.strerror(errno.EFBIG)}"):
            artifact.write(written, bytes(100_000), MANIFEST)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert written.read_bytes() == before
    assert os.listdir(written.parent) == [written.name]


def test_interruption_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(artifact.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        artifact.write(tmp_path / "model.bnn", b"library", MANIFEST)
    assert os.listdir(tmp_path) == []


def test_rights_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        artifact.write(tmp_path / "model.bnn", b"", MANIFEST)
    finally:
        os.umask(before)
    assert (tmp_path / "model.bnn").stat().st_mode & 0o777 == 0o640
