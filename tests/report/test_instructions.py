"""The suite of executed instructions: what it refuses and what it shows; counting is replaced by given figures."""

import json

import pytest

from tvm_bnn.emulated import processor
from tvm_bnn.report import __main__ as command
from tvm_bnn.report import instructions

KERNEL: instructions.KernelRow = {
    "name": "bconv3x3-7x7x512",
    "target": "cortex-a72",
    "binary_macs": 115605504,
    "valid_taps": 0.819,
    "rule": "bconv2d-neon-1x32",
    "float_instructions": 3000000,
    "float_macs": 38.5,
    "bit_instructions": 3100000,
    "bit_macs": 37.3,
    "loop_macs": 35.1,
    "cycle_macs": 80.1,
}
NETWORK: instructions.NetworkRow = {
    "name": "ding2024-demo-256x512",
    "target": "cortex-a72",
    "size": (256, 512),
    "instructions": 100_000_000,
    "layers": [{"kernel": "bconv2d", "layers": ["encoder.0", "encoder.1"], "instructions": 40_000_000}],
    "twin_instructions": 900_000_000,
    "twin_layers": [],
    "small_size": (64, 128),
    "small_instructions": 6_000_000,
    "stock_instructions": 3_000_000_000,
}


@pytest.fixture
def counted(monkeypatch):
    """What was asked to be counted, and for which target."""
    asked = {}

    def measure(chosen, target, progress):
        asked.update(names=[each.name for each in chosen], target=target.name)
        return [KERNEL, NETWORK]

    monkeypatch.setattr(instructions, "measure", measure)
    monkeypatch.setattr(processor, "why_not", lambda: None)
    return asked


def run(capsys, *arguments):
    code = command.main(["instructions", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_figures_are_shown_and_written(counted, capsys, tmp_path):
    path = tmp_path / "report.json"
    code, out, _ = run(capsys, "--rows", "*-7x7*", "ding*", "--target", "raspberry-pi/3", "--json", path)
    assert code == 0
    assert counted == {"names": ["bconv3x3-7x7x512", "ding2024-demo-256x512"], "target": "cortex-a53"}
    assert all(text in out for text in ("38.50", "37.30", "80.10", "81.9%", "encoder.0, encoder.1"))
    assert "9.00 times as many" in out and "500.0 times as many" in out
    assert [row["name"] for row in json.loads(path.read_text())["rows"]] == [KERNEL["name"], NETWORK["name"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "llvm -mcpu=znver4"], "error: found 'llvm -mcpu=znver4', x86_64; instructions are counted for "),
        (["--target", "raspberry-pi/9"], "error: unknown target tag"),
        (["--rows", "nothing*"], "error: found no row 'nothing*'; the rows are bconv3x3-14x14x256, "),
        (["--threads", "2"], "error: found --threads with instructions; it takes --target, --rows and --json"),
        (["--json", "/nowhere/report.json"], "error: cannot write /nowhere/report.json"),
    ],
)
def test_refusals_are_one_line(counted, capsys, arguments, message):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "") and err.startswith(message) and err.count("\n") == 1
    assert not counted


def test_missing_emulator_is_one_line(counted, capsys, monkeypatch):
    monkeypatch.setattr(processor, "why_not", lambda: "no qemu-aarch64 here; try: apt-get install qemu-user")
    assert run(capsys) == (2, "", "error: no qemu-aarch64 here; try: apt-get install qemu-user\n")


def test_other_suites_take_no_target(capsys):
    assert command.main(["kernels", "--target", "raspberry-pi/4"]) == 2
    assert "found --target with kernels; only networks and instructions take it" in capsys.readouterr().err
