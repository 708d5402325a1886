"""A network on a device gives what it gives here, to the last bit; and what happens where it cannot run."""

import dataclasses
import re

import numpy as np
import pytest
from PIL import Image

from tests import emulator
from tests.rpc.conftest import check_equal, crash_session, free_address, segmenter
from tvm_bnn import run, runtime
from tvm_bnn.emulated import processor
from tvm_bnn.errors import ArtifactError, DeviceError, InputError
from tvm_bnn.rpc import board, client, remote_artifact, server
from tvm_bnn.targets import available_cpus

BOARD = "llvm -mcpu=cortex-a72"


@pytest.fixture(scope="session")
def foreign(tmp_path_factory, image):
    """The network for a Raspberry Pi 4."""
    return segmenter(BOARD, image, tmp_path_factory.mktemp("foreign"))


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (40, 64, 3), np.uint8)).save(path)
    return path


@pytest.fixture
def emulated():
    """Skip where there is no emulator, unless there has to be one."""
    emulator.need()


def command(capsys, *arguments):
    """Exit code, stdout and stderr of the run command."""
    code = run.main([str(item) for item in arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_results_are_those_of_this_machine(device, network, image):
    path, expected = network
    assert len(np.unique(expected[0])) > 1
    remote = remote_artifact.load(client.connect(*device), path)
    assert (remote.device, remote.threads, remote.manifest["name"]) == (str(device), 1, "Segmenter")
    check_equal(remote(image), expected)
    check_equal(remote(image), expected)
    other = -image
    check_equal(remote(other), runtime.load(path)(other))


def test_times_are_measured_as_often_as_asked(device, network, image):
    remote = remote_artifact.load(client.connect(*device), network[0])
    seconds = remote.benchmark(image, repeat=3, number=2)
    assert len(seconds) == 3 and all(0 < value < 60 for value in seconds)


def test_wrong_inputs_do_not_reach_the_device(device, network, image):
    remote = remote_artifact.load(client.connect(*device), network[0])
    with pytest.raises(InputError, match="takes 1"):
        remote(image, image)
    with pytest.raises(InputError, match="wrong shape"):
        remote(image[:, :, 1:])


@pytest.mark.skipif(available_cpus() < 2, reason="this machine has one CPU")
def test_number_of_threads(device, network, image):
    path, expected = network
    remote = remote_artifact.load(client.connect(*device), path, threads=2)
    assert remote.threads == 2
    check_equal(remote(image), expected)


def test_more_threads_than_the_device_has(device, network):
    with pytest.raises(InputError, match=rf"found 9999 threads; from 1 to \d+ \(the CPUs of {device}\) can be used"):
        remote_artifact.load(client.connect(*device), network[0], threads=9999)


def test_artifact_for_another_architecture(device, foreign):
    message = r"compiled for cortex-a72 \(aarch64-linux-gnu\), the device .* with Linux; .*--target \"llvm -mtriple"
    with pytest.raises(ArtifactError, match=message):
        remote_artifact.load(client.connect(*device), foreign)


def test_artifact_for_features_that_the_device_lacks(device, network, monkeypatch):
    described = dataclasses.replace(board.describe(), flags=("pni",))
    monkeypatch.setattr(client, "describe", lambda session: described)
    with pytest.raises(ArtifactError, match=r"the device .* lacks .*; compile it again with --target"):
        remote_artifact.load(client.connect(*device), network[0])


def test_device_that_does_not_say_what_it_is(device, foreign, monkeypatch):
    """Then it is loading that fails."""
    monkeypatch.setattr(client, "describe", lambda session: None)
    with pytest.raises(DeviceError, match=f"{device} failed while loading the compiled code, which may be for another"):
        remote_artifact.load(client.connect(*device), foreign)


def test_damaged_artifact(device, network, tmp_path):
    damaged = tmp_path / "damaged.bnn"
    damaged.write_bytes(network[0].read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="is cut short"):
        remote_artifact.load(client.connect(*device), damaged)


def test_device_that_dies_is_named(network, image):
    address = free_address()
    with server.serve(address) as running:
        remote = remote_artifact.load(client.connect(*address), network[0])
        crash_session(running)
        with pytest.raises(DeviceError, match=f"^{address} failed while "):
            remote(image)


def test_command_paints_the_same_picture(device, network, picture, tmp_path, capsys):
    here, there = tmp_path / "here.png", tmp_path / "there.png"
    assert command(capsys, network[0], picture, "-o", here)[0] == 0
    code, said, errors = command(capsys, network[0], picture, "-o", there, "--rpc", device, "--repeat", 3)
    assert (code, errors) == (0, "")
    assert here.read_bytes() == there.read_bytes()
    assert re.search(rf"Segmenter: .* ms \(median of 3; .*\), 1 thread, on {device} by its own clock$", said, re.M)


def test_command_by_a_tracker(tracker, network, picture, tmp_path, capsys):
    address = free_address()
    device = ["--tracker", tracker, "--key", "vm"]
    with server.serve(address, tracker, "vm"):
        code, said, errors = command(capsys, network[0], picture, "-o", tmp_path / "out.png", *device)
    assert (code, errors) == (0, "")
    assert f"on vm@{address} by its own clock" in said


def test_mistakes_are_one_line(device, network, foreign, picture, tmp_path, capsys):
    out = tmp_path / "out.png"
    nobody = free_address()
    cases = [
        ((foreign, "--rpc", device), r"compiled for cortex-a72 .*the device"),
        ((network[0], "--rpc", nobody), f"cannot open a session with {nobody}"),
        ((network[0], "--rpc", "pi4"), "found the address 'pi4'; HOST:PORT is needed"),
        ((network[0], "--tracker", nobody), "found --tracker without --key; .* list --tracker"),
        ((network[0], "--key", "vm"), "found --key alone"),
        ((network[0], "--rpc", nobody, "--tracker", nobody), "found --rpc and --tracker"),
        ((network[0], "--tracker", nobody, "--key", "vm"), f"no tracker can be reached at {nobody}"),
    ]
    for (path, *arguments), message in cases:
        code, said, errors = command(capsys, path, picture, "-o", out, *arguments)
        assert (code, said) == (2, "")
        assert re.fullmatch(f"error: .*{message}.*\n", errors), errors
    assert not out.exists()


def test_emulated_arm_board_gives_what_this_machine_gives(emulated, network, foreign, image, picture, tmp_path, capsys):
    """Its server, in C, does not say what it is, and has its own number of threads."""
    with processor.listening("cortex-a72") as port:
        remote = remote_artifact.load(client.connect("127.0.0.1", port), foreign)
        assert remote.threads is None
        check_equal(remote(image), network[1])
        del remote
    here, there = tmp_path / "here.png", tmp_path / "there.png"
    assert command(capsys, network[0], picture, "-o", here)[0] == 0
    with processor.listening("cortex-a72") as port:
        code, said, _ = command(capsys, foreign, picture, "-o", there, "--rpc", f"127.0.0.1:{port}", "--repeat", 1)
    assert code == 0 and "its own number of threads, on 127.0.0.1:" in said
    assert here.read_bytes() == there.read_bytes()


def test_emulated_arm_board_refuses_code_for_this_machine(emulated, network):
    with processor.listening("cortex-a72") as port:
        with pytest.raises(DeviceError, match=r"failed while loading the compiled code, which may be for another"):
            remote_artifact.load(client.connect("127.0.0.1", port), network[0])


def test_emulated_arm_board_has_no_choice_of_threads(emulated, foreign):
    with processor.listening("cortex-a72") as port:
        with pytest.raises(InputError, match=r"found 2 threads; .* uses a number of its own.* TVM_NUM_THREADS"):
            remote_artifact.load(client.connect("127.0.0.1", port), foreign, threads=2)
