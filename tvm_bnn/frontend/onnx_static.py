"""Make the shapes of an ONNX model static, and compute away what only handles shapes.

Exporters write a resize to the size of another map as a chain Shape -> Gather -> Concat -> Resize. With static inputs
every value of such a chain is known, and what is left is what PyTorch's own export would have given. Arithmetic on
weights is left alone: the compiler folds it in its defined arithmetic.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from tvm_bnn.errors import InputError, ModelError
from tvm_bnn.frontend.onnx_paths import path_of_node
from tvm_bnn.frontend.user_code import RAISED_BY_USERS, first_line

# values with more elements are data, and no shapes
_SMALL = 1024


def graph_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that are no weights (older files list those as well)."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def make_static(model: onnx.ModelProto, shapes: Sequence[tuple[int, ...]] | None, name: str) -> onnx.ModelProto:
    """The model for inputs of these shapes, its shape arithmetic folded.

    shapes : one an input; None for those that the model states.

    Raises InputError where the model leaves a size open and no shapes are given, or where they do not fit; ModelError
    where the sizes contradict each other.
    """
    _state_inputs(model, shapes, name)
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    folded = True
    while folded:
        model = _infer(model, name)
        folded = _fold(model)
    return model


def static_shape(value: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    """The shape of a value, None where it is not fully known."""
    kind = value.type.tensor_type
    if not kind.HasField("shape") or not all(dim.HasField("dim_value") for dim in kind.shape.dim):
        return None
    return tuple(dim.dim_value for dim in kind.shape.dim)


def _state_inputs(model: onnx.ModelProto, shapes: Sequence[tuple[int, ...]] | None, name: str) -> None:
    inputs = graph_inputs(model)
    for value in inputs:
        if not value.type.HasField("tensor_type"):
            raise ModelError(f"{name} has the input {value.name}, which is no tensor; only tensors are accepted")
    if shapes is None:
        for value in inputs:
            if not all(static_shape(value) or [0]) and static_shape(value) != ():
                raise InputError(
                    f"the input {value.name} of {name} has the dynamic shape {_shown(value)}; static shapes are "
                    f"compiled: give one, such as --input-shape {_suggested(value)}, or export without dynamic axes"
                )
        return
    if len(shapes) != len(inputs):
        stated = ", ".join(f"{value.name} {_shown(value)}" for value in inputs)
        raise InputError(f"found {len(shapes)} input shapes; {name} has {len(inputs)} inputs: {stated}")
    for value, shape in zip(inputs, shapes, strict=True):
        _state(value, shape, name)


def _state(value: onnx.ValueInfoProto, shape: tuple[int, ...], name: str) -> None:
    kind = value.type.tensor_type
    if kind.HasField("shape"):
        fits = len(kind.shape.dim) == len(shape) and all(
            not dim.dim_value or dim.dim_value == extent for dim, extent in zip(kind.shape.dim, shape, strict=True)
        )
        if not fits:
            raise InputError(
                f"the input {value.name} of {name} has the shape {_shown(value)}, found {list(shape)}; give a shape "
                "that fits, or export the model again with another one"
            )
    kind.ClearField("shape")
    for extent in shape:
        kind.shape.dim.add().dim_value = extent


def _shown(value: onnx.ValueInfoProto) -> str:
    dims = value.type.tensor_type.shape.dim
    return f"[{', '.join(str(dim.dim_value) if dim.dim_value else dim.dim_param or '?' for dim in dims)}]"


def _suggested(value: onnx.ValueInfoProto) -> str:
    dims = value.type.tensor_type.shape.dim
    usual = dict(enumerate((1, 3, 512, 1024))) if len(dims) == 4 else {}
    return ",".join(str(dim.dim_value or usual.get(axis, 1)) for axis, dim in enumerate(dims)) or "1,3,512,1024"


def _infer(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    # what the file states of the shapes inside may hold for other inputs
    model.graph.ClearField("value_info")
    try:
        return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except (onnx.shape_inference.InferenceError, *RAISED_BY_USERS) as error:
        raise ModelError(
            f"{name}: the shapes of its values cannot be inferred: {first_line(error)}; give other input shapes, or "
            "export the model again"
        ) from error


def _fold(model: onnx.ModelProto) -> bool:
    """Replace values that follow from shapes by initialisers; whether there were any."""
    graph = model.graph
    shapes = {value.name: static_shape(value) for value in (*graph.input, *graph.value_info, *graph.output)}
    known: dict[str, np.ndarray] = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if np.prod(tensor.dims) <= _SMALL
    }
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    from_shapes: set[str] = set()
    kept = []
    for node in graph.node:
        values = _known_values(node, shapes | weights, known, from_shapes)
        if values is None:
            kept.append(node)
            if node.op_type == "Constant":
                known.update(_small_constant(node))
            continue
        known.update(values)
        from_shapes.update(values)
    if not from_shapes:
        return False
    wanted = {item for node in kept for item in node.input} | {value.name for value in graph.output}
    graph.initializer.extend(numpy_helper.from_array(known[item], item) for item in from_shapes & wanted)
    del graph.node[:]
    graph.node.extend(kept)
    return True


def _known_values(
    node: onnx.NodeProto,
    shapes: Mapping[str, tuple[int, ...] | None],
    known: Mapping[str, np.ndarray],
    from_shapes: set[str],
) -> dict[str, np.ndarray] | None:
    """Results of a node that only handles shapes; None for any other node."""
    if node.op_type in ("Shape", "Size"):
        shape = shapes.get(node.input[0])
        if shape is None:
            return None
        if node.op_type == "Size":
            return {node.output[0]: np.array(int(np.prod(shape)), np.int64)}
        bounds = {attribute.name: attribute.i for attribute in node.attribute}
        return {node.output[0]: np.array(shape[slice(bounds.get("start", 0), bounds.get("end"))], np.int64)}
    given = [item for item in node.input if item]
    whole = all(item in known for item in given) and all(known[item].dtype.kind in "iub" for item in given)
    if not given or not all(item in known for item in given) or not (whole or from_shapes & set(given)):
        return None
    return _computed(node, known)


def _computed(node: onnx.NodeProto, known: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    try:
        results = ReferenceEvaluator(node).run(None, {item: known[item] for item in node.input if item})
    except RAISED_BY_USERS:  # the compiler's own folding has another try
        return None
    values = {item: np.asarray(result) for item, result in zip(node.output, results, strict=False) if item}
    return values if all(value.size <= _SMALL for value in values.values()) else None


def _small_constant(node: onnx.NodeProto) -> dict[str, np.ndarray]:
    found = _computed(node, {})
    return found or {}


def check_static(model: onnx.ModelProto, name: str) -> None:
    """Refuse values whose shape depends on data, with a ModelError that names the node."""
    shapes = {value.name: static_shape(value) for value in (*model.graph.value_info, *model.graph.output)}
    for node in model.graph.node:
        for item in node.output:
            if item in shapes and shapes[item] is None:
                raise ModelError(
                    f"{name}: the shape of what {path_of_node(node)} ({node.op_type}) gives depends on the data; "
                    "static shapes are accepted: replace that part of the model"
                )
