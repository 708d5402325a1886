"""Every form of a model becomes a source, and unusable ones an error that helps."""

import numpy as np
import pytest
import torch
from torch import nn

from tvm_bnn.errors import InputError, ModelError
from tvm_bnn.examples import ding2024
from tvm_bnn.frontend.importer import import_program
from tvm_bnn.frontend.source import check_stateless, load_source, parse_shapes

IMAGE = torch.full((1, 3, 16, 16), 0.25)


def test_module_with_its_own_inputs_and_data(networks):
    model = networks.net()
    source = load_source(model)
    assert source.name == "Net" and source.module is model and source.notes == [] and source.single
    assert torch.equal(source.inputs[0], model.example_inputs())
    assert torch.equal(source.expected[0], model(model.example_inputs()))
    assert source.class_names == ("sky", "road") and source.palette == networks.Net.palette
    assert source.preprocessing == networks.Net.preprocessing
    assert source.float_bytes == 4 * sum(v.numel() for v in model.state_dict().values() if v.is_floating_point())


def test_every_form_gives_the_same_program(networks, tmp_path):
    model = networks.net()
    program = torch.export.export(model, (IMAGE,))
    path = tmp_path / "saved.pt2"
    torch.export.save(program, path)
    expected = model(IMAGE)
    forms = {
        "Net": load_source(model, IMAGE),
        "model": load_source(program),
        "saved": load_source(path),
        "net": load_source("user_networks:net", (IMAGE,)),
        "mine": load_source(str(path), [IMAGE.numpy()], name="mine"),
    }
    for name, source in forms.items():
        assert source.name == name
        assert torch.equal(source.expected[0], expected), name
        assert torch.equal(source.inputs[0], IMAGE), name
    assert forms["saved"].module is None and forms["saved"].single


def test_training_mode_is_noted_and_left_as_it_was(networks):
    model = networks.Net()
    model.norm.eval()
    source = load_source(model)
    assert source.notes and "training mode" in source.notes[0]
    assert model.training and not model.norm.training
    assert torch.equal(source.expected[0], networks.net()(source.inputs[0]))


def test_names_become_fit_for_files(networks):
    assert load_source(networks.net(), name="a b/c").name == "a_b_c"


def test_input_shape_gives_seeded_inputs(networks):
    first, second = (load_source(networks.float_net(), input_shape=[(1, 3, 8, 8)]).inputs[0] for _ in range(2))
    assert torch.equal(first, second) and first.shape == (1, 3, 8, 8) and first.std() > 0.5


def test_inputs_beside_the_class_of_the_model():
    config = ding2024.Ding2024Config(width=8, decoder_channels=8, classes=2, input_size=(32, 32))
    model = ding2024.build(config)
    assert torch.equal(load_source(model).inputs[0], ding2024.example_inputs(model)[0])


def test_weights_are_loaded_first(networks, tmp_path):
    other = networks.net()
    with torch.no_grad():
        other.stem.bias += 1.0
    torch.save(other.state_dict(), tmp_path / "w.pt")
    source = load_source("user_networks:net", weights=tmp_path / "w.pt")
    assert torch.equal(source.expected[0], other(source.inputs[0]))


def test_several_outputs(networks):
    source = load_source(networks.Pair().eval())
    assert not source.single and [value.dtype for value in source.expected] == [torch.float32, torch.int64]


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("ChangesData", r"ChangesData cannot be exported .*user_networks\.py, line \d+: self\.stem\.weight\.data = .*"
         r"write the changed value into the parameter once, before export"),
        ("Branches", r"Branches cannot be exported .*user_networks\.py, line \d+: if image\.sum\(\) > 0.*no branch on"),
        ("WrongInputs", r"WrongInputs does not run on its example inputs \(float32 \[1, 4, 16, 16\]\): RuntimeError: .*"
         r"user_networks\.py, line \d+"),
    ],
)  # fmt: skip
def test_models_that_do_not_export(networks, factory, message, capfd):
    with pytest.raises(ModelError, match=message):
        load_source(f"user_networks:{factory}")
    assert capfd.readouterr().err == ""


def test_state_is_refused(networks):
    source = load_source(networks.Counts().eval())
    with pytest.raises(ModelError, match=r"Counts changes calls when it runs; a compiled network keeps no state"):
        check_stateless(import_program(source.program).exported, source.name)


def test_unknown_inputs(networks):
    with pytest.raises(InputError, match=r"the shape of float_net's inputs is not known; .*--input-shape 1,3,512,1024"):
        load_source("user_networks:float_net")


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ((IMAGE, 3), InputError, r"example input 1 is a int; accepted are tensors"),
        ("image", InputError, r"example input 0 is a str"),
        (IMAGE.to("meta"), InputError, r"example input 0 is on meta; accepted is the CPU"),
        (np.zeros((1, 3, 16), np.float32), ModelError, r"does not run on its example inputs \(float32 \[1, 3, 16\]\)"),
    ],
)
def test_unusable_inputs(networks, given, error, message):
    with pytest.raises(error, match=message):
        load_source(networks.net(), given)


class Listed(nn.Module):
    def forward(self, images):
        return images[0] + 1.0


class Text(nn.Module):
    def forward(self, image):
        return image, "done"


def test_arguments_and_results_that_are_no_tensors():
    with pytest.raises(InputError, match="example input 0 is a list"):
        load_source(Listed(), ([IMAGE],))
    with pytest.raises(ModelError, match="returns a str; tensors"):
        load_source(Text(), (IMAGE,))


def test_program_is_held_to_its_shapes_and_weights(networks, tmp_path):
    program = torch.export.export(networks.net(), (IMAGE,))
    with pytest.raises(InputError, match=r"exported for the inputs float32 \[1, 3, 16, 16\], found float32 \[1, 3, 8"):
        load_source(program, input_shape=[(1, 3, 8, 8)])
    with pytest.raises(InputError, match=r"found float64 \[1, 3, 16, 16\]"):
        load_source(program, IMAGE.double())
    with pytest.raises(ModelError, match="is an exported program, which has its weights"):
        load_source(program, weights=tmp_path / "w.pt")


@pytest.mark.parametrize("text", ["net", "nothing:", "a b:c", "folder/x.pt2"])
def test_what_is_neither_file_nor_factory(text):
    with pytest.raises(ModelError, match=r"there is no file|neither a file nor package\.module:factory"):
        load_source(text)


def test_other_objects():
    with pytest.raises(ModelError, match=r"found a dict; accepted is a torch\.nn\.Module"):
        load_source({"weight": IMAGE})


def test_shapes():
    assert parse_shapes(["1,3,64,96"]) == [(1, 3, 64, 96)]
    assert parse_shapes(["1,3,8,8;1,10", "5"]) == [(1, 3, 8, 8), (1, 10), (5,)]
    for text in ("", "1,,3", "1,3,a", "0,3", "-1,3", "1.5"):
        with pytest.raises(InputError, match="accepted are positive whole numbers"):
            parse_shapes([text])
