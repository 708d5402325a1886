"""How a data set lies in folders: which files make a sample, which are missing, what the colours of a truth mean.

A pattern such as ``gtFine/train/{city}/{frame}_gtFine_labelIds.png`` does three things: it finds files and their keys
(the texts of its fields), it names the file of a key that is missing, and it names the files of generated samples.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from tvm_bnn.errors import InputError

Key = tuple[str, ...]
MARKER = "synthetic.json"  # in the root of a generated data set: its name and how many samples each folder has
NAMED = 3  # missing files that a message names
HELD, HELD_SEED = 0.2, 0  # the share that is held out for validation, and what it is drawn with


@dataclass(frozen=True)
class Encoding:
    """Pictures of the truth.

    pattern : where they are, with {split} for the split's folder. decode : the picture in that mode (or as it is
    stored, with mode None), uint8 [H, W] or [H, W, 3] -> classes uint8 [H, W]; encode : back.
    """

    pattern: str
    mode: str | None
    decode: Callable[[np.ndarray], np.ndarray]
    encode: Callable[[np.ndarray], np.ndarray]

    def read(self, path: Path) -> np.ndarray:
        """Classes uint8 [H, W]."""
        pixels = read_picture(path, self.mode)
        if pixels.dtype != np.uint8 or pixels.ndim != (3 if self.mode == "RGB" else 2):
            raise InputError(f"{path} holds {pixels.dtype} {list(pixels.shape)}; expected one byte a pixel, its class")
        return self.decode(pixels)


@dataclass(frozen=True)
class Split:
    """folder : what {split} in a pattern stands for. complete : the keys that must be there, or how many.

    part : of the folder's samples; "held" are those that `held_out` chooses, "rest" the others.
    """

    folder: str
    complete: Sequence[Key] | int
    part: Literal["all", "held", "rest"] = "all"


@dataclass(frozen=True)
class Layout:
    """The layout of one data set.

    name : of the data set. folders : usual names of its root. images : pattern of the images. truths : encodings of the
    truth; the one with the most files is read, the first one is written. splits : by name. key : index of a generated
    sample -> the texts for the patterns' fields. group : key -> its group; every group has its share in the held out.
    source : where users get the data set.
    """

    name: str
    folders: tuple[str, ...]
    images: str
    truths: tuple[Encoding, ...]
    splits: dict[str, Split]
    key: Callable[[int], Key]
    group: Callable[[Key], str]
    source: str


@dataclass(frozen=True)
class Found:
    """A split as it lies on disk. name : of the data set, with what keeps its figures from being the data set's own."""

    name: str
    keys: tuple[Key, ...]
    images: tuple[Path, ...]
    truths: tuple[Path, ...]
    encoding: Encoding


def fill(pattern: str, folder: str, key: Key) -> str:
    """The file of a key: the pattern with its fields' texts."""
    texts = iter(key)
    return re.sub(r"\{\w+\}", lambda field: folder if field[0] == "{split}" else next(texts), pattern)


def _files(root: Path, pattern: str, folder: str) -> dict[Key, Path]:
    """Key -> file of all files of a pattern."""
    here = pattern.replace("{split}", folder)
    fixed = re.split(r"\{\w+\}", here)
    expression = re.compile("([^/]+)".join(re.escape(text) for text in fixed))
    found = {}
    for path in root.glob("*".join(fixed)):
        match = expression.fullmatch(path.relative_to(root).as_posix())
        if match:
            found[match.groups()] = path
    return found


def locate(layout: Layout, root: Path) -> Path:
    """The data set's folder: root itself, or the first of its sub-folders of the usual names. InputError if none is."""
    first = layout.images.split("/")[0]
    signs = {first.replace("{split}", split.folder) for split in layout.splits.values()}
    for candidate in (root, *(root / name for name in layout.folders)):
        if any((candidate / sign).is_dir() for sign in signs):
            return candidate
    folders = ", ".join(layout.folders)
    images, truth = layout.images, layout.truths[0].pattern
    raise InputError(
        f"no {layout.name} in {root}, nor in its sub-folders {folders}: expected {images} with {truth}; {layout.source}"
    )


def held_out(keys: Iterable[Key], group: Callable[[Key], str]) -> set[Key]:
    """HELD of each group, at least one key: those whose names have the lowest digests, so it never changes."""
    groups: dict[str, list[Key]] = defaultdict(list)
    for key in keys:
        groups[group(key)].append(key)

    def digest(key: Key) -> str:
        return hashlib.sha256("/".join([str(HELD_SEED), *key]).encode()).hexdigest()

    return {key for members in groups.values() for key in sorted(members, key=digest)[: ceil(HELD * len(members))]}


def find(layout: Layout, root: Path, split: str, partial: bool = False) -> Found:
    """The files of a split. InputError where the data set is not there or not complete.

    partial : take the samples that are there, if any; the name then says how many of how many.
    """
    if split not in layout.splits:
        raise InputError(f"{layout.name} has no split {split!r}; accepted: {', '.join(layout.splits)}")
    place, where = locate(layout, root), layout.splits[split]
    name, complete = layout.name, where.complete
    if (place / MARKER).exists():
        name, complete = _generated(layout, place, where.folder)
    images = _files(place, layout.images, where.folder)
    truths, encoding = max(
        ((_files(place, encoding.pattern, where.folder), encoding) for encoding in layout.truths),
        key=lambda one: len(one[0]),
    )
    wanted = set() if isinstance(complete, int) else set(complete)
    count = complete if isinstance(complete, int) else len(complete)
    every = wanted | images.keys() | truths.keys()
    missing = [
        fill(pattern, where.folder, key)
        for there, pattern in ((images, layout.images), (truths, encoding.pattern))
        for key in sorted(every - there.keys())
    ]
    pairs = images.keys() & truths.keys()
    if missing or len(pairs) != count:
        if not partial or not pairs:
            raise InputError(_incomplete(layout, place, split, encoding, (len(images), len(truths), count), missing))
        name += f", {len(pairs)} of {count}"
    if where.part != "all":
        # of all that there should be: what is held out stays so where some are missing
        held = held_out(wanted or pairs, layout.group)
        pairs = pairs & held if where.part == "held" else pairs - held
    if not pairs:
        raise InputError(f"{name}, split {split}, in {place} has no sample: the split is a share of too few")
    keys = sorted(pairs)
    return Found(name, tuple(keys), tuple(images[key] for key in keys), tuple(truths[key] for key in keys), encoding)


def _incomplete(
    layout: Layout, place: Path, split: str, encoding: Encoding, counts: tuple[int, int, int], missing: list[str]
) -> str:
    folder = layout.splits[split].folder
    images, truth = (pattern.replace("{split}", folder) for pattern in (layout.images, encoding.pattern))
    text = (
        f"{layout.name}, split {split}, is not complete in {place}: found {counts[0]} images {images} and {counts[1]} "
        f"truths {truth}, expected {counts[2]} of each"
    )
    if missing:
        more = ", ..." if len(missing) > NAMED else ""
        text += f"; {len(missing)} missing: {', '.join(missing[:NAMED])}{more}"
    return f"{text}; {layout.source}"


def _generated(layout: Layout, place: Path, folder: str) -> tuple[str, list[Key]]:
    """Name and keys of a generated data set, from its marker."""
    path = place / MARKER
    try:
        about = json.loads(path.read_text())
        task, name, count = str(about["task"]), str(about["name"]), int(about["counts"][folder])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} does not say what was generated here ({error!r}); generate it again") from error
    if task != layout.name:
        raise InputError(f"{place} holds generated samples of {task}, not of {layout.name}")
    return name, [layout.key(index) for index in range(count)]


def read_picture(path: Path, mode: str | None) -> np.ndarray:
    """Pixels uint8 [H, W] or [H, W, C], in a mode of Pillow or as they are stored. InputError if it cannot be read."""
    try:
        with Image.open(path) as picture:
            return np.array(picture if mode is None else picture.convert(mode))
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is no image that can be read") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
