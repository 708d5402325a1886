"""ONNX as the second entrance: the same layers and the same values as onnxruntime, or one line that says why not."""

import importlib.util
import logging
import warnings
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from tvm_bnn.compile import main
from tvm_bnn.compiler import compile_source
from tvm_bnn.errors import InputError, ModelError, UnsupportedError
from tvm_bnn.examples.ding2024 import DEMO, build
from tvm_bnn.frontend.naming import name_by_node
from tvm_bnn.frontend.onnx_converters import nearest_positions
from tvm_bnn.frontend.source import load_source
from tvm_bnn.nn import BinaryConv2d, Sign
from tvm_bnn.reference import evaluate
from tvm_bnn.relay_passes.decisions import Decisions
from tvm_bnn.relay_passes.pipeline import optimize
from tvm_bnn.targets import resolve

QONNX = "qonnx.custom_op.general"
RNG = np.random.default_rng(0)


def values(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.fixture
def save(tmp_path):
    """Writes nodes as a model file: save(nodes, inputs={name: shape}, outputs=[names], weights={name: array})."""

    def write(nodes, inputs=None, outputs=("y",), weights=None, opset=18, rank=4, name="model"):
        inputs = {"x": (1, 4, 5, 7)} if inputs is None else inputs
        graph = helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in inputs.items()],
            [helper.make_tensor_value_info(key, TensorProto.FLOAT, [None] * rank) for key in outputs],
            [numpy_helper.from_array(np.asarray(value), key) for key, value in (weights or {}).items()],
        )
        domains = [helper.make_opsetid("", opset)]
        domains += [helper.make_opsetid(domain, 1) for domain in {node.domain for node in nodes if node.domain}]
        model = helper.make_model(graph, opset_imports=domains, ir_version=8)
        path = tmp_path / f"{name}.onnx"
        onnx.save(model, path)
        return path

    return write


def node(operator, inputs="x", outputs="y", domain="", name=None, **attributes):
    return helper.make_node(operator, inputs.split(" "), outputs.split(" "), name, domain=domain, **attributes)


def computed(source):
    """The module as imported, evaluated in the defined arithmetic."""
    return evaluate(source.imported().module, [value.numpy() for value in source.inputs])


def decide(source):
    decisions = Decisions()
    optimize(name_by_node(source.imported(), source.single).module, decisions)
    return decisions.layers


# --- what torch.onnx writes -------------------------------------------------------------------------------------


def export(model, image, path, dynamo, **options):
    """torch.onnx.export without what it says of itself."""
    logging.getLogger("torch").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (image,), path, dynamo=dynamo, **({"verbose": False} if dynamo else {}), **options)


IMAGE = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build(replace(DEMO, width=8, decoder_channels=16, argmax=False, input_size=(64, 96))).eval()


@pytest.fixture(scope="module")
def through_torch(network):
    """(the network's own result, what becomes of its layers)."""
    source = load_source(network, IMAGE)
    return source.expected[0], decide(source)


@pytest.mark.parametrize("dynamo", [True, False])
def test_the_example_network_has_the_same_binary_layers_through_both_entrances(
    network, through_torch, dynamo, tmp_path, capfd
):
    export(network, IMAGE, tmp_path / "net.onnx", dynamo)
    expected, layers = through_torch
    source = load_source(tmp_path / "net.onnx", IMAGE)
    assert source.oracle == f"onnxruntime {onnxruntime.__version__}" and source.input_names == ("image",)
    torch.testing.assert_close(source.expected[0], expected, rtol=1e-4, atol=1e-4)

    found = decide(source)
    assert [(a.op, a.decision) for a in found] == [(b.op, b.decision) for b in layers]
    assert sum(layer.decision == "binary" for layer in found) == 30
    for layer, own in zip(found, layers, strict=True):
        # a layer that the exporter has merged with its batch normalisation is called by that one's name
        merged = isinstance(network.get_submodule(layer.path), torch.nn.BatchNorm2d)
        assert layer.path == own.path or merged, (layer.path, own.path)
    torch.testing.assert_close(torch.from_numpy(computed(source)[0]), expected, rtol=1e-4, atol=1e-4)


def test_what_an_export_is_compiled_to(tmp_path):
    """A small network as an artifact, which says what it was compared with."""
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 32, 3, 2, 1), Sign(), BinaryConv2d(32, 32, 3, padding=1), torch.nn.Conv2d(32, 4, 1)]
    network = torch.nn.Sequential(*layers).eval()
    export(network, IMAGE, tmp_path / "net.onnx", True)
    made = compile_source(source := load_source(tmp_path / "net.onnx", IMAGE), resolve("llvm", 1))
    assert [layer.decision for layer in made.decisions.layers] == ["float", "binary", "float"]
    manifest = made.artifact.manifest
    assert manifest["name"] == "net" and manifest["inputs"][0]["name"] == "input"
    assert manifest["check"]["compared_with"] == source.oracle and manifest["check"]["outputs"][0]["max_rel"] < 1e-4
    torch.testing.assert_close(made.artifact(IMAGE), network(IMAGE), rtol=1e-4, atol=1e-4)


# --- one operator each, against onnxruntime ----------------------------------------------------------------------

OPERATORS = {
    "clip": ([node("Clip", "x low high")], {"low": np.float32(-0.5), "high": np.float32(0.25)}),
    "clip from below": ([node("Clip", "x low")], {"low": np.float32(-0.5)}),
    "clip of old": ([node("Clip", min=-0.5, max=0.25)], {}, {"opset": 10}),
    "pad": ([node("Pad", "x w v")], {"w": np.array([0, 0, 1, 2, 0, 0, 3, 0]), "v": np.float32(1)}),
    "pad axes": ([node("Pad", "x w v a")], {"w": np.array([1, 2, 0, 1]), "v": np.float32(-1), "a": np.array([3, 2])}),
    "pad edge": ([node("Pad", "x w", mode="edge")], {"w": np.array([0, 0, 1, 2, 0, 0, 3, 0])}),
    "pad of old": ([node("Pad", pads=[0, 0, 1, 1, 0, 0, 1, 1], value=2.0)], {}, {"opset": 10}),
    "batch norm": (
        [node("BatchNormalization", "x g b m v")],
        {"g": values(4), "b": values(4), "m": values(4), "v": np.abs(values(4)) + 0.5},
    ),
    "depth to space, DCR": ([node("DepthToSpace", blocksize=2)], {}),
    "depth to space, CRD": ([node("DepthToSpace", blocksize=2, mode="CRD")], {}),
    "einsum": ([node("Einsum", "x x", equation="nchw,ndhw->ndc")], {}, {"rank": 3}),
    "einsum with a batch": ([node("Einsum", "x x", equation="nchw,nkhw->hnkc")], {}),
    "gather one": ([node("Gather", "x i", axis=1)], {"i": np.array(-2)}, {"rank": 3}),
    "gather some": ([node("Gather", "x i", axis=3)], {"i": np.array([0, -1, 3])}),
    "tile": ([node("Tile", "x n")], {"n": np.array([1, 2, 1, 3])}),
    "dropout": ([node("Dropout")], {}),
    "convolution, same size": ([node("Conv", "x w", auto_pad="SAME_LOWER", strides=[2, 1])], {"w": values(3, 4, 4, 3)}),
    "convolution with a bias": ([node("Conv", "x w b", pads=[1, 0, 2, 1])], {"w": values(3, 4, 3, 3), "b": values(3)}),
    "transposed": ([node("ConvTranspose", "x w", strides=[2, 2], output_padding=[1, 0])], {"w": values(4, 3, 3, 3)}),
    "pool, same size": ([node("MaxPool", kernel_shape=[3, 2], auto_pad="SAME_UPPER", strides=[2, 2])], {}),
    "average": ([node("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])], {}),
    "product": (
        [node("Reshape", "x s", "f"), node("Gemm", "f w b", transB=1)],
        {"s": np.array([4, -1]), "w": values(6, 35), "b": values(6)},
        {"rank": 2},
    ),
    "prelu": ([node("PRelu", "x s")], {"s": values(4, 1, 1)}),
    "size of a map": (
        [
            node("Shape", "x", "shape"),
            node("Slice", "shape from to", "size"),
            node("Concat", "one size", "sizes", axis=0),
            node("MaxPool", "x", "small", kernel_shape=[2, 2], strides=[2, 2]),
            node("Resize", "small   sizes", mode="nearest", coordinate_transformation_mode="asymmetric"),
        ],
        {"from": np.array([2]), "to": np.array([4]), "one": np.array([1, 4])},
    ),
}


@pytest.mark.parametrize("case", OPERATORS)
def test_operator(case, save):
    nodes, weights, *more = OPERATORS[case]
    source = load_source(save(nodes, weights=weights, **(more[0] if more else {})))
    (found,) = computed(source)
    expected = source.expected[0].numpy()
    assert source.oracle.startswith("onnxruntime") and found.shape == expected.shape and found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


COORDINATES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]


@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("coordinates", [*COORDINATES, "tf_half_pixel_for_nn"])
def test_nearest_resize_copies_the_pixels_that_onnxruntime_copies(coordinates, rounding, save):
    """Up and down, by whole and by broken factors, by scale and by size; each element is its own position.

    With round_prefer_ceil some of these are refused, as is said in nearest_positions; the rest is as exact.
    """
    how = {"mode": "nearest", "coordinate_transformation_mode": coordinates, "nearest_mode": rounding}
    data = np.arange(35, dtype=np.float32).reshape(1, 1, 5, 7)
    sizes = [(10, 14), (13, 17), (15, 28), (3, 2), (1, 1), (5, 7)]
    scales = [(2, 2), (1.5, 2.6), (0.5, 0.3), (3, 1)]
    cases = [("x   s", np.array([1, 1, *size])) for size in sizes]
    cases += [("x  s", np.array([1, 1, *scale], np.float32)) for scale in scales]
    compared = 0
    for index, (inputs, given) in enumerate(cases):
        path = save([node("Resize", inputs, **how)], {"x": data.shape}, weights={"s": given}, name=f"{index}")
        try:
            source = load_source(path, torch.from_numpy(data))
        except UnsupportedError as error:
            assert rounding == "round_prefer_ceil" and "depends on rounding errors" in str(error)
            continue
        assert np.array_equal(computed(source)[0], source.expected[0].numpy()), given
        compared += 1
    assert compared >= (7 if rounding == "round_prefer_ceil" else 10)


def test_nearest_resize_by_two_is_the_operator_that_bits_travel_through(save):
    for coordinates, rounding in (("half_pixel", "round_prefer_floor"), ("asymmetric", "floor")):
        assert nearest_positions(6, 12, 2.0, coordinates, rounding).tolist() == np.repeat(np.arange(6), 2).tolist()
    how = {"mode": "nearest", "coordinate_transformation_mode": "half_pixel"}
    source = load_source(save([node("Resize", "x  s", **how)], weights={"s": np.array([1, 1, 2, 2], np.float32)}))
    script = source.imported().module.script()
    assert "resize2d" in script and "asymmetric" in script and "take" not in script


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_smooth_resize(mode, coordinates, save):
    how = {"mode": mode, "coordinate_transformation_mode": coordinates}
    source = load_source(save([node("Resize", "x   s", **how)], weights={"s": np.array([1, 4, 13, 3])}))
    np.testing.assert_allclose(computed(source)[0], source.expected[0].numpy(), rtol=1e-5, atol=1e-5)


def test_cubic_resize_compiles(save):
    nodes = [node("Resize", "x   sizes", mode="cubic", coordinate_transformation_mode="half_pixel")]
    source = load_source(save(nodes, weights={"sizes": np.array([1, 4, 10, 9])}))
    made = compile_source(source, resolve("llvm", 1))
    np.testing.assert_allclose(made.artifact(source.inputs[0]), source.expected[0], rtol=0, atol=1e-5)


def test_upsample_of_old_opsets(save):
    for opset in (7, 9):
        scales = {"scales": [1.0, 1.0, 2.0, 3.0]} if opset == 7 else {}
        weights = {} if opset == 7 else {"s": np.array([1, 1, 2, 3], np.float32)}
        path = save([node("Upsample", "x" if opset == 7 else "x s", **scales)], weights=weights, opset=opset)
        source = load_source(path)
        assert np.array_equal(computed(source)[0], source.expected[0].numpy())


SIZES = np.array([1, 4, 3, 3])
FACTORS = np.array([1, 1, 1.5, 1.5], np.float32)


@pytest.mark.parametrize(
    ("nodes", "weights", "message"),
    [
        ([node("Celu", name="act7")], {}, r"operators that cannot be imported: Celu \(in act7\)"),
        ([node("Gelu2", name="act", domain="their.own")], {}, r"their\.own\.Gelu2 \(in act\)"),
        ([node("Pad", "x w", name="crop")], {"w": np.array([0, 0, -1, 0, 0, 0, 0, 0])}, "crop: operator Pad .* Slice"),
        ([node("Resize", "x   s", name="up", antialias=1, mode="linear")], {"s": SIZES}, "up: .*antialias=1"),
        ([node("Resize", "x  s", name="up", mode="linear")], {"s": FACTORS}, "no whole size"),
        ([node("Resize", "x   s", name="up")], {"s": np.array([1, 8, 5, 7])}, "height and width"),
        ([node("Einsum", "x x", name="e", equation="nchw,nchc->nhwc")], {}, "no product of two matrices"),
        (
            [node("NonZero", "x", "i", name="where"), node("Cast", "i", to=TensorProto.FLOAT)],
            {},
            r"where \(NonZero\) gives depends on the data",
        ),
    ],
)
def test_what_is_refused_names_its_node(nodes, weights, message, save):
    with pytest.raises((UnsupportedError, ModelError), match=message) as caught:
        load_source(save(nodes, weights=weights))
    assert "\n" not in str(caught.value)


# --- QONNX ------------------------------------------------------------------------------------------------------


def quantised(x, scale, zero, bits, signed, narrow, rounding=np.rint):
    """QONNX's Quant, as its document states it."""
    level = x / scale + zero
    if bits == 1 and signed:
        level = np.where(level >= 0, 1, -1)
    else:
        low = -(2 ** (bits - 1)) + narrow if signed else 0
        high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow
        level = rounding(np.clip(level, low, high))
    return ((level - zero) * scale).astype(np.float32)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize(("signed", "narrow"), [(1, 0), (1, 1), (0, 0), (0, 1)])
def test_quant(bits, signed, narrow, save):
    for rounding, function, zero in (("ROUND", np.rint, 0.0), ("FLOOR", np.floor, 1.0), ("CEIL", np.ceil, 0.0)):
        quant = node("Quant", "x scale zero bits", domain=QONNX, signed=signed, narrow=narrow, rounding_mode=rounding)
        weights = {"scale": np.float32(0.25), "zero": np.float32(zero), "bits": np.float32(bits)}
        source = load_source(save([quant], weights=weights))
        x = source.inputs[0].numpy()
        assert np.array_equal(computed(source)[0], quantised(x, np.float32(0.25), zero, bits, signed, narrow, function))
        assert torch.equal(torch.from_numpy(computed(source)[0]), source.expected[0])


def bipolar_network(weights):
    """Two binary convolutions as QONNX writes them: quantisers on activations and on weights."""
    weights.update(
        stem=values(6, 3, 3, 3), w1=values(8, 6, 3, 3), w2=values(5, 8, 1, 1),
        one=np.float32(1), half=np.float32(0.5), per_filter=2.0 ** RNG.integers(-2, 2, (8, 1, 1, 1)).astype(np.float32),
        zero=np.float32(0), one_bit=np.float32(1), signed_scale=np.float32(1),
    )
    return [
        node("Conv", "x stem", "s", name="stem", pads=[1, 1, 1, 1]),
        node("BipolarQuant", "s half", "a1", QONNX, "act1"),
        node("BipolarQuant", "w1 per_filter", "q1", QONNX, "weight1"),
        node("Conv", "a1 q1", "c1", name="conv1", pads=[1, 1, 1, 1]),
        node("Quant", "c1 one zero one_bit", "a2", QONNX, "act2", signed=1, narrow=0),
        node("BipolarQuant", "w2 one", "q2", QONNX, "weight2"),
        node("Conv", "a2 q2", "y", name="conv2"),
    ]


def test_bipolar_network_is_binary_and_exact(save):
    weights = {}
    path = save(bipolar_network(weights), {"x": (1, 3, 9, 11)}, weights=weights)
    source = load_source(path)
    made = compile_source(source, resolve("llvm", 1))
    assert [(row["path"], row["decision"]) for row in made.artifact.explain()] == [
        ("stem", "float"),
        ("conv1", "binary"),
        ("conv2", "binary"),
    ]
    # zero is +1 by definition, so no convention was needed
    assert made.decisions.guessed_signs == []
    assert torch.equal(made.artifact(source.inputs[0]), source.expected[0])


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_bits_pass_depth_to_space(mode, save):
    weights = {"w": np.where(values(5, 2, 3, 3) > 0, 1, -1).astype(np.float32), "zero": np.float32(0)}
    weights |= {"up": np.float32(1), "down": np.float32(-1)}
    nodes = [
        node("GreaterOrEqual", "x zero", "bits"),
        node("Where", "bits up down", "signs"),
        node("DepthToSpace", "signs", "large", blocksize=2, mode=mode),
        node("Conv", "large w", "y", name="layer", pads=[1, 1, 1, 1]),
    ]
    source = load_source(save(nodes, {"x": (2, 8, 3, 5)}, weights=weights))
    made = compile_source(source, resolve("llvm", 1))
    assert source.oracle.startswith("onnxruntime")
    assert [row["decision"] for row in made.artifact.explain()] == ["binary"]
    assert torch.equal(made.artifact(source.inputs[0]), source.expected[0])


def test_other_quantisers_are_refused(save):
    weights = {"s": np.float32(1), "z": np.float32(0), "b": np.float32(2)}
    trunc = node("Trunc", "x s z b b", domain=QONNX, name="cut")
    with pytest.raises(UnsupportedError, match="cut: the QONNX operator Trunc cannot be imported; accepted are"):
        load_source(save([trunc], weights=weights))
    odd = node("Quant", "x s z b", domain=QONNX, name="q", signed=1, narrow=0, rounding_mode="HALF_UP")
    with pytest.raises(UnsupportedError, match="q: Quant rounds by HALF_UP; accepted are ROUND, CEIL, FLOOR"):
        load_source(save([odd], weights=weights))
    broken = node("Quant", "x s z b", domain=QONNX, name="q", signed=1, narrow=0)
    with pytest.raises(UnsupportedError, match=r"q: the number of bits of Quant is 2\.5"):
        load_source(save([broken], weights={**weights, "b": np.float32(2.5)}))


# --- names, shapes, files ----------------------------------------------------------------------------------------


def test_layers_are_called_by_their_nodes(save):
    weights = {"w1": values(4, 4, 1, 1), "w2": values(4, 4, 1, 1)}
    nodes = [node("Conv", "x w1", "a"), node("Conv", "a w2", "y", name="/enc/stages.0/stages.0.1/conv/Conv")]
    assert [layer.path for layer in decide(load_source(save(nodes, weights=weights)))] == ["a", "enc.stages.0.1.conv"]


def test_open_sizes_need_a_shape(save, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    weights = {"w": values(4, 3, 3, 3)}
    path = save([node("Conv", "x w")], {"x": ("batch", 3, "h", "w")}, weights=weights)
    with pytest.raises(InputError, match=r"dynamic shape \[batch, 3, h, w\]; .*--input-shape 1,3,512,1024, or export"):
        load_source(path)
    assert load_source(path, input_shape=[(1, 3, 8, 9)]).expected[0].shape == (1, 4, 6, 7)
    assert load_source(path, torch.ones(2, 3, 5, 5)).expected[0].shape == (2, 4, 3, 3)
    for shapes, message in (([(1, 4, 8, 8)], "has the shape"), ([(1, 3, 8, 8)] * 2, "found 2 input shapes")):
        with pytest.raises(InputError, match=message):
            load_source(path, input_shape=shapes)
    assert main([str(path), "--input-shape", "1,3,8,9", "-o", "made.bnn"]) == 0
    assert "against onnxruntime" in capsys.readouterr().out


def test_inputs_of_another_type(save):
    path = save([node("Relu")])
    with pytest.raises(InputError, match="model takes float32, found float64"):
        load_source(path, torch.zeros(1, 4, 5, 7, dtype=torch.float64))
    with pytest.raises(ModelError, match="model is an ONNX model, which has its weights"):
        load_source(path, weights="w.pt")


def external(path):
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (path.parent / "weights.bin").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_text("this is no model"), "no ONNX model"),
        (lambda path: path.write_bytes(b""), "no ONNX model"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "ONNX model"),
        (lambda path: (path.unlink(), path.mkdir()), "is a folder"),
        (lambda path: path.unlink(), "does not exist"),
        (external, "keeps its weights in weights.bin, which cannot be read"),
    ],
)
def test_bad_files_are_one_line(spoil, message, save, capfd, monkeypatch, tmp_path):
    path = save([node("Conv", "x w")], weights={"w": values(4, 4, 3, 3)})
    spoil(path)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert main([str(path)]) == 2
    errors = capfd.readouterr().err
    assert errors.startswith("error: ") and errors.count("\n") == 1 and message in errors, errors
    assert sorted(tmp_path.iterdir()) == before


def test_without_the_package(save, monkeypatch):
    path = save([node("Relu")])
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "onnx" else real(name, *rest))
    with pytest.raises(ModelError, match=r"needs the Python package onnx, .*pip install 'tvm_bnn\[onnx\]'"):
        load_source(path)


def test_without_onnxruntime_the_reference_evaluator_is_asked(save, monkeypatch):
    weights = {}
    path = save(bipolar_network(weights), {"x": (1, 3, 9, 11)}, weights=weights)
    expected = load_source(path).expected[0]
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "onnxruntime" else real(name, *rest)
    )
    source = load_source(path)
    assert source.oracle == "the reference evaluator" and torch.equal(source.expected[0], expected)


@pytest.mark.parametrize(
    ("activation", "weight", "planes"),
    [
        # (bits, signed, narrow) of the activation; of the weight, or None for +-1; products of bit planes
        ((2, 0, 0), None, 2),
        ((4, 0, 0), None, 4),
        ((1, 0, 0), None, 1),
        ((2, 1, 1), None, 2),
        ((1, 1, 0), (2, 1, 1), 2),
    ],
)
def test_quantised_layers_are_sums_of_planes(activation, weight, planes, save):
    weights = {
        "w": values(6, 4, 3, 3), "scale": np.float32(0.25), "one": np.float32(1), "zero": np.float32(0),
        "a_bits": np.float32(activation[0]), "w_bits": np.float32(weight[0] if weight else 1),
    }  # fmt: skip
    signed, narrow = weight[1:] if weight else (1, 0)
    nodes = [
        node("Quant", "x scale zero a_bits", "a", QONNX, signed=activation[1], narrow=activation[2]),
        node("Quant", "w one zero w_bits", "q", QONNX, signed=signed, narrow=narrow),
        node("Conv", "a q", "y", name="layer", pads=[1, 1, 1, 1]),
    ]
    source = load_source(save(nodes, weights=weights))
    made = compile_source(source, resolve("llvm", 1))
    assert [(row["path"], row["decision"], row["planes"]) for row in made.artifact.explain()] == [
        ("layer", "binary", planes)
    ]
    assert torch.equal(made.artifact(source.inputs[0]), source.expected[0])
