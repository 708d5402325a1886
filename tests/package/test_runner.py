"""The runner: its preprocessing is that of `tvm_bnn.run` in every bit, and a mistake is one line and exit code 2."""

import json
import os
import re
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import emulator
from tests.package.conftest import EMULATOR, packed, plain_network, unpacked
from tests.rpc.conftest import segmenter
from tvm_bnn import artifact, run, targets
from tvm_bnn.bundle import runner
from tvm_bnn.emulated import processor

SCALED = {"preprocessing": {"scale": 1 / 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}}
NETWORKS = {
    "float32 NCHW": dict(shape=(1, 3, 32, 48), **SCALED),
    "float32 NHWC": dict(shape=(1, 32, 48, 3), layout="NHWC", **SCALED),
    "uint8 NCHW": dict(shape=(1, 3, 32, 48), dtype="uint8"),
    "float32 grey": dict(shape=(1, 1, 32, 48), preprocessing={"scale": 1 / 255, "mean": [0.3], "std": [0.7]}),
}


def noise(height, width, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(height * width).integers(0, 256, shape).astype(np.uint8)


def picture_of(mode, size=(70, 45)):
    """Noise as an image of that mode of Pillow's."""
    return Image.fromarray(noise(size[1], size[0])).convert(mode)


def check_input(board, path):
    """What the runner makes of an image is what `run` makes of it."""
    done = board.runner(path, "--save-input", "input.npy", "--repeat", 1)
    assert (done.returncode, done.stderr) == (0, "")
    described = json.loads((board.folder / "network.json").read_text())
    manifest = artifact.new_manifest("", described["inputs"], [], {}, preprocessing=described["image"])
    wanted, found = run.prepare(run.read_image(path), manifest), np.load(board.home / "input.npy")
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    assert found.tobytes() == wanted.tobytes()


@pytest.fixture(scope="module", params=NETWORKS)
def board(request, tmp_path_factory):
    """This machine with the bundle of a network that takes an image."""
    folder = tmp_path_factory.mktemp("network")
    return unpacked(packed(plain_network(folder, **NETWORKS[request.param]), folder), tmp_path_factory.mktemp("x"), [])


@pytest.mark.parametrize("size", [(48, 32), (47, 32), (48, 131), (20, 11), (1, 1), (311, 7), (96, 64), (640, 480)])
def test_images_are_resized_and_scaled_alike(board, tmp_path, size):
    Image.fromarray(noise(size[1], size[0])).save(tmp_path / "x.ppm")
    check_input(board, tmp_path / "x.ppm")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1"])
def test_kinds_of_png(here, tmp_path, mode):
    picture_of(mode).save(tmp_path / "x.png")
    check_input(here, tmp_path / "x.png")


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_palettes_of_few_bits(here, tmp_path, bits):
    picture_of("RGB").quantize(2**bits).save(tmp_path / "x.png", bits=bits)
    assert (tmp_path / "x.png").read_bytes()[24] == bits
    check_input(here, tmp_path / "x.png")


@pytest.mark.parametrize(
    "how",
    [
        {"compress_level": 0},
        {"compress_level": 9},
        {"compress_type": zlib.Z_FIXED},
        {"compress_type": zlib.Z_HUFFMAN_ONLY},
    ],
    ids=str,
)
def test_ways_to_deflate(here, tmp_path, how):
    pixels = noise(200, 300)
    pixels[50:150] = pixels[7]  # long and distant matches
    Image.fromarray(pixels).save(tmp_path / "x.png", **how)
    check_input(here, tmp_path / "x.png")


def test_grey_pgm_with_a_comment(here, tmp_path):
    (tmp_path / "x.pgm").write_bytes(b"P5 # made by hand\n 30\t20 # columns, rows\n255\n" + noise(20, 30, 1).tobytes())
    check_input(here, tmp_path / "x.pgm")


def test_logits_become_the_classes_of_run(tmp_path):
    """Ties go to the first class, and a NaN is greater than all."""
    logits = np.random.default_rng(0).integers(-3, 4, (1, 5, 16, 24)).astype(np.float32)
    logits[0, 2, 3, 4] = logits[0, 1, 5, 6] = logits[0, 4, 5, 6] = np.nan
    np.save(tmp_path / "x.npy", logits)
    home = tmp_path / "board"
    home.mkdir()
    board = unpacked(packed(plain_network(tmp_path, logits.shape), tmp_path), home, [])
    assert board.runner(tmp_path / "x.npy", "-o", "x.png", "--repeat", 1).returncode == 0
    assert np.array_equal(np.asarray(Image.open(home / "x.png")), run.class_map(logits + logits))


def test_many_classes_have_16_bits(tmp_path):
    classes = np.arange(1, 501).reshape(1, 20, 25)
    np.save(tmp_path / "x.npy", classes)
    home = tmp_path / "board"
    home.mkdir()
    board = unpacked(packed(plain_network(tmp_path, classes.shape, "int64"), tmp_path), home, [])
    assert board.runner(tmp_path / "x.npy", "-o", "x.png", "--repeat", 1).returncode == 0
    assert np.array_equal(np.asarray(Image.open(home / "x.png")), 2 * classes[0])


def test_threads_are_those_that_were_asked_for(here, picture):
    for count in range(1, targets.available_cpus() + 1):
        done = here.runner(picture, "--threads", count, "--repeat", 2)
        assert f", {count} thread{'s' if count > 1 else ''}\n" in done.stdout


# --- mistakes ---------------------------------------------------------------------------------------------------------


def check_error(done, pattern):
    """One line on stderr, exit code 2, nothing on stdout."""
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert re.search(pattern, done.stderr), done.stderr


def damaged_png(path, change):
    picture_of("RGB").save(path)
    path.write_bytes(change(path.read_bytes()))


def save_turned(path):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation
    picture_of("RGB").save(path, exif=exif)


def flipped(data):
    return data[:200] + bytes([data[200] ^ 1]) + data[201:]


def other(data, name, place, content):
    """A PNG with other bytes at a place of a chunk, under a right checksum."""
    at = data.index(name)
    end = at + 4 + int.from_bytes(data[at - 4 : at], "big")
    chunk = data[at : at + 4 + place] + content + data[at + 4 + place + len(content) : end]
    return data[:at] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + data[end + 4 :]


IMAGES = {
    "text.png": (lambda path: path.write_text("hello"), "is no image that can be read here; accepted are PNG"),
    "photo.jpg": (lambda path: picture_of("RGB").save(path), "djpeg photo.jpg > photo.ppm"),
    "short.png": (lambda path: damaged_png(path, lambda data: data[:3000]), "is damaged: it is cut short"),
    "flipped.png": (lambda path: damaged_png(path, flipped), "is damaged: a checksum does not match"),
    "wrong.png": (
        lambda path: damaged_png(path, lambda data: other(data, b"IDAT", 40, b"\xff" * 400)),
        "is damaged: its pixels do not decode",
    ),
    "odd.png": (
        lambda path: damaged_png(path, lambda data: other(data, b"IHDR", 9, b"\5")),
        "is damaged: its pixels are of no known kind",
    ),
    "interlaced.png": (
        lambda path: damaged_png(path, lambda data: other(data, b"IHDR", 12, b"\1")),
        "is interlaced; save it without that",
    ),
    "deep.png": (lambda path: Image.fromarray(noise(4, 4, 1).astype(np.uint16)).save(path), "has 16 bits a channel"),
    "exif.png": (save_turned, "has EXIF data, which may turn it"),
    "short.ppm": (lambda path: path.write_bytes(b"P6 4 4 255\n123"), "is damaged: it is cut short"),
    "large.ppm": (lambda path: path.write_bytes(b"P6 99999 99999 255\n"), "is 99999 x 99999 pixels; from 1 to 1789"),
    "none.ppm": (lambda path: path.write_bytes(b"P6 x"), "pixels; from 1 to"),
    "deep.ppm": (lambda path: path.write_bytes(b"P6 4 4 1023\n"), "has values up to 1023"),
    "empty.png": (lambda path: path.write_bytes(b""), "is no image"),
    "folder.png": (lambda path: path.mkdir(), "cannot read .*Is a directory"),
    "missing.png": (lambda path: None, "cannot read .*No such file"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images_that_cannot_be_read(here, tmp_path, name):
    make, message = IMAGES[name]
    make(tmp_path / name)
    check_error(here.runner(tmp_path / name), message)


TENSORS = {
    "double.npy": (np.zeros((1, 3, 16, 24)), r"'<f4'.*'shape':\(1,3,16,24\).*has .*'<f8'"),
    "small.npy": (np.zeros((1, 3, 16, 23), np.float32), r"has .*\(1,3,16,23\)"),
    "fortran.npy": (np.asfortranarray(np.ones((1, 3, 16, 24), np.float32)), "has .*'fortran_order':True"),
    "archive.npy": (b"PK\x03\x04 and more than twelve", "is no .npy file"),
    "short.raw": (b"\0" * 4607, r"input 'x' is float32 \[1, 3, 16, 24\], 4608 bytes, and .* has 4607"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_that_do_not_fit(here, tmp_path, name):
    content, message = TENSORS[name]
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        np.save(tmp_path / name, content)
    check_error(here.runner(tmp_path / name), message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no input was named; ./run --help"),
        (["a.png", "b.png"], "found 2 inputs; the network takes 1"),
        (["a.png", "--thread", "2"], "unknown option --thread"),
        (["a.png", "--threads"], "--threads needs a value"),
        (["a.png", "--threads", "two"], "found --threads 'two'; a whole number"),
        (["a.png", "--repeat", "0"], "found --repeat '0'; a whole number"),
        (["a.png", "-o", "out.jpg"], "cannot write out.jpg; accepted are .png, .npy and .raw"),
        (["a.png", "--save-input", "out.png"], "cannot write out.png; accepted are .npy and .raw"),
    ],
)
def test_arguments(here, arguments, message):
    check_error(here.runner(*arguments), message)


def test_more_threads_than_cpus(here, picture):
    check_error(here.runner(picture, "--threads", 1000), r"found --threads 1000; from 1 to \d+")


def test_output_that_cannot_be_written(here, picture, tmp_path):
    (tmp_path / "folder.npy").mkdir()
    for place in ("none/x.png", "folder.npy"):
        done = here.runner(picture, "--save-input", tmp_path / place.replace("png", "npy"))
        check_error(done, "cannot write .*: (No such file|Is a directory)")
    assert sorted(os.listdir(tmp_path)) == ["folder.npy"]


def test_result_that_is_no_class_map(tmp_path):
    home = tmp_path / "board"
    home.mkdir()
    board = unpacked(packed(plain_network(tmp_path, (2, 3)), tmp_path), home, [])
    done = board.runner(board.folder / "example.npy", "-o", "x.png", "--repeat", 1)
    assert done.returncode == 2 and "returns float32 [2, 3], which is no class map" in done.stderr
    picture_of("RGB").save(tmp_path / "x.png")
    check_error(board.runner(tmp_path / "x.png"), r"takes no image, but float32 \[2, 3\]; give it as .npy or .raw")


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def lacking(path):
    network = json.loads(path.read_text())
    network["target"]["required_features"].append("avx4096")
    path.write_text(json.dumps(network))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("network.so", cut, "network.so is damaged; unpack the bundle again"),
        ("network.so", Path.unlink, "cannot read .*network.so: No such file"),
        ("network.json", cut, "network.json is damaged: "),
        ("network.json", Path.unlink, "cannot read .*network.json: No such file"),
        ("network.json", lambda path: path.write_text("{}"), "network.json is damaged: "),
        ("network.json", lacking, "compiled for .*, and this processor lacks avx4096; compile it again"),
        ("lib/libtvm_runtime.so", Path.unlink, "cannot load TVM's runtime: .*libtvm_runtime.so: cannot open"),
        ("lib/libtvm_ffi.so", lambda path: path.write_bytes(b"ELF"), "cannot load TVM's runtime: .*file too short"),
    ],
)
def test_bundles_that_lack_something(here, picture, tmp_path, name, damage, message):
    shutil.copytree(here.folder, tmp_path / "bundle")
    damage(tmp_path / "bundle" / name)
    check_error(here.run(tmp_path / "bundle" / "run", picture), message)


def test_another_processor_is_told_before_it_can_crash(tmp_path, image, picture):
    emulator.need()
    archive = packed(segmenter("llvm -mcpu=cortex-a76", image, tmp_path), tmp_path)
    home = tmp_path / "board"
    home.mkdir()
    board = unpacked(archive, home, EMULATOR)
    check_error(board.runner(picture), "compiled for cortex-a76, and this processor lacks asimddp, ")
    board.by = [word.replace("cortex-a72", "cortex-a76") for word in EMULATOR]
    assert board.runner(picture, "--repeat", 1).returncode == 0


def test_board_without_a_c_plus_plus_library(arm_bundle, picture, tmp_path):
    """An emulated system that has nothing but the C library."""
    libraries = tmp_path / "system" / "lib"
    libraries.mkdir(parents=True)
    for path in (processor.SYSTEM / "lib").iterdir():
        if not path.name.startswith("libstdc++"):
            (libraries / path.name).symlink_to(path)
    home = tmp_path / "board"
    home.mkdir()
    bare = [word.replace(str(processor.SYSTEM), str(tmp_path / "system")) for word in EMULATOR]
    board = unpacked(arm_bundle, home, bare)
    check_error(board.runner(picture), r"runtime: libstdc\+\+.so.6: .*; try: sudo apt-get install libstdc\+\+6")


def test_runner_knows_the_features_that_artifacts_ask_for():
    (row,) = (arch for arch in targets.ARCHES if arch.name == "aarch64")
    source = runner.sources()["cpu.h"].decode()
    known = set(re.findall(r'\{"(\w+)", AT_HWCAP', source))
    assert known == set(row.flags.values())
