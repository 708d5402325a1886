"""A network compiled for a GPU on a machine that has none."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tvm_bnn
from tvm_bnn import artifact, compile, cubin, gpus, package, run
from tvm_bnn.errors import ArtifactError

USERS = Path(__file__).resolve().parent.parent / "frontend"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The artifact of a small network."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(USERS))
        assert compile.main(["user_networks:net", "--target", "cuda -arch=sm_90", "-o", str(folder / "net.bnn")]) == 0
    return folder / "net.bnn"


@pytest.fixture
def no_gpu(monkeypatch):
    """Also where there is one."""
    monkeypatch.setattr(gpus, "version_here", lambda: None)


def test_it_carries_machine_code_and_no_source(path):
    with artifact.opened(path) as content:
        library, manifest = content.library.read(), content.manifest
    assert (manifest["target"]["name"], manifest["target"]["gpu"]) == ("cuda-sm_90", "sm_90")
    (text,) = re.findall(rb"// a cubin in base64: [A-Za-z0-9+/]+=*", library)
    code = cubin.take_out(text.decode())
    assert code.startswith(b"\x7fELF") and b"_kernel" in code
    assert b"__global__" not in library
    rules = [row["rule"] for row in manifest["layers"] if row["decision"] == "binary"]
    assert rules and all(rule.startswith("bconv2d-cuda-") for rule in rules)


def test_loading_it_without_a_gpu_is_one_line(path, no_gpu):
    with pytest.raises(ArtifactError, match=r"needs an NVIDIA GPU of compute capability 9\.0") as raised:
        tvm_bnn.load(path)
    assert "\n" not in str(raised.value)


def test_the_commands_say_it_and_end_with_2(path, no_gpu, tmp_path, capsys):
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "image.png")
    assert run.main([str(path), str(tmp_path / "image.png"), "-o", str(tmp_path / "out.png")]) == 2
    assert capsys.readouterr().err.startswith("error: the artifact was compiled for sm_90: it needs an NVIDIA GPU")
    assert package.main([str(path), "-o", str(tmp_path / "net.tar.gz")]) == 2
    assert capsys.readouterr().err.startswith("error: the artifact was compiled for the GPU sm_90, and can be packed")


def test_text_that_is_no_machine_code_is_refused():
    with pytest.raises(ArtifactError, match="without their machine code; compile the model again"):
        cubin.take_out('extern "C" __global__ void f() {}')


def test_operators_that_are_left_to_tvm_are_compiled_as_well(no_gpu):
    class Norm(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.layer_norm(x, (8,))

    made = tvm_bnn.compile(Norm().eval(), torch.randn(2, 3, 4, 8), target="cuda -arch=sm_80", name="norm")
    assert b"a cubin in base64" in made.library and made.manifest["check"] == {}
