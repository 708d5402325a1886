"""Which layer an ONNX node belongs to: the name that users see.

Both exporters of PyTorch leave the module path behind, each in its own way:

* the present one in the node's metadata, as the list of scopes ``['', 'encoder', 'encoder.conv', 'conv2d']``; where its
  optimiser has merged a batch normalisation into a convolution, the name of the weight still tells the convolution's;
* the older one in the node's name, ``/encoder/stages.0/stages.0.1/conv/Conv``, whose parts repeat the names of
  containers.

Nodes from elsewhere are called by their name, and those without one by their first output.
"""

import ast
import re

import onnx

#: Key of a node's metadata that holds the path.
PATH = "tvm_bnn.path"
_SCOPES = "pkg.torch.onnx.name_scopes"
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def mark_paths(model: onnx.ModelProto) -> None:
    """Write the path of each node into its metadata, under PATH."""
    weights = {t.name for t in model.graph.initializer if len(t.dims) > 1 and _layer_of_weight(t.name)}
    # value -> the weight that it is computed from, as far as that is a single one
    weight_of = {name: name for name in weights}
    for node in model.graph.node:
        behind = {weight_of[item] for item in node.input if item in weight_of}
        if len(behind) == 1:
            (weight_of[node.output[0]],) = behind
        layer = _layer_of_weight(weight_of.get(node.input[1], "")) if node.op_type in _WEIGHTED else ""
        set_path(node, layer if layer and _metadata(node, _SCOPES) else _path(node))


def set_path(node: onnx.NodeProto, path: str) -> None:
    """Write a node's path."""
    entry = node.metadata_props.add()
    entry.key, entry.value = PATH, path


def path_of_node(node: onnx.NodeProto) -> str:
    """The path that was written, or the one that would be."""
    return _metadata(node, PATH) or _path(node)


def _metadata(node: onnx.NodeProto, key: str) -> str:
    return next((entry.value for entry in node.metadata_props if entry.key == key), "")


def _path(node: onnx.NodeProto) -> str:
    scopes = _metadata(node, _SCOPES)
    if scopes:
        return (ast.literal_eval(scopes)[:-1] or [""])[-1] or _own_name(node)
    if node.name.startswith("/"):
        return _joined(node.name.split("/")[1:-1]) or _own_name(node)
    return _own_name(node)


def _layer_of_weight(name: str) -> str:
    found = re.fullmatch(r"(.+)\.weight", name)
    return found[1] if found else ""


def _own_name(node: onnx.NodeProto) -> str:
    return node.name.rpartition("/")[2] or node.output[0]


def _joined(parts: list[str]) -> str:
    """``[encoder, stages.0, stages.0.1, conv]`` -> ``encoder.stages.0.1.conv``."""
    kept: list[str] = []
    for part in parts:
        if kept and part.startswith(f"{kept[-1]}."):
            kept.pop()
        kept.append(part)
    return ".".join(kept)
