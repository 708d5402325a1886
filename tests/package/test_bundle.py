"""A bundle as its README says, on this machine and on an emulated Cortex-A72: it runs, and gives what is given here."""

import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tvm_bnn
from tests import emulator
from tests.package.conftest import EMULATOR, Board, commands, packed, plain_network, unpacked
from tvm_bnn import run, runtime, runtime_libraries
from tvm_bnn.bundle import runner
from tvm_bnn.targets import host_arch

MEGABYTES = 10


def expected(network, path):
    """Class map and scores that `tvm_bnn.run` computes of an image."""
    loaded = runtime.load(network)
    return loaded(run.prepare(run.read_image(path), loaded.manifest))


def check_commands(archive, board, network, picture):
    done = commands(board, archive)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"\S+: \d+\.\d\d ms \(median of 10; \d+\.\d\d to \d+\.\d\d\), 1 thread\n", done.stdout)
    found = Image.open(board.home / "classes.png")
    classes = run.class_map(expected(network, picture))
    assert len(np.unique(classes)) > 1
    assert np.array_equal(np.asarray(found), classes)
    assert np.array_equal(np.asarray(found.convert("RGB")), run.palette(4)[classes])
    shares = re.findall(r"(\d+\.\d) %  class (\d)", done.stdout)
    assert [float(share) for share, _ in shares] == pytest.approx(
        [100 * np.mean(classes == number) for number in range(classes.max() + 1)], abs=0.06
    )


def test_commands_of_the_readme_here(bundle, network, picture, tmp_path):
    check_commands(bundle, Board(tmp_path, "", []), network, picture)


def test_commands_of_the_readme_on_an_emulated_board(arm_bundle, network, picture, tmp_path):
    check_commands(arm_bundle, Board(tmp_path, "", EMULATOR), network, picture)


def test_results_are_those_of_this_machine_in_every_bit(here, arm_bundle, network, picture, tmp_path):
    results = expected(network, picture)
    for board in (here, unpacked(arm_bundle, tmp_path, EMULATOR)):
        assert board.runner(picture, "-o", "result.npy", "-o", "result.raw", "--repeat", 1).returncode == 0
        for index, result in enumerate(results):
            found = np.load(board.home / f"result-{index}.npy")
            assert (found.dtype, found.shape) == (result.dtype, result.shape)
            assert found.tobytes() == result.tobytes() == (board.home / f"result-{index}.raw").read_bytes()


def test_shipped_network_is_small_and_runs_on_an_emulated_board(tmp_path):
    emulator.need()
    path = tmp_path / "demo.bnn"
    tvm_bnn.compile("tvm_bnn.examples.ding2024:demo", target="raspberry-pi/4", name="demo").save(path)
    archive = packed(path, tmp_path)
    assert archive.stat().st_size < MEGABYTES * 1e6
    home = tmp_path / "board"
    home.mkdir()
    done = commands(Board(home, "", EMULATOR), archive, "--repeat", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert np.asarray(Image.open(home / "classes.png")).shape == (256, 512)


def test_network_of_tensors_brings_an_example(tmp_path):
    archive = packed(plain_network(tmp_path, (2, 5), "int32", class_names=["zero", "one"]), tmp_path)
    home = tmp_path / "board"
    home.mkdir()
    board = Board(home, "", [])
    done = commands(board, archive)
    assert (done.returncode, done.stderr) == (0, "") and "int32 [2, 5]" in done.stdout
    (folder,) = (path for path in home.iterdir() if path.is_dir())
    assert np.array_equal(np.load(home / "result.npy"), 2 * np.load(folder / "example.npy"))


def test_network_of_two_inputs(tmp_path):
    archive = packed(plain_network(tmp_path, (4, 5), names="xy"), tmp_path)
    home = tmp_path / "board"
    home.mkdir()
    done = commands(Board(home, "", []), archive)
    assert (done.returncode, done.stderr) == (0, "") and "float32 [4, 5]" in done.stdout
    (folder,) = (path for path in home.iterdir() if path.is_dir())
    x, y = (np.load(folder / f"example-{index}.npy") for index in range(2))
    assert not np.array_equal(x, y) and np.array_equal(np.load(home / "result.npy"), x + y)
    board = Board(home, folder.name, [])
    built(board, "example")
    for name, value in (("x.raw", x), ("y.raw", y)):
        (folder / name).write_bytes(value.tobytes())
    subprocess.run(["./example", "x.raw", "y.raw", "out.raw"], cwd=folder, env={}, check=True)
    assert (folder / "out.raw").read_bytes() == (x + y).tobytes()


def test_given_tensor_is_the_example(tmp_path):
    network = plain_network(tmp_path, (3,), "float32")
    np.save(tmp_path / "mine.npy", np.array([1, 2, 4], np.float32))
    home = tmp_path / "board"
    home.mkdir()
    board = unpacked(packed(network, tmp_path, "--input-example", str(tmp_path / "mine.npy")), home, [])
    assert np.load(board.folder / "example.npy").tolist() == [1, 2, 4]


def test_same_network_gives_the_same_bytes(bundle, network, picture, tmp_path):
    assert packed(network, tmp_path, "--input-example", str(picture)).read_bytes() == bundle.read_bytes()


def test_runner_is_built_alike_each_time(tmp_path, monkeypatch):
    first = runner.build(host_arch()).read_bytes()
    monkeypatch.setattr(runtime_libraries, "cache", lambda: tmp_path)
    assert runner.build(host_arch()).read_bytes() == first


def test_licences_of_all_that_it_carries(here):
    found = {path.relative_to(here.folder / "licenses").as_posix() for path in (here.folder / "licenses").rglob("*")}
    assert found >= {
        "tvm_bnn/LICENSE",
        "apache-tvm/LICENSE",
        "apache-tvm/NOTICE",
        "apache-tvm/licenses/LICENSE.builtin_fp16.txt",
        "apache-tvm-ffi/LICENSE",
        "apache-tvm-ffi/NOTICE",
        "apache-tvm-ffi/3rdparty/libbacktrace/LICENSE",
        "ziglang/LICENSE",
        "ziglang/glibc/LICENSES",
    }
    assert all((here.folder / "licenses" / name).stat().st_size for name in found)


def test_libraries_are_for_the_board(arm_bundle):
    with tarfile.open(arm_bundle) as content:
        found = {
            Path(member.name).name: content.extractfile(member).read(20)
            for member in content
            if member.name.endswith(("/run", ".so"))
        }
    assert sorted(found) == ["libtvm_ffi.so", "libtvm_runtime.so", "network.so", "run"]
    # ELF's number of AArch64
    assert {int.from_bytes(head[18:20], "little") for head in found.values()} == {183}


# --- examples ---------------------------------------------------------------------------------------------------------


def built(board, name):
    """Run the README's line with g++ that makes a program of that name."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ here")
    readme = (board.folder / "README.md").read_text()
    (line,) = re.findall(rf"^    (g\+\+ .* -o {name} .*)$", readme, flags=re.MULTILINE)
    done = subprocess.run(line, shell=True, cwd=board.folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_example_in_cc(bundle, network, picture, tmp_path):
    board = unpacked(bundle, tmp_path, [])
    built(board, "example")
    assert board.runner(picture, "--save-input", "input.raw", "--repeat", 1).returncode == 0
    command = ["./example", "../input.raw", "../output.raw"]
    done = subprocess.run(command, cwd=board.folder, env={}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "1 8 12 values\n"), done.stderr
    assert (board.home / "output.raw").read_bytes() == expected(network, picture)[0].tobytes()


def test_example_in_python_needs_no_tvm(here, network, picture, tmp_path):
    packages = tmp_path / "packages"
    packages.mkdir()
    site = Path(np.__file__).parent.parent
    # what pip would install on the board, and not the rest of this environment
    for name in ("tvm_ffi", "numpy", "numpy.libs", "PIL", "pillow.libs", "typing_extensions.py"):
        (packages / name).symlink_to(site / name)
    command = [sys.executable, "-S", "example.py", str(picture), str(tmp_path / "out.npy")]
    environment = {"PYTHONPATH": str(packages), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=here.folder, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "int64 [1, 8, 12]\n"), done.stderr
    assert np.array_equal(np.load(tmp_path / "out.npy"), expected(network, picture)[0])


def test_runner_builds_with_the_boards_compiler(bundle, picture, tmp_path):
    board = unpacked(bundle, tmp_path, [])
    assert board.runner(picture, "-o", "before.npy", "--repeat", 1).returncode == 0
    (board.folder / "run").unlink()
    built(board, "run")
    assert board.runner(picture, "-o", "after.npy", "--repeat", 1).returncode == 0
    assert (board.home / "before-1.npy").read_bytes() == (board.home / "after-1.npy").read_bytes()
