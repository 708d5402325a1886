"""`python -m tvm_bnn.run ARTIFACT IMAGE -o OUT.png`: segment one image, paint the classes over it, time it.

With --rpc or --tracker it runs on a device; the picture is the same, and the times are the device's own.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tvm_bnn import artifact
from tvm_bnn.console import ArgumentParser, Progress, main_guard, positive
from tvm_bnn.errors import InputError, OutputError
from tvm_bnn.interrupt import held_back
from tvm_bnn.rpc import options as device_options

if TYPE_CHECKING:
    # loaded inside the command: TVM takes a second, in which an interruption is to end as quietly as later
    from tvm_bnn import runtime
    from tvm_bnn.rpc.remote_artifact import RemoteArtifact

# Okabe and Ito's eight colours, which the colour-blind can tell apart; black last, since it hides the image.
OKABE_ITO = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (213, 94, 0),
    (86, 180, 233),
    (204, 121, 167),
    (240, 228, 66),
    (0, 0, 0),
)
MAX_CLASSES = 65536
# How much of the colour covers the image.
OPACITY = 0.5
# Seconds that a device has for everything.
DEVICE_S = 600


def palette(count: int, given: Sequence[Sequence[int]] | None = None) -> np.ndarray:
    """`count` colours, uint8 [count, 3]: the given ones, then Okabe and Ito's, then lighter and darker ones of them."""
    colours = [tuple(colour) for colour in given or ()]
    base = np.array(OKABE_ITO, dtype=float)
    steps = [base, base[:-1] * 0.55 + 255 * 0.45, base[:-1] * 0.55]
    generated = [tuple(int(value) for value in colour) for step in steps for colour in step]
    unused = [colour for colour in generated if colour not in colours] or generated
    while len(colours) < count:
        colours += unused
    return np.array(colours[:count], dtype=np.uint8).reshape(count, 3)


def read_image(path: str | Path) -> Image.Image:
    """The image at `path` in RGB, turned upright; raises InputError for what is no readable image."""
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError:
        raise InputError(f"there is no image {path}") from None
    except UnidentifiedImageError:
        raise InputError(
            f"{path} is no image that can be read; accepted are PNG, JPEG, WebP, TIFF and the like"
        ) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"the image {path} cannot be read: {error}") from error


def prepare(image: Image.Image, manifest: artifact.Manifest) -> np.ndarray:
    """The image as the network's one input, resized to its height and width and scaled as the manifest says.

    Returns uint8 or float, [1, C, H, W] (or [1, H, W, C] for layout NHWC) with C = 3 or 1.
    Raises InputError for a network that does not take one image.
    """
    row, channels_last = image_input(manifest)
    _, *size = row["shape"]
    channels, height, width = (size[2], size[0], size[1]) if channels_last else size
    image = image.resize((width or image.width, height or image.height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image.convert("L") if channels == 1 else image).reshape(image.height, image.width, -1)
    if row["dtype"] != "uint8":
        how = manifest["preprocessing"] or artifact.DEFAULT_PREPROCESSING
        mean, std = np.array(how["mean"], np.float32), np.array(how["std"], np.float32)
        pixels = (pixels * np.float32(how["scale"]) - mean) / std
    pixels = pixels if channels_last else pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(pixels[None], dtype=row["dtype"])


def class_map(outputs: Any, name: str = "the network") -> np.ndarray:
    """The class of every pixel, int64 [H, W], from a network's first output.

    Taken as classes when of a whole-number dtype ([1, H, W] or [1, 1, H, W]), as logits when float: [1, C, H, W] by
    the largest, [1, 1, H, W] by the sign (one object against its background).
    Raises InputError for any other shape.
    """
    while isinstance(outputs, tuple):
        outputs = outputs[0] if outputs else np.zeros(0)
    shape = outputs.shape
    whole = np.issubdtype(outputs.dtype, np.integer) or outputs.dtype == bool
    if whole and outputs.ndim in (3, 4) and outputs.size and outputs.size == shape[-2] * shape[-1]:
        low, high = int(outputs.min()), int(outputs.max())
        if low < 0 or high >= MAX_CLASSES:
            raise InputError(f"{name} returns classes from {low} to {high}; 0 to {MAX_CLASSES - 1} can be painted")
        return outputs.reshape(shape[-2:]).astype(np.int64)
    if not whole and outputs.ndim == 4 and shape[0] == 1 and outputs.size:
        return (outputs[0, 0] > 0).astype(np.int64) if shape[1] == 1 else outputs[0].argmax(0)
    raise InputError(
        f"{name} returns {outputs.dtype} {list(shape)}; "
        "a class map ([1, H, W], whole numbers) or logits ([1, C, H, W], float) can be painted"
    )


def overlay(image: Image.Image, classes: np.ndarray, colours: np.ndarray) -> Image.Image:
    """The image with its classes painted over it, in the image's own size. classes: [H, W]; colours: [count, 3]."""
    painted = Image.fromarray(colours[classes]).resize(image.size, Image.Resampling.NEAREST)
    return Image.blend(image, painted, OPACITY)


def save_image(image: Image.Image, path: str | Path) -> None:
    """Write the image whole or not at all, in the format of the path's ending; raises OutputError."""
    kind = _image_format(path)
    with artifact.whole_file(path) as file:
        image.save(file, format=kind)


@main_guard
def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    options = _parser().parse_args(arguments)
    # what would fail at the end is refused at the start
    _image_format(options.output)
    load = _on_device if device_options.names_device(options) else _here
    with Progress() as progress, ExitStack() as stack:
        with progress.phase("load"):
            network = load(options, stack)
            image = read_image(options.image)
            pixels = prepare(image, network.manifest)
        with progress.phase("run"):
            classes = class_map(network(pixels), network.manifest["name"])
            seconds = network.benchmark(pixels, repeat=options.repeat)
        with progress.phase("paint"):
            names = network.manifest["class_names"] or []
            count = max(int(classes.max()) + 1, len(names))
            colours = palette(count, network.manifest["palette"])
            save_image(overlay(image, classes, colours), options.output)
    _report(Console(highlight=False, soft_wrap=True), network, seconds, classes, colours)
    print(f"written to {options.output}")
    return 0


def _here(options: argparse.Namespace, _: ExitStack) -> runtime.Artifact:
    with held_back():
        from tvm_bnn import runtime
    network = runtime.load(options.artifact)
    if options.threads:
        network.threads = options.threads
    return network


def _on_device(options: argparse.Namespace, stack: ExitStack) -> RemoteArtifact:
    """The session ends with the stack."""
    with held_back():
        from tvm_bnn.rpc import remote_artifact
    session = stack.enter_context(device_options.open_session(options, DEVICE_S))
    return remote_artifact.load(session, options.artifact, options.threads)


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(prog="python -m tvm_bnn.run", description="Segment one image with a compiled network.")
    parser.add_argument("artifact", help="compiled network (.bnn), made by python -m tvm_bnn.compile")
    parser.add_argument("image", help="image to segment")
    parser.add_argument("-o", "--output", required=True, metavar="OUT.png", help="where the painted image goes")
    parser.add_argument("--threads", type=positive, help="threads to use (default: as compiled)")
    parser.add_argument("--repeat", type=positive, default=10, help="runs to measure (default: 10)")
    device_options.add_device(parser)
    return parser


def _report(
    console: Console,
    network: runtime.Artifact | RemoteArtifact,
    seconds: Sequence[float],
    classes: np.ndarray,
    colours: np.ndarray,
) -> None:
    names = network.manifest["class_names"] or []
    low, middle, high = (1e3 * value for value in (min(seconds), statistics.median(seconds), max(seconds)))
    threads = f"{network.threads or 'its own number of'} thread{'' if network.threads == 1 else 's'}"
    place = getattr(network, "device", None)
    console.print(
        f"{network.manifest['name']}: {middle:.2f} ms (median of {len(seconds)}; {low:.2f} to {high:.2f}), {threads}"
        + (f", on {place} by its own clock" if place else "")
    )
    table = Table(box=None, show_header=False, pad_edge=False)
    for index, share in enumerate(np.bincount(classes.ravel(), minlength=len(colours)) / classes.size):
        swatch = Text("██", style=f"rgb({','.join(str(value) for value in colours[index])})")
        table.add_row(swatch, names[index] if index < len(names) else f"class {index}", f"{100 * share:.1f} %")
    console.print(table)


def image_input(manifest: artifact.Manifest) -> tuple[artifact.InputInfo, bool]:
    """The one input that is an image, and whether its channels come last."""
    rows = manifest["inputs"]
    if len(rows) == 1 and len(rows[0]["shape"]) == 4:
        channels_last = rows[0].get("layout") == "NHWC"
        batch, channels = rows[0]["shape"][0], rows[0]["shape"][3 if channels_last else 1]
        if batch in (1, None) and channels in (1, 3):
            return rows[0], channels_last
    found = ", ".join(f"{row['dtype']} {row['shape']}" for row in rows)
    raise InputError(
        f"{manifest['name']} takes {found or 'no input'}; only a network of one image, [1, 3, H, W] or [1, 1, H, W], "
        "runs on an image (call any other from Python: tvm_bnn.load(path)(...))"
    )


def _image_format(path: str | Path) -> str:
    suffix = Path(path).suffix.lower()
    kind = Image.registered_extensions().get(suffix)
    if kind not in Image.SAVE:
        raise OutputError(f"cannot write {path}: {suffix or 'no ending'!r} is no image format; try OUT.png")
    return kind


if __name__ == "__main__":
    sys.exit(main())
