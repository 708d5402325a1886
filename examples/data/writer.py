"""Generated samples in the layout of a real data set, for tests and to see what a layout looks like."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tvm_bnn.errors import OutputError
from tvm_bnn.examples.data.layout import MARKER, fill
from tvm_bnn.examples.data.task import Task


def write_data(
    task: Task,
    out: Path,
    count: int,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, int]:
    """Write `count` generated samples into each folder of the layout that has truth; folder -> how many.

    out : a folder that is empty or not there yet; it is filled at once, or not at all. report : is told of progress.
    A file beside the samples, synthetic.json, says what they are: whoever reads the folder calls it by that name.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} is not empty; give a folder that is not there yet")
    folders: dict[str, str] = {}
    for name, split in task.layout.splits.items():
        folders.setdefault(split.folder, name)  # splits that share a folder share the samples of the first
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
            whole = Path(scratch) / out.name
            for folder, drawn in folders.items():
                for index in range(count):
                    report(f"{index + 1} of {count} {folder}".rstrip())
                    _write(task, whole, folder, drawn, index, seed, size)
            counts = dict.fromkeys(folders, count)
            about = {"synthetic": True, "name": task.generated.name, "task": task.name, "seed": seed}
            about |= {"size": list(size or task.generated.size), "counts": counts}
            (whole / MARKER).write_text(json.dumps(about, indent=1) + "\n")
            os.replace(whole, out)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror or error}") from error
    return counts


def _write(
    task: Task, root: Path, folder: str, split: str, index: int, seed: int, size: tuple[int, int] | None
) -> None:
    image, truth = task.generated.sample(split, index, seed, size)
    encoding = task.layout.truths[0]
    for pattern, pixels in ((task.layout.images, image), (encoding.pattern, encoding.encode(truth))):
        path = root / fill(pattern, folder, task.layout.key(index))
        path.parent.mkdir(parents=True, exist_ok=True)
        # ECSSD's images are JPEG; PNG knows no quality
        Image.fromarray(pixels).save(path, quality=95)
