"""The artifact file: one `.bnn` file that holds a compiled network, and tells a damaged one from a whole one.

    offset  size  content
         0     8  MAGIC
         8     4  format version, little endian
        12     8  size of the payload, little endian
        20    32  SHA-256 of bytes 8 to 20 and of the payload
        52     -  payload: a zip with manifest.json, library.so and anything else

The header keeps this shape in every version, so that "newer than this program" and "damaged" can be told apart.
MAGIC has a byte above 127 and both kinds of line end: a copy in text mode breaks it.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import secrets
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple, NotRequired, TypedDict

from tvm_bnn.errors import ArtifactError, OutputError

MAGIC = b"\x89BNN\r\n\x1a\n"
FORMAT_VERSION = 1
SUFFIX = ".bnn"
MANIFEST_NAME = "manifest.json"
LIBRARY_NAME = "library.so"
#: Level of deflation. Weights that a kernel wants as bytes +1 and -1 take little more than a bit each at this one, and
#: higher ones take minutes to gain 5 % more.
COMPRESSION = 6
_HEADER = struct.Struct("<8sIQ32s")

PathLike = str | os.PathLike[str]


class InputInfo(TypedDict):
    """One input: its name, shape (None for a free dimension), dtype ("float32", ...) and layout ("NCHW", ...)."""

    name: str
    shape: list[int | None]
    dtype: str
    layout: NotRequired[str]


class OutputInfo(TypedDict):
    """One output: shape and dtype."""

    shape: list[int | None]
    dtype: str


class Preprocessing(TypedDict):
    """How pixels become the first input: `(pixel * scale - mean) / std`, per RGB channel, pixels from 0 to 255."""

    scale: float
    mean: list[float]
    std: list[float]


#: Of a network that says nothing of it.
DEFAULT_PREPROCESSING: Preprocessing = {"scale": 1 / 255, "mean": [0.0], "std": [1.0]}


class Manifest(TypedDict):
    """What an artifact says of itself; made by `new_manifest`.

    target: `tvm_bnn.targets.Target.manifest()`.
    layers: the rows of explain(): at least path, op, shape, decision, reason, rule, macs.
    palette: one [red, green, blue] per class.
    check: results of the comparison with PyTorch at compile time, empty where the target does not run here.
    """

    name: str
    inputs: list[InputInfo]
    outputs: list[OutputInfo]
    preprocessing: Preprocessing | None
    class_names: list[str] | None
    palette: list[list[int]] | None
    target: dict[str, Any]
    layers: list[dict[str, Any]]
    versions: dict[str, str]
    created: str
    check: dict[str, Any]


# What reading relies on, with the types that JSON gives.
_REQUIRED: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "inputs": list,
    "outputs": list,
    "target": dict,
    "layers": list,
    "versions": dict,
}
_REQUIRED_IN_INPUT = ("name", "shape", "dtype")
_REQUIRED_IN_TARGET = ("name", "triple", "required_features", "threads")


def new_manifest(
    name: str,
    inputs: Sequence[InputInfo],
    outputs: Sequence[OutputInfo],
    target: Mapping[str, Any],
    *,
    layers: Sequence[Mapping[str, Any]] = (),
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] | None = None,
    palette: Sequence[Sequence[int]] | None = None,
    check: Mapping[str, Any] | None = None,
) -> Manifest:
    """A manifest with versions and the time of creation filled in; the fields are those of `Manifest`."""
    return {
        "name": name,
        "inputs": list(inputs),
        "outputs": list(outputs),
        "preprocessing": preprocessing,
        "class_names": None if class_names is None else list(class_names),
        "palette": None if palette is None else [list(colour) for colour in palette],
        "target": dict(target),
        "layers": [dict(row) for row in layers],
        "versions": versions(),
        "created": now(),
        "check": dict(check or {}),
    }


def now() -> str:
    """Date and time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions of what an artifact depends on, without importing any of it; "" for what is not installed."""
    return {
        "tvm_bnn": _version("tvm_bnn"),
        "tvm": _version("apache-tvm"),
        "torch": _version("torch"),
        "python": platform.python_version(),
    }


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def write(
    path: PathLike, library: bytes, manifest: Mapping[str, Any], extra: Mapping[str, bytes] | None = None
) -> None:
    """Write an artifact; the file at `path` is replaced whole or not touched.

    library: the shared library. extra: further members of the payload by name.

    Raises OutputError when the file cannot be written (folder missing or read-only, disk full, ...).
    """
    payload = _pack({MANIFEST_NAME: json.dumps(manifest, indent=1).encode(), LIBRARY_NAME: library, **(extra or {})})
    header = _HEADER.pack(
        MAGIC, FORMAT_VERSION, len(payload), _digest(FORMAT_VERSION, len(payload), io.BytesIO(payload))
    )
    with whole_file(path) as file:
        file.write(header)
        file.write(payload)


def make_folder(path: PathLike) -> None:
    """Make a folder, and those that it is in, where they are not there. Raises OutputError."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {path}: {error.strerror or error}; choose another folder") from error


@contextlib.contextmanager
def whole_file(path: PathLike) -> Iterator[BinaryIO]:
    """A file to write to that appears at `path` whole, when the block ends, or not at all.

    Raises OutputError when it cannot be written (folder missing or read-only, disk full, ...).
    """
    path = Path(path)
    # in the same folder, so that the last step is one rename
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        try:
            with partial.open("x+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; try another path or free some space"
        ) from error


class Content(NamedTuple):
    """What an artifact holds.

    library: the shared library, to be read once and while the file is open. extra: further members by name.
    """

    manifest: Manifest
    library: IO[bytes]
    extra: dict[str, bytes]


@contextlib.contextmanager
def opened(path: PathLike) -> Iterator[Content]:
    """The content of an artifact, all checked against its checksum; the library is not read into memory.

    Raises ArtifactError for a file that is missing, foreign, cut short, damaged or of a newer format.
    """
    path = Path(path)
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
            _check_whole(path, file)
        except OSError as error:
            raise ArtifactError(f"cannot read the artifact {path}: {error.strerror or error}") from error
        yield _content(path, file, stack)


def _digest(version: int, size: int, payload: io.BufferedReader | io.BytesIO) -> bytes:
    return hashlib.file_digest(payload, lambda: hashlib.sha256(struct.pack("<IQ", version, size))).digest()


def _check_whole(path: Path, file: io.BufferedReader) -> None:
    content_size = os.fstat(file.fileno()).st_size
    head = file.read(_HEADER.size)
    if head[: len(MAGIC)] != MAGIC:
        short = MAGIC.startswith(head)
        raise ArtifactError(
            f"{path} is cut short: it has only {content_size} bytes; copy it again"
            if short
            else f"{path} is no compiled network: it starts with {head[:8]!r}; "
            f"expected is a {SUFFIX} file written by tvm_bnn.compile"
        )
    if len(head) < _HEADER.size:
        raise ArtifactError(f"{path} is cut short: it has only {content_size} bytes; copy it again")
    _, version, size, digest = _HEADER.unpack(head)
    found = content_size - _HEADER.size
    whole = size == found and _digest(version, size, file) == digest
    if whole and version > FORMAT_VERSION:
        raise ArtifactError(
            f"{path} has format {version}, and this tvm_bnn reads formats up to {FORMAT_VERSION}; update tvm_bnn"
        )
    if not whole and found < size:
        raise ArtifactError(
            f"{path} is cut short: {content_size} of {_HEADER.size + size} bytes are there; copy it again"
        )
    if not whole:
        raise ArtifactError(
            f"{path} is damaged: its checksum does not match; copy it again, or compile the model again"
        )


def _content(path: Path, file: IO[bytes], stack: contextlib.ExitStack) -> Content:
    """The members of the zip behind the header; the stack closes what has to be open for them."""
    try:
        archive = stack.enter_context(zipfile.ZipFile(file))
        names = archive.namelist()
        for name in (MANIFEST_NAME, LIBRARY_NAME):
            if name not in names:
                raise ArtifactError(f"the artifact {path} holds no {name}; compile the model again")
        extra = {name: archive.read(name) for name in names if name != LIBRARY_NAME}
        manifest = _check_manifest(path, json.loads(extra.pop(MANIFEST_NAME)))
        return Content(manifest, stack.enter_context(archive.open(LIBRARY_NAME)), extra)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ArtifactError(f"the payload of {path} cannot be read ({error}); compile the model again") from error
    except ValueError as error:
        raise ArtifactError(f"the manifest of {path} is no JSON ({error}); compile the model again") from None


def _pack(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            # a fixed date: equal content gives equal bytes
            member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            archive.writestr(member, data, zipfile.ZIP_DEFLATED, COMPRESSION)
    return buffer.getvalue()


def _check_manifest(path: Path, manifest: Any) -> Manifest:
    missing = ["an object"] if not isinstance(manifest, dict) else []
    if not missing:
        missing = [key for key, kind in _REQUIRED.items() if not isinstance(manifest.get(key), kind)]
    if not missing:
        missing = [f"target.{key}" for key in _REQUIRED_IN_TARGET if key not in manifest["target"]]
        missing += [f"inputs.{key}" for key in _REQUIRED_IN_INPUT if any(key not in row for row in manifest["inputs"])]
    if missing:
        raise ArtifactError(f"the manifest of {path} lacks {', '.join(missing)}; compile the model again")
    return manifest
