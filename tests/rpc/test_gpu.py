"""Machines with a GPU as devices: what they say of it, and what runs there. A processor stands in for the GPU."""

import dataclasses
import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.report.small import SMALL
from tests.rpc.conftest import check_equal
from tvm_bnn import artifact, cubin, gpus, run, runtime
from tvm_bnn import device as command
from tvm_bnn.compiler import compile_source
from tvm_bnn.errors import DeviceError
from tvm_bnn.frontend.source import load_source
from tvm_bnn.report.limit import work_of
from tvm_bnn.report.site import OnDevice
from tvm_bnn.rpc import board, client, exactness, gpu, remote_artifact
from tvm_bnn.rpc.gpu import GpuFound
from tvm_bnn.targets import host, resolve
from tvm_bnn.tuning import worker

H100 = GpuFound("NVIDIA H100 80GB HBM3", (9, 0), "580.95.05", 80 << 30)


class Driver:
    """NVIDIA's library, with one GPU. wrong : a function that fails."""

    def __init__(self, wrong=""):
        self._wrong = wrong

    def __getattr__(self, name):
        return lambda *arguments: 100 if name == self._wrong else self._answer(name, *arguments)

    def _answer(self, name, *arguments):
        """0 as of success."""
        if name == "cuDeviceGetName":
            arguments[0].value = H100.name.encode()
        elif name == "cuDeviceGetAttribute":
            arguments[0]._obj.value = H100.version[{75: 0, 76: 1}[arguments[1]]]
        elif name == "cuDeviceTotalMem_v2":
            arguments[0]._obj.value = H100.memory
        return 0


def test_a_driver_says_what_its_gpu_is(tmp_path):
    about = tmp_path / "version"
    about.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\nGCC 12.2.0\n")
    assert gpu.asked(Driver(), about) == H100
    assert gpu.asked(Driver(), tmp_path / "none") == dataclasses.replace(H100, driver="")
    assert gpu.asked(Driver("cuInit")) is gpu.asked(Driver("cuDeviceGet")) is None


def test_this_machine_is_asked_as_well():
    found, version = gpu.ask(), gpus.version_here()
    assert version is None or (found and found.version == version)  # TVM's CUDA runtime may be missing


@pytest.fixture
def with_gpu(monkeypatch):
    """This machine has one."""
    monkeypatch.setattr(gpu, "ask", lambda: H100)
    monkeypatch.setattr(board, "host_arch", lambda: "x86_64")


def test_description_of_a_machine_with_one(with_gpu):
    described = board.describe()
    assert board.parse(described.json()) == described
    assert described.gpu == H100 and described.title().endswith(f", {H100.name}")
    assert f"GPU: {H100.name}, compute capability 9.0, 80 GiB, driver 580.95.05" in described.lines()
    assert f'compile for it with: --target "{described.gpu_target}"' in described.lines()
    assert resolve(described.gpu_target, gpu=True).name == "cuda-sm_90"


def test_gpu_without_a_row_and_descriptions_of_earlier_versions(with_gpu, monkeypatch):
    monkeypatch.setattr(gpu, "ask", lambda: dataclasses.replace(H100, version=(6, 1)))
    assert board.describe().gpu_target is None and "no code is made for this GPU" in board.describe().lines()
    monkeypatch.setattr(gpu, "ask", lambda: None)
    earlier = board.describe()
    assert board.parse(re.sub(r', "gpu": null, "gpu_target": null', "", earlier.json())) == earlier


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (None, "code for sm_90 needs an NVIDIA GPU of compute capability 9.0 .*, and the device x:1 has no NVIDIA GPU"),
        (dataclasses.replace(H100, version=(8, 9)), "and the device x:1 has one of compute capability 8.9"),
    ],
)
def test_a_device_without_such_a_gpu_is_refused(found, message, monkeypatch):
    monkeypatch.setattr(gpu, "ask", lambda: found)
    monkeypatch.setattr(client, "describe", lambda _: board.describe())
    with pytest.raises(DeviceError, match=message):
        client.check_gpu(SimpleNamespace(device="x:1"), "sm_90")


def test_a_server_of_another_kind_is_refused(monkeypatch):
    monkeypatch.setattr(client, "describe", lambda _: None)
    with pytest.raises(DeviceError, match=r"x:1 does not say whether it has a GPU.*python -m tvm_bnn\.device"):
        client.check_gpu(SimpleNamespace(device="x:1"), "sm_90")


def test_sessions_take_machine_code(device):
    with client.connect(*device) as session:
        taken_out = session.remote.get_function("tvm_callback_cuda_compile")
        assert bytes(taken_out(cubin.carried(b"\x7fELF\0"))) == b"\x7fELF\0"


@pytest.fixture
def stand_in(monkeypatch):
    """The processor of a device for its GPU; what was asked for."""
    asked = []
    monkeypatch.setattr(client, "check_gpu", lambda _, arch: asked.append(arch))
    monkeypatch.setattr(gpus, "device_of", lambda arch, remote: asked.append(arch) or remote.cpu())
    return asked


@pytest.fixture
def for_gpu(network, tmp_path):
    """The small network, as if its kernels were for a GPU."""
    with artifact.opened(network[0]) as content:
        content.manifest["target"]["gpu"] = "sm_90"
        runtime.Artifact(content.library.read(), content.manifest).save(tmp_path / "network.bnn")
    return tmp_path / "network.bnn"


def test_artifact_for_a_gpu_runs_there(device, network, for_gpu, image, stand_in):
    with client.connect(*device) as session:
        remote = remote_artifact.load(session, for_gpu)
        check_equal(remote(image), network[1])
        assert stand_in == ["sm_90", "sm_90"] and all(taken > 0 for taken in remote.benchmark(image, repeat=2))


def test_network_for_a_gpu_is_measured_there(device, stand_in):
    model, _, inputs = SMALL.make()
    made = compile_source(load_source(model, inputs), host(1))
    arrays = [value.numpy() for value in inputs]
    target = resolve("cuda -arch=sm_90", gpu=True)
    made = dataclasses.replace(made, target=target)
    with client.connect(*device) as session:
        there = OnDevice(session, lambda _: target)
        assert (there.cpus, [peer.name for peer in there.peers]) == (1, ["tvm_bnn-float"])
        assert work_of(made.optimized).seconds(there.limits(target)) == 0  # not measured
        loaded = there.run(made, arrays)
        np.testing.assert_array_equal(loaded(), made.artifact(*arrays))
        assert stand_in == ["sm_90"] * 3 and loaded.seconds() > 0
        assert there.layers(made, loaded, arrays, 1) == []  # calls return before kernels have run


@pytest.fixture
def without_gpu(monkeypatch):
    """No device has one."""
    ask = client.describe
    monkeypatch.setattr(client, "describe", lambda session: dataclasses.replace(ask(session), gpu=None))


def test_commands_refuse_a_device_without_one(device, for_gpu, tmp_path, without_gpu, monkeypatch, capsys):
    monkeypatch.setattr(exactness.Case, "library", lambda *_: pytest.fail("a kernel was compiled"))
    Image.fromarray(np.zeros((16, 24, 3), np.uint8)).save(tmp_path / "in.png")
    to_run = [str(for_gpu), str(tmp_path / "in.png"), "-o", str(tmp_path / "out.png"), "--rpc", str(device)]
    message = f"error: code for sm_90 needs an NVIDIA GPU .*, and the device {device} has no NVIDIA GPU with a driver\n"
    assert run.main(to_run) == 2
    assert re.fullmatch(message, capsys.readouterr().err)
    assert command.main(["check", "--rpc", str(device), "--target", "cuda -arch=sm_90"]) == 2
    assert re.fullmatch(message, capsys.readouterr().err)


def test_a_tuner_refuses_a_device_without_one(device, without_gpu):
    with pytest.raises(DeviceError, match=f"code for sm_90 needs .*, and the device {device} has no NVIDIA GPU"):
        worker.connect(worker.Place(server=device), 1, "sm_90")
