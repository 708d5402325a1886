"""GPUs as targets: what text resolves to a row, what is refused, and which GPU an artifact runs on."""

import pytest
import tvm

from tvm_bnn import gpus, targets
from tvm_bnn.errors import ArtifactError, TargetError
from tvm_bnn.gpus import GPUS, check_gpu_here, check_no_gpu, device_of, gpu_of, row_for
from tvm_bnn.targets import resolve


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *[(f"cuda -arch={gpu.arch}", f"cuda-{gpu.arch}") for gpu in GPUS],
        ("nvidia/geforce-rtx-3090", "cuda-sm_86"),
        ("nvidia/nvidia-h100", "cuda-sm_90"),  # sm_90a there
        ('{"kind": "cuda", "arch": "sm_80", "max_threads_per_block": 1024}', "cuda-sm_80"),
        ("cuda -arch=sm_80 -mtriple=aarch64-linux-gnu", "cuda-sm_80-aarch64"),
    ],
)
def test_text_becomes_the_row_of_the_table(text, name, monkeypatch):
    monkeypatch.setattr(targets, "host_arch", lambda: "x86_64")
    target = resolve(text, gpu=True)
    assert (target.name, target.gpu) == (name, gpu_of(name.split("-")[1]))
    assert resolve(target.text(), gpu=True) == target
    assert target.tvm().host.attrs["mtriple"] == target.triple and target.tvm().attrs["arch"] == target.gpu.arch
    assert target.manifest()["gpu"] == target.gpu.arch


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cuda", 'a GPU target needs its architecture: try "cuda -arch=sm_90"'),
        ("cuda -arch=sm_87", r"no code is made for the GPU architecture 'sm_87' \(did you mean sm_8.\?\); accepted"),
        ("cuda -arch=sm_90 -mcpu=x", "unknown target option 'mcpu'.*known: arch, mtriple"),
        ("cuda -arch=sm_90 -mtriple=mips-linux-gnu", "the architecture 'mips' of mips-linux-gnu; accepted"),
        ('{"kind": "cuda", "arch": 90}', "target option 'arch' must be text, found 90"),
        ("llvm -arch=sm_90", "unknown target option 'arch'"),
        ("nvidia/geforce-gtx-1080", "no code is made for the GPU architecture 'sm_61'"),
    ],
)
def test_refusals_say_what_is_accepted(text, message):
    with pytest.raises(TargetError, match=message):
        resolve(text, gpu=True)


def test_a_gpu_is_a_target_only_where_it_is_asked_for():
    with pytest.raises(TargetError, match="found the GPU target 'cuda -arch=sm_90' where only processors are taken"):
        resolve("cuda -arch=sm_90")


@pytest.mark.parametrize(
    ("arch", "here"), [("sm_80", (8, 0)), ("sm_80", (8, 9)), ("sm_90", (9, 0)), ("sm_120", (12, 1))]
)
def test_code_runs_on_its_own_and_later_minor_versions(arch, here, monkeypatch):
    monkeypatch.setattr(gpus, "version_here", lambda: here)
    check_gpu_here(arch)


@pytest.mark.parametrize(
    ("arch", "here", "message"),
    [
        ("sm_90", None, "compute capability 9.0 or a later 9.x .H100, H200.*has no NVIDIA GPU.*--target \"llvm\""),
        ("sm_90", (8, 6), 'has one of compute capability 8.6; .*--target "cuda -arch=sm_86"'),
        ("sm_89", (8, 6), "8.9 or a later 8.x"),
        ("sm_80", (9, 0), "has one of compute capability 9.0"),
    ],
)
def test_any_other_gpu_is_refused(arch, here, message, monkeypatch):
    monkeypatch.setattr(gpus, "version_here", lambda: here)
    with pytest.raises(ArtifactError, match=message):
        check_gpu_here(arch)


def test_what_takes_processors_alone_says_so():
    check_no_gpu({"name": "znver4"}, "be packed")
    with pytest.raises(ArtifactError, match="compiled for the GPU sm_90, and can be packed only for a processor"):
        check_no_gpu({"name": "cuda-sm_90", "gpu": "sm_90"}, "be packed")


@pytest.mark.parametrize(
    ("version", "arch"),
    [((7, 5), "sm_75"), ((8, 6), "sm_86"), ((8, 7), "sm_86"), ((9, 0), "sm_90"), ((10, 3), "sm_100"), ((6, 1), None)],
)
def test_a_gpu_gets_the_latest_code_that_it_runs(version, arch):
    row = row_for(version)
    assert (row and row.arch) == arch


def test_kernels_are_where_they_were_compiled_for():
    class Machine:
        cpu, cuda = staticmethod(lambda: "its processor"), staticmethod(lambda: "its GPU")

    assert (device_of(None, Machine), device_of("sm_90", Machine)) == ("its processor", "its GPU")
    assert (device_of(None), device_of("sm_90")) == (tvm.cpu(0), tvm.cuda(0))
