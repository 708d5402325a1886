"""What users get wrong, through the commands: one line that says what to do, exit code 2, and nothing left behind.

The command's own arguments are in test_compile.py and test_run.py, every kind of damage in test_artifact.py; here are
the cases that need a whole program: files made by one command and read by another, a full disk, an interruption.
"""

import importlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tvm_bnn
from tvm_bnn import compile as compile_command
from tvm_bnn import interrupt, run
from tvm_bnn.errors import InputError
from tvm_bnn.interrupt import held_back

HERE = Path(__file__).resolve().parent
# a folder that exists, and in which not even root can make a file
NOT_WRITABLE = "/proc"
FOREIGN_TARGET = "llvm -mcpu=cortex-a72"
NET = "user_networks:net"


@pytest.fixture(autouse=True)
def users_folder(monkeypatch, tmp_path):
    """An empty folder of the user's own, from which `user_networks` can be imported."""
    monkeypatch.syspath_prepend(str(HERE / "frontend"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What a user has at hand: artifacts for this machine and for a board, and an image."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE / "frontend"))
        assert compile_command.main([NET, "-o", str(folder / "net.bnn"), "--threads", "1"]) == 0
        assert compile_command.main([NET, "-o", str(folder / "board.bnn"), "--target", FOREIGN_TARGET]) == 0
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "image.png")
    return folder


def check_one_line(errors: str, message: str) -> None:
    assert errors.startswith("error: ") and errors.count("\n") == 1 and errors.endswith("\n"), errors
    assert message in errors, errors


def check_mistake(capfd, main, arguments, message):
    """The command refuses these arguments with one line that holds the message, and leaves the folder as it was."""
    before = sorted(os.listdir())
    code = main([str(item) for item in arguments])
    captured = capfd.readouterr()
    assert code == 2
    check_one_line(captured.err, message)
    assert sorted(os.listdir()) == before


def user(*command, **options):
    """A command in a process of its own, which finds the user's modules and keeps temporary files in ./tmp."""
    Path("tmp").mkdir(exist_ok=True)
    path = os.pathsep.join(str(entry) for entry in (HERE / "frontend", os.environ.get("PYTHONPATH")) if entry)
    environment = {**os.environ, "PYTHONPATH": path, "TMPDIR": str(Path("tmp").resolve())}
    # PyTorch makes a folder for a cache of its own, which is no concern of these tests
    environment["TORCHINDUCTOR_CACHE_DIR"] = tempfile.gettempdir()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([str(item) for item in command], text=True, env=environment, **pipes, **options)


# --- models ------------------------------------------------------------------------------------------------------


def save_zip():
    import zipfile

    with zipfile.ZipFile("model.pt2", "w") as file:
        file.writestr("readme.txt", "an archive of something else")


@pytest.mark.parametrize(
    ("prepare", "model", "message"),
    [
        (None, "nowhere:net", "there is no package nowhere"),
        (None, "tvm_bnn.examples.ding2042:demo", "did you mean ding2024?"),
        (None, "examples.ding2024:dmo", "did you mean demo"),
        (None, "user_networks:needs", "needs the arguments dataset"),
        (None, "user_networks:fails", "ValueError: no such data set"),
        (None, "user_networks:number", "gives something of type int"),
        (None, "user_networks:WrongInputs", "to have 3 channels, but got 4"),
        (lambda: Path("model.pt2").write_bytes(b""), "model.pt2", "is empty"),
        (lambda: Path("model.pt2").write_bytes(os.urandom(64)), "model.pt2", "model.pt2"),
        (lambda: Path("model.pt2").mkdir(), "model.pt2", "model.pt2"),
        (save_zip, "model.pt2", "model.pt2"),
        (lambda: torch.save(torch.nn.ReLU(), "model.pt2"), "model.pt2", "torch.export.save"),
    ],
)
def test_models_that_are_none(prepare, model, message, capfd):
    if prepare:
        prepare()
    check_mistake(capfd, compile_command.main, [model], message)


def test_a_state_dict_is_no_model_and_says_where_it_belongs(capfd):
    torch.save(torch.nn.Conv2d(3, 4, 3).state_dict(), "trained.pt")
    check_mistake(capfd, compile_command.main, ["trained.pt"], "--weights")


def test_operator_without_an_import_is_named_with_its_module(capfd):
    check_mistake(capfd, compile_command.main, ["user_networks:Rare"], "aten.i0.default (in inner)")


# --- targets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "messages"),
    [
        ("llvm -mcpu=cortex-a27", ["cortex-a27", "did you mean cortex-a"]),
        ("llvm -mcpu=znver44", ["znver44", "did you mean znver4"]),
        ("cuda2", ["cuda2", "llvm"]),
        ("llvm -mtriple=riscv64-linux-gnu -mattr=+v", ["riscv64", "aarch64-linux-gnu"]),
        ("llvm -mcpu", ["-mcpu"]),
        ("", ["target"]),
        ('{"kind": "llvm", ', ["JSON"]),
    ],
)
def test_targets_that_are_none(target, messages, capfd):
    for message in messages:
        check_mistake(capfd, compile_command.main, [NET, "--target", target], message)


# --- artifacts ---------------------------------------------------------------------------------------------------


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut, "is cut short"),
        (flip, "is damaged"),
        (lambda content: b"PK\x03\x04" + content, "is no compiled network"),
        (lambda content: b"", "is cut short"),
    ],
)
def test_artifacts_that_are_not_whole(made, change, message, capfd):
    Path("net.bnn").write_bytes(change((made / "net.bnn").read_bytes()))
    check_mistake(capfd, run.main, ["net.bnn", made / "image.png", "-o", "out.png"], message)


def test_artifact_for_another_cpu(made, capfd):
    arguments = [made / "board.bnn", made / "image.png", "-o", "out.png"]
    check_mistake(capfd, run.main, arguments, "compiled for cortex-a72 (aarch64")


# --- inputs of a network -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [("text.png", b"this is no image"), ("empty.jpg", b""), ("net.png", None)],
)
def test_images_that_are_none(made, name, content, capfd):
    Path(name).write_bytes((made / "net.bnn").read_bytes() if content is None else content)
    check_mistake(capfd, run.main, [made / "net.bnn", name, "-o", "out.png"], f"{name} is no image that can be read")


def test_image_that_is_cut_short(made, capfd):
    Path("cut.png").write_bytes(cut((made / "image.png").read_bytes()))
    check_mistake(capfd, run.main, [made / "net.bnn", "cut.png", "-o", "out.png"], "cut.png cannot be read")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.zeros(1, 3, 16, 17), r"wrong shape: found float32 \[1, 3, 16, 17\], expected float32 \[1, 3, 16, 16\]"),
        (torch.zeros(1, 3, 16, 16, dtype=torch.float64), r"wrong dtype: found float64 .*, expected float32 "),
        (torch.zeros(3, 16, 16), r"wrong rank: found float32 \[3, 16, 16\], expected float32 \[1, 3, 16, 16\]"),
        (np.zeros((1, 16, 16, 3), np.float32), r"wrong shape: .*\(NCHW\)"),
    ],
)
def test_wrong_input_of_a_loaded_network(made, given, message):
    network = tvm_bnn.load(made / "net.bnn")
    with pytest.raises(InputError, match=message) as caught:
        network(given)
    assert "\n" not in str(caught.value)
    # and it runs on
    assert network(torch.zeros(1, 3, 16, 16)).shape == (1, 8, 16, 16)


# --- places to write to ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["-o", "--json", "--dump-ir"])
def test_compile_where_nothing_can_be_written(option, capfd):
    check_mistake(capfd, compile_command.main, [NET, option, f"{NOT_WRITABLE}/made"], f"{NOT_WRITABLE}/made")


def test_run_where_nothing_can_be_written(made, capfd):
    for place in (f"{NOT_WRITABLE}/out.png", "none/out.png"):
        check_mistake(capfd, run.main, [made / "net.bnn", made / "image.png", "-o", place], f"cannot write {place}")


def limited(module, *arguments, bytes):
    """A command whose files cannot grow beyond a size, which to the program is a disk without room."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes, bytes))

    return user(sys.executable, "-m", module, *arguments, preexec_fn=limit)


@pytest.mark.parametrize("bytes", [0, 20_000])
def test_compile_on_a_full_disk(bytes):
    process = limited("tvm_bnn.compile", NET, bytes=bytes)
    _, errors = process.communicate()
    assert process.returncode == 2, errors
    check_one_line(errors, "emporary")
    assert os.listdir() == ["tmp"] and os.listdir("tmp") == []


def test_run_on_a_full_disk(made):
    process = limited("tvm_bnn.run", made / "net.bnn", made / "image.png", "-o", "out.png", bytes=0)
    _, errors = process.communicate()
    assert process.returncode == 2, errors
    check_one_line(errors, "cannot unpack the compiled code")
    assert os.listdir() == ["tmp"] and os.listdir("tmp") == []


def test_compile_to_a_full_disk():
    """A real one: temporary files have room, the output has not."""
    mounts = ["unshare", "--user", "--map-root-user", "--mount"]
    probe = subprocess.run([*mounts, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip(f"no small disk can be mounted here: {probe.stderr.decode().strip()}")
    Path("disk").mkdir()
    script = (
        f"mount -t tmpfs -o size=8k none disk && {sys.executable} -m tvm_bnn.compile {NET} -o disk/net.bnn; "
        "code=$?; ls -A disk; exit $code"
    )
    process = user(*mounts, "sh", "-c", script)
    said, errors = process.communicate()
    assert (process.returncode, said) == (2, ""), errors
    check_one_line(errors, "cannot write disk/net.bnn: No space left on device")


# --- Ctrl-C ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["import", "build", "link"])
def test_interrupted_compilation_cleans_up(phase):
    """In a phase the user presses Ctrl-C, which reaches the whole group of processes."""
    script = (
        "import contextlib, os, signal, sys\n"
        "from tvm_bnn import compile, console\n"
        "phase = console.Progress.phase\n"
        "@contextlib.contextmanager\n"
        "def watched(self, name):\n"
        "    with phase(self, name) as detail:\n"
        f"        name == {phase!r} and print('now', flush=True)\n"
        "        yield detail\n"
        "console.Progress.phase = watched\n"
        f"sys.exit(compile.main(['{NET}', '-o', 'net.bnn']))\n"
    )
    process = user(sys.executable, "-c", script, start_new_session=True)
    assert process.stdout.readline() == "now\n"
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "interrupted\n")
    assert os.listdir() == ["tmp"] and os.listdir("tmp") == []


@pytest.mark.parametrize(
    ("module", "arguments", "loading"),
    [
        ("tvm_bnn.compile", [NET, "-o", "net.bnn"], "rich."),
        ("tvm_bnn.report", ["-o", "page"], "rich."),
        ("tvm_bnn.compile", [NET, "-o", "net.bnn"], "numpy."),
        ("tvm_bnn.compile", [NET, "-o", "net.bnn"], "torch."),
        ("tvm_bnn.examples.ding2024.show", ["-o", "demo"], "numpy."),
        ("tvm_bnn.examples.ding2024.show", ["-o", "demo"], "torch."),
        ("tvm_bnn.run", ["net.bnn", "x.png", "-o", "out.png"], "tvm."),
    ],
)
def test_interrupted_while_modules_load(module, arguments, loading):
    """In the midst of a package that takes long to load and does not bear interruptions."""
    process = user(sys.executable, "-X", "importtime", "-m", module, *arguments)
    # -X importtime writes a line behind each module, and a package comes after its parts
    for line in process.stderr:
        if line.rpartition("|")[2].strip().startswith(loading):
            break
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=120)
    errors = [line for line in errors.splitlines() if not line.startswith("import time:")]
    assert (process.returncode, said, errors) == (130, "", ["interrupted"])
    assert os.listdir() == ["tmp"] and os.listdir("tmp") == []


def test_every_guarded_command_is_known():
    """To what handles Ctrl-C while a command is loaded; other programs keep their own handler."""
    root = Path(tvm_bnn.__file__).parent
    examples = Path(importlib.import_module("tvm_bnn.examples").__path__[0])
    guarded = {f"tvm_bnn.{_module(path, root)}" for path in root.rglob("*.py") if "\n@main_guard" in path.read_text()}
    guarded |= {
        f"tvm_bnn.examples.{_module(path, examples)}"
        for path in examples.rglob("*.py")
        if "\n@main_guard" in path.read_text()
    }
    assert guarded == set(interrupt.COMMANDS)


def _module(path, root):
    return str(path.relative_to(root).with_suffix("")).removesuffix("/__main__").replace("/", ".")


def test_a_program_that_imports_the_package_keeps_its_handler():
    """Also one that is called as a module, and one with the arguments of a command."""
    Path("mine").mkdir()
    Path("mine/__init__.py").write_text("import tvm_bnn\n")
    program = "import signal, tvm_bnn.console\nprint(signal.getsignal(signal.SIGINT) is signal.default_int_handler)\n"
    Path("mine/main.py").write_text(program)
    for arguments in (["-m", "mine.main"], ["mine/main.py", "-m", "tvm_bnn.compile"]):
        said, _ = user(sys.executable, *arguments).communicate()
        assert said == "True\n"


def test_nothing_is_held_back_outside_the_main_thread():
    def load():
        with held_back():
            return "loaded"

    with ThreadPoolExecutor() as pool:
        assert pool.submit(load).result() == "loaded"


def test_an_interruption_is_held_back_and_comes_after():
    reached = False
    with pytest.raises(KeyboardInterrupt), held_back():
        signal.raise_signal(signal.SIGINT)
        reached = True
    assert reached and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_reader_that_goes_away_is_no_fault():
    """`... | head`: no traceback, no message."""
    command = [sys.executable, "-m", "tvm_bnn.report", "schema"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == ("", 141)
