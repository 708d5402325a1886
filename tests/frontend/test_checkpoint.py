"""Files told apart by their content, and weights that fit or not."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tvm_bnn.errors import ModelError
from tvm_bnn.frontend.checkpoint import load_weights, open_program


def layer(seed=0):
    torch.manual_seed(seed)
    return nn.Conv2d(3, 4, 3).eval()


@pytest.fixture
def exported(tmp_path):
    path = tmp_path / "good.pt2"
    torch.export.save(torch.export.export(layer(), (torch.ones(1, 3, 8, 8),)), path)
    return path


def test_program_is_read(exported):
    assert list(open_program(exported).state_dict) == ["weight", "bias"]


def text(path):
    path.write_text("model = torch.load('x')\n")


def empty(path):
    path.write_bytes(b"")


def noise(path):
    path.write_bytes(bytes(range(128, 256)))


def state(path):
    torch.save(layer().state_dict(), path)


def pickled(path):
    torch.save(layer(), path)


def legacy(path):
    torch.save(layer().state_dict(), path, _use_new_zipfile_serialization=False)


def script(path):
    with pytest.warns(DeprecationWarning):
        torch.jit.trace(layer(), torch.ones(1, 3, 8, 8)).save(str(path))


def folder(path):
    path.mkdir()


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "there is no file"),
        (folder, "cannot be read: Is a directory"),
        (text, "is a text file; accepted is a .pt2 file written by torch.export.save"),
        (empty, "is empty"),
        (noise, "is no archive"),
        (state, "is a state_dict or checkpoint and no model; .* with --weights"),
        (pickled, "is a pickled module"),
        (legacy, "is no archive"),
        (script, "is a TorchScript archive"),
    ],
)
def test_other_files_named_pt2(tmp_path, write, message):
    path = tmp_path / "model.pt2"
    write(path)
    with pytest.raises(ModelError, match=message):
        open_program(path)


def test_weights_are_no_program(tmp_path):
    (tmp_path / "m.safetensors").write_bytes(b"\x08\x07")
    with pytest.raises(ModelError, match="weights and no model"):
        open_program(tmp_path / "m.safetensors")


def test_truncated_and_damaged_programs(exported):
    whole = exported.read_bytes()
    exported.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="a damaged archive, cut short perhaps"):
        open_program(exported)
    # the JSON of the graph, in the middle of the file
    at = whole.index(b'"graph_module"')
    exported.write_bytes(whole[:at] + b"\xff" * 100 + whole[at + 100 :])
    with pytest.raises(ModelError, match=r"cannot be read as an exported program: .* save it again"):
        open_program(exported)


def test_weights_of_every_kind(tmp_path):
    wanted = layer(1)
    torch.save(wanted.state_dict(), tmp_path / "w.pt")
    torch.save({"epoch": 3, "state_dict": wanted.state_dict()}, tmp_path / "checkpoint.pth")
    torch.save(wanted.state_dict(), tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    save_file(wanted.state_dict(), tmp_path / "w.safetensors")
    for name in ("w.pt", "checkpoint.pth", "legacy.pt", "w.safetensors"):
        loaded = layer(0)
        load_weights(loaded, tmp_path / name)
        assert torch.equal(loaded.weight, wanted.weight), name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weight": torch.zeros(4, 3, 3, 3)}, r"do not fit Conv2d: it lacks bias; accepted"),
        (
            {"weight": torch.zeros(4, 3, 5, 5), "bias": torch.zeros(4), "a": torch.zeros(1)},
            r"unknown a; in it weight is \[4, 3, 5, 5\] and not \[4, 3, 3, 3\]",
        ),
        ({f"w{i}": torch.zeros(1) for i in range(5)}, r"unknown w0, w1, w2 and 2 more"),
        ([1, 2], "holds something of type list and no state_dict"),
        (nn.Linear(2, 2), "holds Python objects other than tensors"),
    ],
)
def test_weights_that_do_not_fit(tmp_path, content, message):
    torch.save(content, tmp_path / "w.pt")
    model = layer()
    before = model.weight.clone()
    with pytest.raises(ModelError, match=message):
        load_weights(model, tmp_path / "w.pt")
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.pt", b"weights, honestly", "it is a text file; accepted is a state_dict"),
        ("w.safetensors", b"\x01", "it holds Python objects other than tensors, or is damaged"),
    ],
)
def test_weights_that_are_none(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=message):
        load_weights(layer(), tmp_path / name)


def test_missing_weights(tmp_path):
    with pytest.raises(ModelError, match=r"there is no file .*; accepted is a state_dict"):
        load_weights(layer(), tmp_path / "w.pt")
