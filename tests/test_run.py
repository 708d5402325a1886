"""The run command and what all commands share: pixels in, painted image out, one line for every error."""

import io
import re
import subprocess
import sys

import numpy as np
import pytest
import tvm
from PIL import Image
from tvm import relax

from tvm_bnn import artifact, console, linker, run, runtime
from tvm_bnn.errors import InputError, OutputError
from tvm_bnn.targets import host

SIZE = (8, 16)


def save_network(folder, shape=(1, 3, *SIZE), output="classes", **manifest):
    """A network whose class is the brightest of three channels; `output` "logits" leaves the argmax out."""
    target = host(threads=1)
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(shape, "float32"))
    with builder.function("main", [x]):
        result = builder.emit(relax.op.multiply(x, relax.const(2.0, "float32")))
        if output == "classes":
            result = builder.emit(relax.op.argmax(result, axis=1))
        builder.emit_func_output(result)
    library = folder / "library.so"
    tvm.compile(builder.get(), target=target.tvm()).export_library(
        str(library), fcompile=linker.fcompile(target.triple)
    )
    row = {"name": "x", "shape": list(shape), "dtype": "float32", "layout": "NCHW"}
    made = artifact.new_manifest("brightest", [row], [], target.manifest(), **manifest)
    path = folder / f"{output}.bnn"
    runtime.Artifact(library.read_bytes(), made).save(path)
    library.unlink()
    return path


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    names = {"class_names": ["red things", "green things", "blue things"], "palette": [(9, 0, 0), (0, 9, 0), (0, 0, 9)]}
    return {"classes": save_network(folder, **names), "logits": save_network(folder, output="logits")}


@pytest.fixture
def picture(tmp_path):
    """A picture of 64 x 40 pixels: left half red, right half blue."""
    pixels = np.zeros((40, 64, 3), np.uint8)
    pixels[:, :32, 0] = pixels[:, 32:, 2] = 200
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    return path


def command(capsys, *arguments):
    """Exit code, stdout and stderr of the command."""
    code = run.main([str(item) for item in arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_classes_are_painted_over_the_picture(networks, picture, tmp_path, capsys):
    out = tmp_path / "out.png"
    code, said, errors = command(capsys, networks["classes"], picture, "-o", out, "--repeat", 3, "--threads", 1)
    assert (code, errors) == (0, "")
    painted = np.asarray(Image.open(out))
    assert painted.shape == (40, 64, 3)
    # half of [200, 0, 0] and [9, 0, 0], and of [0, 0, 200] and [0, 0, 9]
    assert painted[20, 4].tolist() == [104, 0, 0] and painted[20, 60].tolist() == [0, 0, 104]
    assert re.search(r"brightest: \d+\.\d\d ms \(median of 3; .*\), 1 thread$", said, flags=re.MULTILINE)
    shares = dict(re.findall(r"(\w+) things +(\d+\.\d) %", said))
    assert shares == {"red": "50.0", "green": "0.0", "blue": "50.0"}
    assert f"written to {out}" in said


def test_logits_give_the_same_classes(networks, picture, tmp_path, capsys):
    code, said, _ = command(capsys, networks["logits"], picture, "-o", tmp_path / "out.png", "--repeat", 1)
    assert code == 0
    shares = re.findall(r"class (\d) +(\d+\.\d) %", said)
    assert shares == [("0", "50.0"), ("1", "0.0"), ("2", "50.0")]


def manifest(shape=(1, 3, 2, 2), dtype="float32", layout="NCHW", **fields):
    row = {"name": "x", "shape": list(shape), "dtype": dtype, "layout": layout}
    return artifact.new_manifest("net", [row], [], {}, **fields)


def test_preprocessing_of_the_manifest():
    image = Image.new("RGB", (4, 4), (255, 51, 0))
    plain = run.prepare(image, manifest())
    assert plain.shape == (1, 3, 2, 2) and plain.dtype == np.float32
    np.testing.assert_allclose(plain[0, :, 0, 0], [1, 0.2, 0], rtol=1e-6)
    scaled = run.prepare(
        image, manifest(preprocessing={"scale": 1 / 255, "mean": [0.5, 0.4, 0.3], "std": [0.5, 0.1, 2.0]})
    )
    np.testing.assert_allclose(scaled[0, :, 1, 1], [1, -2, -0.15], rtol=1e-5)


def test_layouts_dtypes_and_free_sizes():
    image = Image.new("RGB", (4, 6), (255, 51, 0))
    assert run.prepare(image, manifest((1, 2, 3, 3), layout="NHWC")).shape == (1, 2, 3, 3)
    assert run.prepare(image, manifest((None, 3, None, None))).shape == (1, 3, 6, 4)
    raw = run.prepare(image, manifest(dtype="uint8"))
    assert raw.dtype == np.uint8 and raw[0, :, 0, 0].tolist() == [255, 51, 0]
    assert run.prepare(image, manifest((1, 1, 2, 2), dtype="uint8"))[0, 0, 0, 0] == round(0.299 * 255 + 0.587 * 51)


@pytest.mark.parametrize("shape", [(1, 3, 4), (2, 3, 4, 4), (1, 64, 4, 4)])
def test_a_network_that_takes_no_image(shape):
    with pytest.raises(InputError, match=r"net takes float32 \[.*only a network of one image"):
        run.prepare(Image.new("RGB", (4, 4)), manifest(shape))


def test_class_map_of_every_kind():
    logits = np.array([[[[1.0, -3.0]], [[0.0, 5.0]]]], np.float32)
    assert run.class_map(logits).tolist() == [[0, 1]]
    assert run.class_map((logits, logits + 1)).tolist() == [[0, 1]]
    assert run.class_map(logits[:, :1]).tolist() == [[1, 0]]
    assert run.class_map(np.array([[[3, 4]]], np.uint8)).tolist() == [[3, 4]]
    assert run.class_map(np.array([[[[3, 4]]]], np.int64)).tolist() == [[3, 4]]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (np.zeros((1, 10), np.float32), r"net returns float32 \[1, 10\]; a class map"),
        (np.zeros((2, 3, 4), np.int64), r"net returns int64 \[2, 3, 4\]; a class map"),
        (np.full((1, 1, 2), -1), "net returns classes from -1 to -1; 0 to 65535 can be painted"),
        ((), r"net returns float64 \[0\]"),
    ],
)
def test_outputs_that_cannot_be_painted(output, message):
    with pytest.raises(InputError, match=message):
        run.class_map(output, "net")


def test_palette_keeps_what_is_given_and_repeats_no_colour():
    colours = run.palette(20, [(1, 2, 3), (230, 159, 0)])
    assert colours.shape == (20, 3) and colours.dtype == np.uint8
    assert colours[:2].tolist() == [[1, 2, 3], [230, 159, 0]]
    assert len({tuple(colour) for colour in colours.tolist()}) == 20
    assert run.palette(300).shape == (300, 3)


def test_pictures_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "turned.jpg", exif=exif)
    assert run.read_image(tmp_path / "turned.jpg").size == (4, 8)


def test_unreadable_pictures(picture, tmp_path):
    with pytest.raises(InputError, match=r"there is no image .*none\.png"):
        run.read_image(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(InputError, match=r"text\.png is no image that can be read; accepted are PNG"):
        run.read_image(tmp_path / "text.png")
    picture.write_bytes(picture.read_bytes()[:60])
    with pytest.raises(InputError, match=r"picture\.png cannot be read: .*truncated"):
        run.read_image(picture)
    with pytest.raises(InputError, match=r"cannot be read: .*directory"):
        run.read_image(tmp_path)


def test_unwritable_output(tmp_path):
    image = Image.new("RGB", (2, 2))
    with pytest.raises(OutputError, match=r"'\.xyz' is no image format; try OUT\.png"):
        run.save_image(image, tmp_path / "out.xyz")
    with pytest.raises(OutputError, match=r"cannot write .*No such file or directory"):
        run.save_image(image, tmp_path / "no" / "out.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.png", "out.jpg", "out.tiff", "out.webp"])
def test_every_common_format_is_written(tmp_path, name):
    run.save_image(Image.new("RGB", (4, 2), (7, 7, 7)), tmp_path / name)
    assert Image.open(tmp_path / name).size == (4, 2)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_errors_are_one_line_and_nothing_is_written(networks, picture, tmp_path, capsys):
    damaged = tmp_path / "damaged.bnn"
    damaged.write_bytes(networks["classes"].read_bytes()[:-1])
    out = tmp_path / "out.png"
    cases = [
        ((tmp_path / "none.bnn", picture, "-o", out), "cannot read the artifact .*none.bnn: No such file"),
        ((damaged, picture, "-o", out), "is cut short"),
        ((picture, picture, "-o", out), "picture.png is no compiled network"),
        ((networks["classes"], damaged, "-o", out), "is no image that can be read"),
        ((networks["classes"], picture, "-o", tmp_path / "out.xyz"), "is no image format"),
        ((networks["classes"], picture), "the following arguments are required: -o/--output; .* --help shows"),
        ((networks["classes"], picture, "-o", out, "--repeat", "0"), "found '0'; a whole number from 1 up"),
        ((networks["classes"], picture, "-o", out, "--threads", "9999"), "found 9999 threads; from 1 to"),
    ]
    for arguments, message in cases:
        code, said, errors = command(capsys, *arguments)
        assert (code, said) == (2, "")
        assert re.fullmatch(f"error: .*{message}.*\n", errors), errors
    assert not out.exists()


def test_as_a_command_of_the_shell(networks, picture, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tvm_bnn.run", networks["classes"], picture, "-o", tmp_path / "out.png"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "median of 10" in done.stdout and (tmp_path / "out.png").exists()


# --- the console ------------------------------------------------------------------------------------------------


def test_guard_returns_the_exit_code():
    assert console.main_guard(lambda: None)() == 0
    assert console.main_guard(lambda code: code)(7) == 7


def test_guard_puts_an_error_on_one_line(capsys):
    def fail():
        raise InputError("found this;\n  try that")

    assert console.main_guard(fail)() == 2
    assert capsys.readouterr() == ("", "error: found this; try that\n")


def test_guard_ends_quietly_on_interruption(capsys):
    def interrupt():
        raise KeyboardInterrupt

    assert console.main_guard(interrupt)() == 130
    assert capsys.readouterr() == ("", "interrupted\n")


def test_guard_lets_our_own_faults_through():
    def fault():
        raise ZeroDivisionError("ours")

    with pytest.raises(ZeroDivisionError, match="ours"):
        console.main_guard(fault)()


def test_progress_is_silent_without_a_terminal_and_adds_up_times(capsys):
    with console.Progress() as progress:
        with progress.phase("import") as detail:
            detail("one.operator")
        first = progress.seconds["import"]
        with progress.phase("import"):
            pass
        with pytest.raises(InputError, match="inside"), progress.phase("link"):
            raise InputError("inside")
    assert progress.seconds["import"] > first > 0 and progress.seconds["link"] > 0
    assert capsys.readouterr() == ("", "")


def test_progress_names_its_phases_on_a_terminal(monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown, hidden = io.StringIO(), io.StringIO()
    for file, quiet in ((shown, False), (hidden, True)):
        with console.Progress(quiet=quiet, file=file) as progress, progress.phase("schedule"):
            pass
    assert "schedule" in shown.getvalue() and "✓" in shown.getvalue()
    assert hidden.getvalue() == ""
