"""The command: what it refuses, what it shows and what it writes; measuring is replaced by given figures."""

import json
import re
from dataclasses import replace

import pytest

from tvm_bnn.report import __main__ as command
from tvm_bnn.report import kernels, networks, older_cpu, site
from tvm_bnn.report.limit import Work
from tvm_bnn.report.machine import MB, Limits
from tvm_bnn.report.peers import PEERS
from tvm_bnn.report.rows import OURS, compared
from tvm_bnn.report.timing import Timing
from tvm_bnn.targets import available_cpus, host


@pytest.fixture
def measured(monkeypatch):
    """What was asked to be measured; one peer is present, one missing, and one row is too noisy."""
    asked = {}

    def measure(chosen, limits, peers, rounds, progress, *targets, **_):
        asked.update(names=[network.name for network in chosen], threads=list(limits), rounds=rounds)
        asked.update(targets=[target(1).name for target in targets])
        rows = []
        for number, network in enumerate(chosen):
            slow = (90.0, 100.0, 110.0) if number == 0 else (50.0, 100.0, 150.0)
            timings = {OURS: Timing((0.025,) * 3), "pytorch-eager": Timing(tuple(each / 1e3 for each in slow))}
            agreement = {OURS: 0.8 if number else 1.0, "pytorch-eager": 0.5 if number else 1.0}
            for limit in limits.values():
                work = Work(binary_macs=int(0.02 * limit.binary))
                rows.append(
                    {
                        "suite": "networks",
                        "name": network.name,
                        "target": "x86-64",
                        **compared(work, limit, timings),
                        "agreement": agreement,
                        "pytorch_agreement": 0.7,
                        "layers": [],
                        "left_out": {"torch-compile": "no compiler"},
                        "ran_on": {"openvino-int8": "20 tiles"},
                        "memory_mb": {OURS: 31.0},
                        "growth_mb": {OURS: 0.25},
                        "compile_s": 12.5,
                        "artifact_bytes": 1_230_000,
                        "weight_bytes": 1_000_000,
                    }
                )
                assert set(rows[-1]) == set(networks.Row.__annotations__)
        return rows

    limits = staticmethod(lambda target: Limits(target.threads, 1.25e12, 5.9e10, None, {MB: 8e10}))
    monkeypatch.setattr(site.Here, "limits", limits)
    monkeypatch.setattr(networks, "measure", measure)
    absent = {"openvino-fp32": "openvino not installed; try pip install 'tvm_bnn[peers]'"}
    monkeypatch.setattr(networks, "present", lambda peers: ([], absent))
    return asked


def run(capsys, *arguments):
    code = command.main([str(each) for each in arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_json_holds_rows_machine_and_missing_peers(measured, tmp_path, capsys):
    path = tmp_path / "report.json"
    code, said, errors = run(capsys, "networks", "--json", path, "--threads", 1, "--rounds", 7)
    assert (code, errors) == (0, "")
    assert said.endswith(f"written to {path}\n")
    content = json.loads(path.read_text())
    assert list(tmp_path.iterdir()) == [path]
    own = {"threads": [1], "rounds": 7, "targets": [host().name]}
    assert measured == {"names": [each.name for each in networks.NETWORKS], **own}
    assert [row["name"] for row in content["rows"]] == measured["names"]
    for row in content["rows"]:
        assert {"suite", "name", "threads", "ours_ms", "limit_ms", "ceiling_fraction", "peers", "spread"} <= set(row)
    limits = content["machine"]["limits"]["1"]
    assert (limits["binary_macs_per_s"], limits["copy_bytes_per_s"]) == (1.25e12, {"1": 8e10})
    assert {"tvm_bnn", "apache-tvm", "torch"} <= set(content["machine"]["versions"])
    assert list(content["missing"]) == ["openvino-fp32"]


def test_table_shows_ratios_and_says_why_one_is_refused(measured, capsys):
    code, said, _ = run(capsys, "networks", "--rows", "bench-3x3*", "--threads", 1)
    assert code == 0
    assert measured["names"] == ["bench-3x3-512x1024", "bench-3x3-256x512"]
    table = said[: said.index("peak memory")]
    quiet, noisy = (line for line in table.splitlines() if re.match(r"\W+bench-3x3", line))
    assert "25.0" in quiet and "20.0" in quiet and "80%" in quiet and "100.0 (4.00x)" in quiet and "10%" in quiet
    assert "100.0 (no ratio)" in noisy and "50%" in noisy
    where = "bench-3x3-256x512, 1 thread:"
    assert f"{where} no ratio to pytorch-eager, since the times of pytorch-eager 50% spread more than 20%" in said
    assert f"{where} pytorch-eager agrees with PyTorch in 50.0% of the pixels\n" in said
    ours = "tvm_bnn agrees with PyTorch in 80.0% of the pixels; PyTorch with itself, oneDNN off, in 70.0%\n"
    assert f"{where} {ours}" in said
    assert said.count("agrees with PyTorch") == 2
    assert "left out: openvino-fp32: openvino not installed" in said
    assert "1.250" in said and "59.0" in said  # the machine
    assert "31 (0.2)" in said and "12.5" in said and "1.23" in said  # memory and the file
    assert "openvino-int8 ran its convolutions on 20 tiles\n" in said
    assert f"{where} left out: torch-compile: no compiler\n" in said


def test_kernels_are_a_suite_with_binary_peers(measured, monkeypatch, tmp_path, capsys):
    path = tmp_path / "kernels.json"
    asked = []
    monkeypatch.setattr(kernels, "measure", lambda chosen, *rest: asked.extend(each.name for each in chosen) or [])
    absent = replace(command.BINARY_PEERS[0], name="absent", modules=("no_such_module_here",))
    monkeypatch.setattr(command, "BINARY_PEERS", (absent,))
    code, said, _ = run(capsys, "kernels", "--rows", "pack-nhwc*", "resize-x8-*", "--threads", 1, "--json", path)
    assert code == 0
    assert len(asked) == 5 and all(name.startswith(("pack-nhwc", "resize-x8")) for name in asked)
    assert "left out: absent: no_such_module_here not installed" in said
    content = json.loads(path.read_text())
    assert (content["rows"], list(content["missing"])) == ([], ["openvino-fp32", "absent"])


def test_an_older_processor_is_measured_in_a_process_from_which_the_rest_is_hidden(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(older_cpu, "again", lambda *given: asked.append(given) or 7)
    arguments = ["kernels", "--rows", "pack-nhwc*", "--mcpu", "x86-64-v3"]
    assert run(capsys, *arguments) == (7, "", "")
    assert asked == [("x86-64-v3", "tvm_bnn.report", arguments)]


def test_in_that_process_ours_is_compiled_for_it_and_who_does_not_ask_it_is_left_out(measured, monkeypatch, capsys):
    monkeypatch.setattr(older_cpu, "again", lambda *given: None)
    monkeypatch.setattr(networks, "present", lambda peers: (list(peers), {}))
    passed = []
    monkeypatch.setattr(networks, "measure", lambda *given, **_: passed.append((given[2], given[5](1).cpu)) or [])
    code, said, _ = run(capsys, "networks", "--threads", 1, "--mcpu", "x86-64-v3")
    ((peers, cpu),) = passed
    assert (code, cpu) == (0, "x86-64-v3")
    assert [peer.name for peer in PEERS if peer not in peers] == ["tvm-stock"]
    assert "left out: tvm-stock: it does not ask the processor\n" in said


@pytest.mark.skipif(host().arch != "x86_64", reason="the targets are of x86")
def test_ours_is_compiled_for_each_target_that_is_named(measured, capsys):
    arguments = ["networks", "--rows", "bench-3x3-256x512", "--target", "llvm -mcpu=x86-64", "llvm"]
    assert run(capsys, *arguments)[0] == 0
    assert measured["targets"] == ["x86-64", host().name]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["networks", "--target", "llvm -mcpu=cortex-a72"], "(cortex-a72), whose code this machine cannot run"),
        (["networks", "--target", "llvm", "llvm"], f"found 2 targets with the schedules of {host().name}"),
        (["kernels", "--target", "llvm"], "found --target with kernels; only networks and instructions take it"),
        (["ablation", "--rpc", "127.0.0.1:1"], "found a device with ablation; on a device, only networks"),
        (["networks", "--tracker", "127.0.0.1:1"], "found --tracker without --key"),
        (["networks", "--rpc", "127.0.0.1:1"], "cannot open a session with 127.0.0.1:1"),
    ],
)
def test_targets_that_cannot_be_measured_are_refused(measured, capsys, arguments, said):
    code, out, errors = run(capsys, *arguments)
    assert (code, out) == (2, "") and errors.count("\n") == 1 and said in errors


def test_rows_are_chosen_by_pattern_in_the_order_of_the_suite():
    known = networks.NETWORKS
    assert command.select(None, known) == list(known)
    chosen = command.select(["bench-?x?-256x512", "bench-3x3-512x1024"], known)
    assert [each.name for each in chosen] == ["bench-3x3-512x1024", "bench-3x3-256x512", "bench-7x7-256x512"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["networks", "--rows", "bench*", "nonsense"], r"found no row 'nonsense'; the rows are bench-3x3-512x1024, "),
        (["networks", "--threads", str(available_cpus() + 1)], r"found --threads \d+; from 1 to \d+ \(the CPUs of"),
        (["kernels", "--rows", "bench*"], r"found no row 'bench\*'; the rows are bconv3x3-56x56x64-bits, "),
        (["kernels", "--mcpu", "x86-64-v2"], r"argument --mcpu: invalid choice: 'x86-64-v2' \(choose from .*x86-64-v3"),
        (["networks", "--threads", "0"], r"a whole number from 1 up is needed"),
        (["networks", "--json", "no/such/folder/out.json"], r"cannot write no/such/folder/out.json"),
        (["speed"], r"invalid choice: 'speed'.*kernels.*networks"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_measured(measured, arguments, message, capsys):
    code, said, errors = run(capsys, *arguments)
    assert (code, said, measured) == (2, "", {})
    assert re.search(message, errors) and errors.startswith("error: ") and errors.count("\n") == 1
