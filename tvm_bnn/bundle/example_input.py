"""An input for a bundle to be tried with: the user's, or a generated one."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tvm_bnn import artifact
from tvm_bnn.errors import InputError
from tvm_bnn.run import read_image


def of_image(path: str | None, height: int, width: int) -> dict[str, bytes]:
    """Content of example.ppm: the image at `path`, in its own size, or a generated one of the network's size."""
    if path:
        image = read_image(path)
    else:
        pixels = np.random.default_rng(0).integers(0, 64, (height, width, 3))
        pixels[..., 0] += np.linspace(0, 191, width, dtype=int)
        pixels[..., 1] += np.linspace(0, 191, height, dtype=int)[:, None]
        image = Image.fromarray(pixels.astype(np.uint8))
    return {"example.ppm": b"P6\n%d %d\n255\n" % image.size + image.tobytes()}


def of_tensors(paths: Sequence[str], rows: Sequence[artifact.InputInfo]) -> dict[str, bytes]:
    """Content of an .npy file for each input: those at `paths`, or generated ones.

    Raises InputError for files that are none, or have another dtype or shape than the network's input.
    """
    if paths and len(paths) != len(rows):
        raise InputError(f"found {len(paths)} example inputs; the network takes {len(rows)}")
    values = [_read(path, row) for path, row in zip(paths, rows, strict=True)] if paths else _generated(rows)
    names = ["example.npy"] if len(rows) == 1 else [f"example-{index}.npy" for index in range(len(rows))]
    return {name: _npy(value) for name, value in zip(names, values, strict=True)}


def _read(path: str, row: artifact.InputInfo) -> np.ndarray:
    try:
        value = np.load(Path(path), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"cannot read the example input {path}: {error}; a file of np.save is needed") from error
    if not isinstance(value, np.ndarray) or value.dtype != row["dtype"] or list(value.shape) != row["shape"]:
        found = f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else "an archive"
        raise InputError(f"input {row['name']!r} is {row['dtype']} {row['shape']}, and {path} is {found}")
    return np.ascontiguousarray(value)


def _generated(rows: Sequence[artifact.InputInfo]) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [
        random.standard_normal(row["shape"]).astype(row["dtype"])  # type: ignore[arg-type]
        if np.issubdtype(row["dtype"], np.floating)
        else random.integers(0, 2, row["shape"]).astype(row["dtype"])  # type: ignore[arg-type]
        for row in rows
    ]


def _npy(value: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, value)
    return file.getvalue()
