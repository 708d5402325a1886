"""`tvm_bnn.compile` as function and as command."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import tvm
from PIL import Image

import tvm_bnn
from tvm_bnn import compiler, explain
from tvm_bnn.compile import FLOAT_PRECISION, SHIPPED, main
from tvm_bnn.errors import InputError, TargetError, UnsupportedError
from tvm_bnn.frontend.source import load_source
from tvm_bnn.relay_passes.float_precision import PRECISIONS
from tvm_bnn.summary import print_summary

HERE = Path(__file__).resolve().parent
IMAGE = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def users_folder(monkeypatch, tmp_path):
    """A folder of the user's own, from which `user_networks` can be imported."""
    monkeypatch.syspath_prepend(str(HERE / "frontend"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def networks():
    import importlib

    return importlib.import_module("user_networks")


def run_python(*arguments, **environment):
    path = os.pathsep.join(str(entry) for entry in (HERE / "frontend", os.environ.get("PYTHONPATH")) if entry)
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, **environment},
        check=False,
    )


# --- one name, two things ---------------------------------------------------------------------------------------


def test_import_is_cheap_and_the_name_is_one():
    done = run_python(
        "-W",
        "error",
        "-c",
        "import sys, tvm_bnn\n"
        "heavy = {'torch', 'tvm', 'numpy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "from tvm_bnn import compile\n"
        "import tvm_bnn.compile\n"
        "assert compile is tvm_bnn.compile is sys.modules['tvm_bnn.compile'] and callable(compile)\n"
        "assert not {'torch', 'tvm'} & set(sys.modules)\n"
        "assert {'Artifact', 'compile', 'load'} <= set(dir(tvm_bnn))\n"
        "tvm_bnn.load, tvm_bnn.Artifact\n"
        "assert 'tvm_bnn.compiler' not in sys.modules and 'tvm_bnn.lower' not in sys.modules\n",
    )
    assert done.returncode == 0, done.stderr


def test_signature_is_the_functions():
    parameters = list(inspect.signature(tvm_bnn.compile).parameters)
    assert parameters[:5] == ["model", "example_inputs", "target", "threads", "sign_zero"]
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        tvm_bnn.nothing


def test_command_raises_no_warning():
    done = run_python("-W", "error", "-m", "tvm_bnn.compile", "user_networks:net", "-o", "made.bnn")
    assert (done.returncode, done.stderr) == (0, "")
    assert "written to made.bnn" in done.stdout
    assert tvm_bnn.load("made.bnn").manifest["name"] == "net"


# --- the function -----------------------------------------------------------------------------------------------


def test_artifact_computes_the_model(networks):
    model = networks.net()
    artifact = tvm_bnn.compile(model, IMAGE, threads=1)
    assert isinstance(artifact, tvm_bnn.Artifact)
    torch.testing.assert_close(artifact(IMAGE), model(IMAGE), rtol=1e-5, atol=1e-5)
    assert artifact.threads == 1 and artifact.manifest["target"]["threads"] == 1


def test_manifest(networks):
    manifest = tvm_bnn.compile(networks.Pair().eval(), name="scenes").manifest
    assert manifest["name"] == "scenes"
    assert manifest["inputs"] == [{"name": "image", "shape": [1, 3, 16, 16], "dtype": "float32", "layout": "NCHW"}]
    assert [(row["shape"], row["dtype"]) for row in manifest["outputs"]] == [
        ([1, 8, 16, 16], "float32"),
        ([1, 16, 16], "int64"),
    ]
    assert manifest["preprocessing"] == networks.Net.preprocessing
    assert manifest["class_names"] == ["sky", "road"]
    assert manifest["palette"] == [[0, 0, 255], [90, 90, 90]]
    logits, classes = manifest["check"]["outputs"]
    assert logits["elements"] == 8 * 256 and 0 <= logits["max_rel"] < 1e-5
    assert classes == {"elements": 256, "agreement": 1.0}


def test_tuples_and_numpy_come_back_as_they_went(networks):
    model = networks.Pair().eval()
    logits, classes = tvm_bnn.compile(model, IMAGE)(IMAGE.numpy())
    assert isinstance(logits, np.ndarray) and np.array_equal(classes, model(IMAGE)[1].numpy())


def test_program_saved_by_another_process(tmp_path):
    """The source of the model exists only there."""
    home = tmp_path / "elsewhere"
    home.mkdir()
    (home / "their_model.py").write_text((HERE / "frontend" / "user_networks.py").read_text())
    saved = "import torch, their_model as m; n = m.net(); x = n.example_inputs(); "
    saved += "torch.export.save(torch.export.export(n, (x,)), 'their.pt2'); torch.save(n(x), 'expected.pt')"
    done = run_python("-W", "ignore", "-c", saved, PYTHONPATH=str(home))
    assert done.returncode == 0, done.stderr
    artifact = tvm_bnn.compile("their.pt2")
    assert "their_model" not in sys.modules
    assert artifact.manifest["name"] == "their"
    assert [row["decision"] for row in artifact.explain()] == ["float", "binary"]
    image = load_source("their.pt2").inputs[0]
    torch.testing.assert_close(artifact(image), torch.load("expected.pt"), rtol=1e-5, atol=1e-5)


def test_training_mode_is_warned_of(networks):
    with pytest.warns(UserWarning, match="the model was in training mode; it is compiled in eval mode"):
        tvm_bnn.compile(networks.Net())


def test_sign_of_zero(networks):
    model = networks.BareSign().eval()
    with torch.no_grad():
        model.stem.weight.zero_()
        model.stem.bias.zero_()
    plus, minus = (tvm_bnn.compile(model, sign_zero=chosen)(IMAGE) for chosen in ("plus", "minus"))
    total = torch.sign(model.binary.weight.detach()).sum((1, 2, 3)).reshape(1, -1, 1, 1).expand_as(plus)
    assert torch.equal(plus, total) and torch.equal(minus, -total)
    exact = tvm_bnn.compile(model, sign_zero="exact")(IMAGE)
    assert torch.equal(exact, torch.zeros_like(exact)) and torch.equal(exact, model(IMAGE))
    with pytest.raises(InputError, match="found sign_zero='zero'; accepted are plus, minus, exact"):
        tvm_bnn.compile(model, sign_zero="zero")


def test_sign_of_zero_exact_where_none_is_guessed(networks):
    model = networks.net()
    exact, plus = (tvm_bnn.compile(model, sign_zero=chosen)(IMAGE) for chosen in ("exact", "plus"))
    assert torch.equal(exact, plus)


def test_explain_rows(networks):
    rows = tvm_bnn.compile(networks.net()).explain()
    keys = ["path", "op", "shape", "decision", "reason", "rule", "tuned", "macs", "advice", "planes", "epilogue"]
    keys += ["precision", "stays_fp32"]
    assert [list(row) for row in rows] == [keys] * 2
    stem, binary = rows
    assert (stem["path"], stem["op"], stem["decision"]) == ("stem", "conv2d", "float")
    assert stem["reason"] and "sign(weight)" in stem["advice"]
    assert stem["shape"] == "1x3x16x16 x 8x3x3x3" and stem["macs"] == 256 * 8 * 27
    assert (binary["path"], binary["decision"], binary["reason"], binary["advice"]) == ("binary", "binary", "", "")
    assert binary["planes"] == 1
    assert "conv2d" in stem["rule"] and "bconv2d" in binary["rule"]


def test_a_shared_layer_has_a_row_for_every_call(networks):
    rows = tvm_bnn.compile(networks.SharedLayer().eval()).explain()
    assert [(row["path"], row["shape"]) for row in rows] == [
        ("stem", "1x3x16x16 x 8x3x3x3"),
        ("binary", "1x8x16x16 x 8x8x3x3"),
        ("binary", "1x8x8x8 x 8x8x3x3"),
    ]
    assert all(row["rule"].startswith("bconv2d") for row in rows[1:])


def test_unknown_target_is_found_before_the_model_is_touched():
    with pytest.raises(TargetError, match="cortex-a72"):
        tvm_bnn.compile("missing.pt2", target="llvm -mcpu=cortex-a7e2")


# --- the command ------------------------------------------------------------------------------------------------


def test_the_shipped_network_for_a_raspberry_pi(capfd):
    assert main(["--target", "llvm -mcpu=cortex-a72"]) == 0
    out = capfd.readouterr().out
    assert f"no MODEL was given: this is the shipped example network, {SHIPPED}" in out
    assert "convolutions       30 binary, 2 float" in out
    assert "check              not run: this machine cannot run code for that target" in out
    assert os.listdir() == ["ding2024-cortex-a72.bnn"]
    with pytest.raises(tvm_bnn.BnnError, match=r"compiled for cortex-a72 \(aarch64"):
        tvm_bnn.load("ding2024-cortex-a72.bnn")


def test_summary_rows_json_times_and_dumps(capsys):
    arguments = ["user_networks:net", "-o", "net.bnn", "--threads", "1", "--explain", "--time-passes"]
    assert main([*arguments, "--json", "net.json", "--dump-ir", "ir/dump"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = captured.out.splitlines()
    # the table: a line a layer, reason included
    (stem, _) = tvm_bnn.load("net.bnn").explain()
    assert any(line.startswith("stem ") and stem["reason"] in line and stem["advice"] in line for line in lines)
    assert any(line.split()[0] == "ConvertBinary" for line in lines if line.strip())
    for phase in ("export", "import", "optimize", "lower", "schedule", "build", "link", "check"):
        assert any(line.split()[:1] == [phase] for line in lines), phase
    assert "net for " in captured.out and ", 1 thread\n" in captured.out
    assert "  convolutions       1 binary, 1 float" in lines
    assert "of them binary" in captured.out and "against PyTorch    largest difference" in captured.out
    assert lines[-1] == "written to net.bnn"

    written = json.loads(Path("net.json").read_text())
    assert written["version"] == explain.VERSION
    described = (HERE.parent / "docs" / "explain.md").read_text()
    for key in {*written, *written["layers"][0], *written["totals"], *written["check"], *written["target"]}:
        assert f"`{key}`" in described, key
    assert written["layers"] == tvm_bnn.load("net.bnn").explain()
    totals = written["totals"]
    macs = [row["macs"] for row in written["layers"]]
    assert totals["macs"] == sum(macs) and totals["binary_macs"] == macs[1]
    assert totals["binary_share"] == pytest.approx(macs[1] / sum(macs))
    assert totals["artifact_bytes"] == Path("net.bnn").stat().st_size
    assert written["check"]["outputs"][0]["max_rel"] < 1e-5

    dumps = sorted(path.name for path in Path("ir/dump").iterdir())
    assert [int(name.split("_")[0]) for name in dumps] == list(range(len(dumps)))
    stages = [name.split("_", 1)[1] for name in dumps]
    order = [stages.index(f"{name}.py") for name in ("import", "ConvertBinary", "lower", "schedule")]
    assert order == sorted(order) and order[0] == 0
    assert "bnn.bconv2d" in Path("ir/dump", dumps[order[1]]).read_text()


def test_weights_shape_and_default_output(networks, capsys):
    torch.manual_seed(0)
    other = torch.nn.Conv2d(3, 4, 3)
    torch.save(other.state_dict(), "w.pt")
    assert main(["user_networks:float_net", "--weights", "w.pt", "--input-shape", "1,3,6,6"]) == 0
    out = capsys.readouterr().out
    assert "warning: nothing in this network is binary" in out
    (made,) = Path().glob("*.bnn")
    artifact = tvm_bnn.load(made)
    assert made.name == f"float_net-{artifact.manifest['target']['name']}.bnn"
    torch.testing.assert_close(artifact(IMAGE[:, :, :6, :6].contiguous()), other(IMAGE[:, :, :6, :6]))


def test_chosen_signs_are_named(capsys):
    assert main(["user_networks:BareSign", "--sign-zero", "minus"]) == 0
    out = capsys.readouterr().out
    assert "sign(0) is taken as -1 in " in out
    assert "exact zeros there   0 of 2,048 elements on the example input\n" in out
    assert "note: the model was in training mode" in out


def test_signs_that_are_also_read_as_they_are_are_named(capsys):
    assert main(["user_networks:MixedSign", "--json", "mixed.json"]) == 0
    assert "binary layers see that; what else reads the sign sees 0, in model" in capsys.readouterr().out
    written = json.loads(Path("mixed.json").read_text())
    assert written["guessed_signs"] == written["mixed_signs"] == ["model"]
    assert main(["user_networks:BareSign", "--json", "bare.json"]) == 0
    assert "what else reads the sign" not in capsys.readouterr().out
    assert json.loads(Path("bare.json").read_text())["mixed_signs"] == []


def test_exact_zeros_are_counted_where_a_sign_was_chosen(networks, capsys):
    model = networks.BareSign().eval()
    with torch.no_grad():
        model.stem.weight[:2] = 0
        model.stem.bias[:2] = 0
    torch.export.save(torch.export.export(model, (IMAGE,)), "zeros.pt2")
    assert main(["zeros.pt2", "--json", "zeros.json"]) == 0
    assert "exact zeros there   512 of 2,048 elements on the example input: model (512)" in capsys.readouterr().out
    written = json.loads(Path("zeros.json").read_text())
    assert written["guessed_signs"] == ["model"] and written["kept_zeros"] == written["zero_weights"] == []
    assert written["check"]["exact_zeros"] == [{"path": "model", "elements": 2048, "zeros": 512}]


def test_zeros_that_stay_are_named(networks, capsys):
    model = networks.KeepsZeros().eval()
    artifact = tvm_bnn.compile(model)
    assert torch.equal(artifact(model.example_inputs()), model(model.example_inputs()))
    assert main(["user_networks:KeepsZeros", "--json", "zeros.json"]) == 0
    out = capsys.readouterr().out
    assert "exact zeros are kept as a third level in first" in out and "exact zeros there" not in out
    assert "weights that are exactly 0 stay 0 in second" in out
    written = json.loads(Path("zeros.json").read_text())
    assert (written["guessed_signs"], written["kept_zeros"], written["zero_weights"]) == ([], ["first"], ["second"])


# --- a network that has to be binary -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("net", [], None),
        ("net", ["--allow-float", "stem"], None),
        ("net", ["--allow-float", "x", "st*", "--threads", "1"], None),
        ("net", ["--allow-float", "x*"], "1 layer stayed float that had to be binary: stem (stem: "),
        ("FloatMiddle", [], "1 layer stayed float that had to be binary: middle (middle: "),
        ("FloatMiddle", ["--allow-float", "middle"], "1 layer stayed float that had to be binary: stem (stem: "),
        ("FloatMiddle", ["--allow-float", "stem", "--allow-float", "mid*"], None),
    ],
)
def test_required_binary(model, arguments, message, capfd):
    options = [f"user_networks:{model}", "-o", "made.bnn", "--json", "made.json", "--require-binary", *arguments]
    code = main(options)
    errors = capfd.readouterr().err
    if message is None:
        assert (code, errors, sorted(os.listdir())) == (0, "", ["made.bnn", "made.json"])
        return
    assert code == 2 and os.listdir() == []
    assert errors.startswith("error: ") and errors.count("\n") == 1 and message in errors, errors
    assert "change the model, or allow more with --allow-float PATTERN" in errors


def test_required_binary_as_keyword(networks):
    assert tvm_bnn.compile(networks.net(), require_binary=True).explain()[0]["decision"] == "float"
    with pytest.raises(UnsupportedError, match=r"had to be binary: stem .*allowed to be float: none"):
        tvm_bnn.compile(networks.net(), require_binary=True, allow_float=[])
    with pytest.raises(InputError, match="allow_float without require_binary"):
        tvm_bnn.compile(networks.net(), allow_float=["stem"])
    with pytest.raises(InputError, match=r"found allow_float='stem'; accepted is a list of patterns"):
        tvm_bnn.compile(networks.net(), require_binary=True, allow_float="stem")


def write_text(path="model.pt2"):
    Path(path).write_text("this is no model")


def write_state():
    torch.save({"weight": torch.zeros(1)}, "model.pt2")


INT8 = ["user_networks:net", "--float-precision", "int8", "--calibration"]


@pytest.mark.parametrize(
    ("prepare", "arguments", "message"),
    [
        (None, ["missing.pt2"], "there is no file missing.pt2"),
        (write_text, ["model.pt2"], "model.pt2 is a text file"),
        (write_state, ["model.pt2"], "is a state_dict or checkpoint and no model"),
        (None, ["user_networks:nett"], "did you mean net"),
        (None, ["user_networks:Rare"], "aten.i0.default (in inner)"),
        (None, ["user_networks:Counts"], "keeps no state"),
        (None, ["user_networks:net", "--target", "llvm -mcpu=cortex-a27"], "did you mean cortex-a"),
        (None, ["user_networks:net", "--target", "vax"], "unknown target kind 'vax'"),
        (None, ["user_networks:net", "--weights", "w.pt"], "there is no file w.pt"),
        (None, ["user_networks:net", "--input-shape", "1,3,x"], "found the shape '1,3,x'"),
        (None, ["user_networks:net", "--input-shape", "1,4,8,8"], "to have 3 channels, but got 4"),
        (None, ["user_networks:net", "--threads", "0"], "a whole number from 1 up"),
        (None, ["user_networks:net", "--sign-zero", "maybe"], "invalid choice: 'maybe'"),
        (None, ["user_networks:net", "--float-precision", "int4"], "invalid choice: 'int4'"),
        (None, ["user_networks:net", "--calibration", "a.png"], "only int8 has ranges"),
        (None, [*INT8, "missing.png"], "there is no image missing.png"),
        (None, [*INT8, "missing.npy"], "there is no file missing.npy"),
        (lambda: write_text("x.png"), [*INT8, "x.png"], "x.png is no image"),
        (lambda: write_text("x.npz"), [*INT8, "x.npz"], "x.npz cannot be read as numpy's"),
        (lambda: np.save("x.npy", np.zeros((1, 3, 9, 9), np.float32)), [*INT8, "x.npy"], "[1, 3, 9, 9]; net takes"),
        (lambda: np.save("x.npy", np.full((1, 3, 16, 16), np.nan, np.float32)), [*INT8, "x.npy"], "not finite"),
        (lambda: np.savez("x.npz", a=np.zeros(1), b=np.zeros(1)), [*INT8, "x.npz"], "float64 [1], float64 [1]; net"),
        (None, ["user_networks:net", "-o", "none/x.bnn"], "there is no folder none"),
        (None, ["user_networks:net", "-o", "."], "it is a folder"),
        (None, ["user_networks:net", "--json", "none/x.json"], "there is no folder none"),
        (lambda: write_text("file"), ["user_networks:net", "--dump-ir", "file/ir"], "another folder for --dump-ir"),
        (None, ["user_networks:net", "--verbose"], "unrecognized arguments: --verbose"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(prepare, arguments, message, capfd):
    if prepare:
        prepare()
    before = sorted(os.listdir())
    assert main(arguments) == 2
    captured = capfd.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert message in captured.err
    assert captured.out == "" and sorted(os.listdir()) == before


# --- float layers in fewer bits ----------------------------------------------------------------------------------


def test_the_command_offers_the_precisions_that_the_pass_has():
    assert FLOAT_PRECISION == PRECISIONS


def test_float_precision_is_named(capsys):
    assert main(["user_networks:net", "--float-precision", "int8", "--explain", "--json", "x.json"]) == 0
    shown = capsys.readouterr().out
    assert "int8               stem; ranges from the example input\n" in shown
    content = json.loads(Path("x.json").read_text())
    assert (content["float_precision"], content["calibrated"]) == ("int8", 0)
    assert [row["precision"] for row in content["layers"]] == ["int8", ""]
    assert main(["user_networks:Transposed", "--input-shape", "1,3,8,8", "--float-precision", "bf16"]) == 0
    shown = capsys.readouterr().out
    assert "fp32: up (conv2d_transpose): there are fp32 kernels only for this operator" in shown
    assert main(["user_networks:net", "--float-precision", "tf32"]) == 0
    assert "tf32 is only rounded to here: this target multiplies in fp32" in capsys.readouterr().out


@pytest.mark.parametrize("ending", ["png", "npy", "npz"])
def test_ranges_come_from_what_is_given(networks, capsys, ending):
    """Larger inputs than the example's: with their range, they keep their sums."""
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, :8] = 255
    Image.fromarray(pixels).save("x.png")
    values = np.moveaxis((pixels / np.float32(255) - np.float32(0.5)) / np.float32(0.25), 2, 0)[None].copy()
    np.save("x.npy", values)
    np.savez("x.npz", image=values)
    assert main([*INT8, f"x.{ending}", f"x.{ending}", "-o", "x.bnn"]) == 0
    assert "int8               stem; ranges from 2 inputs\n" in capsys.readouterr().out
    given = tvm_bnn.compile(networks.net(), float_precision="int8", calibration=[torch.from_numpy(values)])
    np.testing.assert_array_equal(tvm_bnn.load("x.bnn")(values), given(values))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"float_precision": "fp16"}, "found float_precision='fp16'; accepted are fp32, tf32, bf16, int8"),
        ({"calibration": [IMAGE]}, "only int8 has ranges"),
        ({"float_precision": "int8", "calibration": "x.png"}, "accepted is a list"),
        ({"float_precision": "int8", "calibration": [IMAGE.double()]}, "float64"),
    ],
)
def test_precision_that_is_none(networks, options, message):
    with pytest.raises(InputError, match=message):
        tvm_bnn.compile(networks.net(), **options)


class Interrupting:
    """A pass during which the user presses Ctrl-C."""

    def __init__(self, error):
        self.error = error

    def __call__(self, module, *_):
        def stop(module, _context):
            raise self.error

        return tvm.transform.module_pass(stop, opt_level=0, name="Stop")(module)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [(KeyboardInterrupt(), 130, "interrupted\n"), (UnsupportedError("no code for it"), 2, "error: no code for it\n")],
)
def test_errors_that_cross_tvm_keep_their_kind(monkeypatch, capfd, error, code, message):
    monkeypatch.setattr(compiler, "optimize", Interrupting(error))
    assert main(["user_networks:net", "--json", "net.json"]) == code
    assert capfd.readouterr().err == message
    assert os.listdir() == []


def test_summary_names_few_layers_and_counts_the_rest(networks, capsys):
    from rich.console import Console

    from tvm_bnn.targets import resolve

    made = compiler.compile_source(load_source(networks.net()), resolve("llvm", 1))
    made.artifact.save("x.bnn")
    stem = made.artifact.manifest["layers"][0]
    made.artifact.manifest["layers"] = [stem] * 11
    print_summary(Console(soft_wrap=True, markup=False), made, Path("x.bnn"), {"build": 2.0})
    out = capsys.readouterr().out
    assert out.count("float: stem (conv2d): ") == 8
    assert "float: 3 more; --explain lists them" in out
    assert "time               2.0 s (build 2.0)" in out
