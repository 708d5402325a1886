"""The files of a bundle, from an artifact: network, runner, runtime, examples, README, licences."""

from __future__ import annotations

import importlib.metadata
import json
import math
import re
import shlex
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from tvm_bnn import artifact, runtime_libraries
from tvm_bnn.bundle import example_input, runner
from tvm_bnn.bundle.archive import Member
from tvm_bnn.errors import InputError, TargetError, UnsupportedError
from tvm_bnn.gpus import check_no_gpu
from tvm_bnn.run import image_input, palette
from tvm_bnn.targets import arch_of

LIBRARY = "network.so"
MANIFEST = "network.json"
RUN = "run"
TEMPLATES = Path(__file__).with_name("templates")
#: What the runner reads and writes, and what C++ calls it.
DTYPES = {
    "float32": "kDLFloat, 32",
    "float64": "kDLFloat, 64",
    "float16": "kDLFloat, 16",
    "int8": "kDLInt, 8",
    "int16": "kDLInt, 16",
    "int32": "kDLInt, 32",
    "int64": "kDLInt, 64",
    "uint8": "kDLUInt, 8",
    "uint16": "kDLUInt, 16",
    "uint32": "kDLUInt, 32",
    "uint64": "kDLUInt, 64",
    "bool": "kDLBool, 8",
}
#: Of a picture with a palette.
_COLOURS = 256
#: Beginning of the names of what the runtime's extra library registers.
_EXTRA_FUNCTION = b"tvm.contrib."


def check_target(manifest: artifact.Manifest) -> str:
    """The architecture of an artifact; raises TargetError or ArtifactError where there is no runtime for it."""
    check_no_gpu(manifest["target"], "be packed")
    triple = manifest["target"]["triple"]
    arch = arch_of(triple)
    if "linux" not in triple or arch not in runtime_libraries.PLATFORMS:
        raise TargetError(
            f"{manifest['name']} was compiled for {manifest['target']['name']} ({triple}), and TVM's project publishes "
            f"its runtime for Linux on {' and '.join(runtime_libraries.PLATFORMS)} alone: to run the artifact there, "
            "build the runtime of the same version from TVM's sources on the board; on a 64-bit system, compile again "
            "with --target raspberry-pi/3 or the like"
        )
    return arch


@dataclass(frozen=True)
class Bundle:
    """Files of a bundle by name, the folder that holds them, and the commands for the board.

    commands : the three that the README begins with: copy it, unpack it, run it.
    """

    root: str
    members: dict[str, Member]
    commands: tuple[str, str, str]


def bundle(content: artifact.Content, archive: str, examples: Sequence[str] = ()) -> Bundle:
    """What to pack of an artifact.

    archive : name of the bundle's file, for its README. examples : paths of an image, or of an .npy file for each
        input; by default they are generated.

    Raises UnsupportedError or InputError for a network or examples that the runner cannot read, TargetError where
    there is no runtime or runner for the architecture.
    """
    manifest, library = content.manifest, content.library.read()
    arch = check_target(manifest)
    _check_dtypes(manifest)
    image = _image(manifest)
    if image and len(examples) > 1:
        raise InputError(f"found {len(examples)} example inputs; {manifest['name']} takes one image")
    if image:
        inputs = example_input.of_image(examples[0] if examples else None, image["height"], image["width"])
    else:
        inputs = example_input.of_tensors(examples, manifest["inputs"])
    root = re.sub(r"[^A-Za-z0-9_.+-]", "_", f"{manifest['name']}-{manifest['target']['name']}").lstrip(".-")
    commands = (
        f"scp {shlex.quote(archive)} pi@board:",
        f"tar -xzf {shlex.quote(archive)}",
        " ".join((f"{root}/{RUN}", *(f"{root}/{name}" for name in inputs), "-o", _output(manifest))),
    )
    files = {
        LIBRARY: library,
        MANIFEST: (json.dumps(_described(manifest, library, image), indent=1) + "\n").encode(),
        "licenses/tvm_bnn/LICENSE": _own_licence(),
        **inputs,
        **{f"source/{name}": text for name, text in runner.sources().items()},
        **{f"licenses/ziglang/{name}": text for name, text in runner.licences().items()},
        **_runtime(arch, library),
    }
    fields = _fields(manifest, arch, image, commands)
    for path in sorted(TEMPLATES.iterdir()):
        files[path.name.removesuffix(".in")] = Template(path.read_text(encoding="utf-8")).substitute(fields).encode()
    members = {name: Member(data) for name, data in files.items()}
    members[RUN] = Member(runner.build(arch).read_bytes(), executable=True)
    return Bundle(root, members, commands)


def _check_dtypes(manifest: artifact.Manifest) -> None:
    for row in (*manifest["inputs"], *manifest["outputs"]):
        if row["dtype"] not in DTYPES:
            raise UnsupportedError(f"the runner knows no {row['dtype']}; it reads and writes {', '.join(DTYPES)}")
    for row in manifest["inputs"]:
        if None in row["shape"]:
            raise UnsupportedError(f"input {row['name']!r} has the shape {row['shape']}; the runner needs a fixed one")


def _image(manifest: artifact.Manifest) -> dict[str, Any] | None:
    """How an image becomes the input; None where the network takes something else."""
    try:
        row, channels_last = image_input(manifest)
    except InputError:
        return None
    if row["dtype"] not in ("float32", "uint8"):
        return None
    channels, height, width = (row["shape"][place] for place in ((3, 1, 2) if channels_last else (1, 2, 3)))
    assert channels and height and width
    image: dict[str, Any] = {"channels": channels, "height": height, "width": width, "channels_last": channels_last}
    image["colour_order"] = "RGB" if channels == 3 else "grey"
    if row["dtype"] == "uint8":
        return {**image, "scale": None, "mean": None, "std": None}
    how = manifest["preprocessing"] or artifact.DEFAULT_PREPROCESSING
    image["scale"] = float(how["scale"])
    for key, values in (("mean", how["mean"]), ("std", how["std"])):
        if len(values) not in (1, channels):
            raise InputError(f"{manifest['name']} takes {channels} channels, and its preprocessing's {key} is {values}")
        image[key] = np.broadcast_to(values, channels).tolist()
    return image


def _described(manifest: artifact.Manifest, library: bytes, image: Mapping[str, Any] | None) -> dict[str, Any]:
    target = manifest["target"]
    return {
        "name": manifest["name"],
        "target": {key: target[key] for key in ("name", "triple", "required_features", "threads")},
        "library": {"file": LIBRARY, "bytes": len(library), "crc32": zlib.crc32(library)},
        "inputs": manifest["inputs"],
        "outputs": manifest["outputs"],
        "image": image,
        "class_names": manifest["class_names"],
        "colours": [f"#{bytes(colour).hex()}" for colour in palette(_COLOURS, manifest["palette"])],
        "versions": manifest["versions"],
    }


def _runtime(arch: str, library: bytes) -> dict[str, bytes]:
    folder = runtime_libraries.folder(arch)
    extra = f"lib/{runtime_libraries.EXTRA}"
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {name: (folder / name).read_bytes() for name in names if name != extra or _EXTRA_FUNCTION in library}


def _own_licence() -> bytes:
    found = [path for path in importlib.metadata.files("tvm_bnn") or () if path.name == "LICENSE"]
    assert found, "the package is installed with its licence"
    return found[0].read_binary()


def _output(manifest: artifact.Manifest) -> str:
    """What the example writes: a picture where the first output is a class map, or logits of one."""
    for output in manifest["outputs"]:
        shape = [size or 0 for size in output["shape"]]
        if output["dtype"].startswith("float"):
            paintable = len(shape) == 4 and shape[0] == 1 and output["dtype"] == "float32"
        else:
            paintable = len(shape) in (3, 4) and math.prod(shape) == shape[-2] * shape[-1]
        return "classes.png" if paintable else "result.npy"
    return "result.npy"


def _fields(
    manifest: artifact.Manifest, arch: str, image: Mapping[str, Any] | None, commands: Sequence[str]
) -> dict[str, str]:
    """What the templates leave open."""
    rows, target = manifest["inputs"], manifest["target"]
    tensors = [f"{row['dtype']} {row['shape']}" for row in rows]
    in_cc = [f"{{{{{', '.join(map(str, row['shape']))}}}, {{{DTYPES[row['dtype']]}, 1}}}}" for row in rows]
    files = ["INPUT.raw"] if len(rows) == 1 else [f"INPUT-{index}.raw" for index in range(len(rows))]
    if image:
        reads = f"an image, which is resized to {image['width']} x {image['height']} pixels"
    else:
        reads = f"a tensor for each input: {', then '.join(tensors)}"
    return {
        "name": manifest["name"],
        "target": target["name"],
        "threads": str(target["threads"]),
        "features": ", ".join(target["required_features"]) or "none",
        "arch": arch,
        "glibc": runtime_libraries.GLIBC,
        "commands": "\n".join(f"    {line}" for line in commands),
        "tvm": importlib.metadata.version("apache-tvm"),
        "ffi": importlib.metadata.version("apache-tvm-ffi"),
        "flags": " ".join(runner.FLAGS),
        "input": reads,
        "cc_inputs": ", ".join(in_cc),
        "input_files": " ".join(files),
    }
