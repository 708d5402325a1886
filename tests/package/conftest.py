"""Boards: folders in which the commands of a bundle run, on this machine or on an emulated one, with nothing else."""

import shlex
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tvm
from PIL import Image
from tvm import relax

from tests import emulator
from tests.rpc.conftest import segmenter
from tvm_bnn import artifact, linker, package, runtime
from tvm_bnn.emulated import processor
from tvm_bnn.targets import host

CPU = "cortex-a72"
EMULATOR = [processor.QEMU, "-cpu", CPU, "-L", str(processor.SYSTEM)]


@dataclass
class Board:
    """A folder with an unpacked bundle, and what programs of its processor are run by."""

    home: Path
    name: str
    by: list[str]

    @property
    def folder(self) -> Path:
        """Where the bundle lies."""
        return self.home / self.name

    def run(self, program, *arguments) -> subprocess.CompletedProcess[str]:
        """Run a program of the board in its home, without any variable of this process."""
        command = [*self.by, str(program), *map(str, arguments)]
        return subprocess.run(command, cwd=self.home, env={}, capture_output=True, text=True, check=False)

    def runner(self, *arguments) -> subprocess.CompletedProcess[str]:
        """Run the bundle's own program."""
        return self.run(self.folder / "run", *arguments)


def packed(network: Path, folder: Path, *options: str) -> Path:
    """The bundle of a network."""
    made = folder / f"{network.stem}.tar.gz"
    assert package.main([str(network), "-o", str(made), *options]) == 0
    return made


def unpacked(bundle: Path, home: Path, by: list[str]) -> Board:
    """A board with that bundle."""
    with tarfile.open(bundle) as archive:
        archive.extractall(home, filter="data")
    (name,) = (path.name for path in home.iterdir())
    return Board(home, name, by)


def commands(board: Board, archive: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run the three commands that the README begins with, the last one with more arguments; its outcome."""
    with tarfile.open(archive) as content:
        (name,) = (name for name in content.getnames() if name.endswith("/README.md"))
        readme = content.extractfile(name)
        assert readme is not None
        text = readme.read().decode()
    copy, unpack, run = [line.strip() for line in text.splitlines() if line.startswith("    ")][:3]
    assert copy == f"scp {archive.name} pi@board:"
    shutil.copy(archive, board.home)
    subprocess.run(shlex.split(unpack), cwd=board.home, check=True)
    program, *arguments = shlex.split(run)
    return board.run(board.home / program, *arguments, *more)


def plain_network(folder: Path, shape=(1, 3, 8, 16), dtype="float32", layout="NCHW", names="x", **manifest) -> Path:
    """A network that adds its last input to its first, which may be the same, for this machine."""
    target = host(threads=1)
    builder = relax.BlockBuilder()
    inputs = [relax.Var(name, relax.TensorType(shape, dtype)) for name in names]
    with builder.function("main", inputs):
        builder.emit_func_output(builder.emit(relax.op.add(inputs[0], inputs[-1])))
    library = folder / "library.so"
    tvm.compile(builder.get(), target=target.tvm()).export_library(
        str(library), fcompile=linker.fcompile(target.triple)
    )
    rows: list[artifact.InputInfo] = [
        {"name": name, "shape": list(shape), "dtype": dtype, "layout": layout} for name in names
    ]
    result: artifact.OutputInfo = {"shape": list(shape), "dtype": dtype}
    made = artifact.new_manifest("plain", rows, [result], target.manifest(), **manifest)
    path = folder / "plain.bnn"
    runtime.Artifact(library.read_bytes(), made).save(path)
    return path


@pytest.fixture(scope="session")
def picture(tmp_path_factory) -> Path:
    """An image of 61 x 45 pixels: noise over a gradient."""
    pixels = np.random.default_rng(1).integers(0, 128, (45, 61, 3))
    pixels += np.linspace(0, 127, 61, dtype=int)[:, None]
    path = tmp_path_factory.mktemp("picture") / "picture.png"
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="session")
def network(tmp_path_factory, image) -> Path:
    """A segmenter for this machine: class map and scores of an image of 16 x 24 pixels."""
    return segmenter("llvm", image, tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="session")
def image() -> np.ndarray:
    """An example input of the segmenter."""
    return np.random.default_rng(0).standard_normal((1, 3, 16, 24)).astype(np.float32)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory, network, picture) -> Path:
    """The bundle of the segmenter."""
    return packed(network, tmp_path_factory.mktemp("bundle"), "--input-example", str(picture))


@pytest.fixture(scope="session")
def here(tmp_path_factory, bundle) -> Board:
    """This machine as a board, with that bundle."""
    return unpacked(bundle, tmp_path_factory.mktemp("here"), [])


@pytest.fixture(scope="session")
def arm_bundle(tmp_path_factory, image, picture) -> Path:
    """The bundle of the segmenter for a Cortex-A72."""
    emulator.need()
    folder = tmp_path_factory.mktemp("arm")
    return packed(segmenter(f"llvm -mcpu={CPU}", image, folder), folder, "--input-example", str(picture))
