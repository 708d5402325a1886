"""The command with a GPU as its target: what it refuses, what it shows and what it writes."""

import json
import re

import pytest

from tests.report.gpu import fake
from tests.report.gpu.test_rows import row
from tvm_bnn import cubin, gpus
from tvm_bnn.errors import DeviceError
from tvm_bnn.report import __main__ as main
from tvm_bnn.report.gpu import ceilings, command, kernels, machine, networks
from tvm_bnn.targets import resolve

#: Rounds in which only one row comes about.
INTERRUPTED = 99


def run(capsys, *arguments):
    code = main.main([str(each) for each in arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.fixture
def no_gpu(monkeypatch):
    """Also where there is one; whatever is compiled fails."""
    monkeypatch.setattr(gpus, "version_here", lambda: None)
    monkeypatch.setattr(cubin, "compiled", lambda *_: pytest.fail("compiled"))


@pytest.fixture
def a_gpu(monkeypatch):
    """One that figures are given for; what was asked to be measured."""
    asked = {}

    def measure(chosen, driver, measured, peers, target, rounds, progress):
        assert measured is fake.CEILINGS and driver.name == "Fake GPU"
        asked.update(rows=[each.name for each in chosen], peers=[each.name for each in peers], rounds=rounds)
        yield row(left_out={"pytorch-int8": "no such layer"})
        if rounds == INTERRUPTED:
            raise DeviceError("the GPU fell off")

    # targets.py has this function under a name of its own
    target = resolve("cuda -arch=sm_80", gpu=True)
    monkeypatch.setattr(command, "target_here", lambda text: target)
    monkeypatch.setattr(command, "Driver", fake.driver)
    monkeypatch.setattr(machine, "nvidia_smi", lambda: {"driver": "580.1", "SM clock": "1980 MHz"})
    monkeypatch.setattr(ceilings, "measure", lambda driver, gpu: fake.CEILINGS)
    monkeypatch.setattr(kernels, "measure", measure)
    monkeypatch.setattr(networks, "measure", measure)
    return asked


@pytest.mark.parametrize("target", ["cuda", "cuda -arch=sm_90", "nvidia/geforce-rtx-3090"])
@pytest.mark.parametrize("suite", ["limits", "kernels", "networks"])
def test_without_a_gpu_it_is_one_line_before_anything_is_compiled(no_gpu, capsys, suite, target):
    code, said, errors = run(capsys, suite, "--target", target)
    assert (code, said) == (2, "") and errors.count("\n") == 1
    assert errors.startswith("error: no NVIDIA GPU was found that TVM can use (it needs the driver")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["limits"], "found limits without a GPU; --target cuda names this machine's"),
        (["limits", "--target", "llvm"], "found limits without a GPU"),
        (["limits", "--target", "cuda", "--rows", "x"], "found --rows with limits of a GPU"),
        (["ablation", "--target", "cuda"], "found a GPU with ablation; it takes limits, kernels, networks"),
        (["networks", "--target", "cuda", "llvm"], "found 2 targets, one of them a GPU"),
        (["networks", "--target", "cuda", "--threads", "1"], "found --threads with networks of a GPU"),
        (["kernels", "--target", "cuda", "--rpc", "localhost:1"], "found a device with kernels; on a device, only"),
        (["kernels", "--target", "cuda", "--rows", "x"], "found no row 'x'; the rows are bconv3x3-128x256x64-bits"),
        (["kernels", "--target", "cuda", "--json", "no/such/out.json"], "cannot write no/such/out.json"),
        (["kernels", "--target", "cuda -arch=sm_61"], "no code is made for the GPU architecture 'sm_61'"),
    ],
)
def test_mistakes_are_one_line(no_gpu, capsys, arguments, message):
    code, said, errors = run(capsys, *arguments)
    assert (code, said) == (2, "") and errors.startswith("error: ") and errors.count("\n") == 1
    assert message in errors


def test_cuda_alone_is_the_latest_architecture_that_runs_here():
    known = {(8, 0): "sm_80", (8, 7): "sm_86", (9, 0): "sm_90", (12, 1): "sm_120"}
    assert {here: command.row_for(here).arch for here in known} == known
    with pytest.raises(DeviceError, match=r"no code is made for this machine's GPU of compute capability 7\.0; there"):
        command.row_for((7, 0))


def test_code_for_another_gpu_is_refused(monkeypatch):
    monkeypatch.setattr(gpus, "version_here", lambda: (8, 0))
    with pytest.raises(DeviceError, match=r"^found --target 'cuda -arch=sm_90', whose code does not run .* 8\.0; try"):
        command.target_here("cuda -arch=sm_90")


def test_limits_are_shown_and_written(a_gpu, capsys, tmp_path):
    path = tmp_path / "limits.json"
    code, said, errors = run(capsys, "limits", "--target", "cuda", "--json", path)
    assert (code, errors, a_gpu) == (0, "", {})
    assert re.match(r"Fake GPU \(\S+\): compute capability 8\.0, 3 multiprocessors, L2 50 MB, CUDA 13\.1, dr", said)
    assert "SM clock 1980 MHz" in said and "100.0 binary Tmac/s" in said and "best" in said
    content = json.loads(path.read_text())
    assert set(content) == {"machine"} and content["machine"]["ceilings"] == fake.CEILINGS.json()
    assert content["machine"]["nvidia_smi"]["driver"] == "580.1" and "torch" in content["machine"]["versions"]


@pytest.mark.parametrize("suite", ["kernels", "networks"])
def test_suites_are_shown_and_written_beside_the_ceilings(a_gpu, capsys, tmp_path, suite):
    path = tmp_path / "rows.json"
    pattern = {"kernels": "*batch16-float", "networks": "bench-k3-1024x2048*"}[suite]
    code, said, errors = run(capsys, suite, "--target", "cuda", "--rows", pattern, "--rounds", 5, "--json", path)
    assert (code, errors) == (0, "") and said.endswith(f"written to {path}\n")
    assert a_gpu["rounds"] == 5 and len(a_gpu["rows"]) == {"kernels": 4, "networks": 2}[suite]
    assert "100.0 binary Tmac/s" in said and "(10.00x)" in said and "25.0%" in said
    assert "left out: pytorch-int8: no such layer" in said
    content = json.loads(path.read_text())
    assert content["rows"][0]["b1_fraction"] == pytest.approx(0.25) and set(content) == {"machine", "rows", "missing"}


def test_rows_are_kept_when_the_next_one_fails(a_gpu, capsys, tmp_path):
    path = tmp_path / "rows.json"
    code, _, errors = run(capsys, "kernels", "--target", "cuda", "--rounds", INTERRUPTED, "--json", path)
    assert (code, errors) == (2, "error: the GPU fell off\n")
    assert len(json.loads(path.read_text())["rows"]) == 1
