"""An ONNX model as a source: the second entrance beside torch.export.

What the model itself computes is asked of onnxruntime where that is installed, else of the reference evaluator on the
graph as imported (which then checks the compiler, but not the import).
"""

import importlib
import importlib.util
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from onnx.helper import tensor_dtype_to_np_dtype
from torch import Tensor

from tvm_bnn.errors import InputError, ModelError
from tvm_bnn.frontend.importer import Imported
from tvm_bnn.frontend.onnx_file import read_onnx
from tvm_bnn.frontend.onnx_importer import check_operators, import_onnx
from tvm_bnn.frontend.onnx_paths import mark_paths
from tvm_bnn.frontend.onnx_quantizers import expand_quantizers
from tvm_bnn.frontend.onnx_static import check_static, graph_inputs, make_static, static_shape
from tvm_bnn.frontend.source import Shape, Source, described, seeded, tensors
from tvm_bnn.frontend.user_code import RAISED_BY_USERS, first_line
from tvm_bnn.reference import evaluate


@dataclass(frozen=True, kw_only=True)
class OnnxSource(Source):
    """A model that came from an ONNX file.

    proto : with static shapes, standard operators and the weights inside.
    translated : to Relax.
    value_names : name in ``translated.node_of`` -> name of the ONNX value.
    """

    proto: onnx.ModelProto
    translated: Imported
    value_names: dict[str, str]

    def imported(self) -> Imported:
        """TVM's importer with our corrections."""
        return self.translated

    def values(self, imported: Imported, nodes: Collection[str]) -> dict[str, np.ndarray]:
        """Computed by onnxruntime, or by the reference evaluator."""
        wanted = [node for node in nodes if node in self.value_names]
        if _has_onnxruntime():
            names = [self.value_names[node] for node in wanted]
            return dict(zip(wanted, _run_onnxruntime(self.proto, self.inputs, names), strict=True))
        found: dict[str, np.ndarray] = {}

        def observe(variable: str, value: Any) -> None:
            if imported.node_of.get(variable) in wanted:
                found[imported.node_of[variable]] = np.asarray(value)

        evaluate(imported.module, [value.numpy() for value in self.inputs], observe=observe)
        return found

    @property
    def float_bytes(self) -> int:
        """Every float initialiser as float32."""
        return 4 * sum(value.size for value in self._weights() if np.issubdtype(value.dtype, np.floating))

    @property
    def weight_bytes(self) -> int:
        """All initialisers."""
        return sum(value.nbytes for value in self._weights())

    def _weights(self) -> list[np.ndarray]:
        return [numpy_helper.to_array(tensor) for tensor in self.proto.graph.initializer]


def load_onnx(
    path: str | os.PathLike[str],
    example_inputs: Any = None,
    input_shape: Sequence[Shape] | None = None,
    name: str | None = None,
) -> OnnxSource:
    """Take a model from an ONNX file.

    example_inputs : the arguments of one call; by default seeded tensors of ``input_shape``, or of the shapes that the
        model states.
    input_shape : one shape an input; needed where the model leaves sizes open.

    Raises ModelError for a file that is no ONNX model or lacks its external data, InputError for unusable inputs,
    UnsupportedError for operators without a translation.
    """
    name = name or Path(path).stem
    proto = read_onnx(path)
    given = tensors(example_inputs) if example_inputs is not None else None
    shapes = [tuple(value.shape) for value in given] if given is not None else input_shape
    mark_paths(proto)
    expand_quantizers(proto)
    check_operators(proto)
    proto = make_static(proto, shapes, name)
    check_static(proto, name)
    inputs = given if given is not None else _example_inputs(proto)
    _check_dtypes(proto, inputs, name)
    translated, value_names = import_onnx(proto)
    expected, oracle = _run(proto, translated, inputs, name)
    return OnnxSource(
        proto=proto,
        translated=translated,
        value_names=value_names,
        name=name,
        input_names=tuple(value.name for value in graph_inputs(proto)),
        inputs=inputs,
        expected=expected,
        oracle=oracle,
        single=len(proto.graph.output) == 1,
    )


def _dtypes(proto: onnx.ModelProto) -> list[np.dtype]:
    return [tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type) for value in graph_inputs(proto)]


def _example_inputs(proto: onnx.ModelProto) -> tuple[Tensor, ...]:
    shapes = [static_shape(value) or () for value in graph_inputs(proto)]
    return tuple(
        value.to(torch.from_numpy(np.empty(0, dtype)).dtype)
        for value, dtype in zip(seeded(shapes), _dtypes(proto), strict=True)
    )


def _check_dtypes(proto: onnx.ModelProto, inputs: Sequence[Tensor], name: str) -> None:
    stated = [str(dtype) for dtype in _dtypes(proto)]
    if [str(value.dtype).removeprefix("torch.") for value in inputs] != stated:
        raise InputError(
            f"{name} takes {', '.join(stated)}, found {', '.join(map(described, inputs))}; give inputs of these types"
        )


def _run(
    proto: onnx.ModelProto, translated: Imported, inputs: Sequence[Tensor], name: str
) -> tuple[tuple[Tensor, ...], str]:
    """What the model gives for its inputs, and what has computed it."""
    if _has_onnxruntime():
        try:
            results = _run_onnxruntime(proto, inputs, None)
        except (_errors().Fail, _errors().InvalidArgument, _errors().NotImplemented, *RAISED_BY_USERS) as error:
            raise ModelError(f"{name} does not run in onnxruntime: {first_line(error)}; export it again") from error
        oracle = f"onnxruntime {importlib.import_module('onnxruntime').__version__}"
    else:
        results = list(evaluate(translated.module, [value.numpy() for value in inputs]))
        oracle = "the reference evaluator"
    return tuple(torch.from_numpy(np.array(value)) for value in results), oracle


def _has_onnxruntime() -> bool:
    return importlib.util.find_spec("onnxruntime") is not None


def _errors() -> Any:
    return importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")


def _run_onnxruntime(
    proto: onnx.ModelProto, inputs: Sequence[Tensor], wanted: Sequence[str] | None
) -> list[np.ndarray]:
    """The results, or the wanted values inside, as onnxruntime computes the model as written."""
    import onnxruntime

    if wanted is not None:
        inner = onnx.ModelProto()
        inner.CopyFrom(proto)
        inner.graph.output.extend(onnx.ValueInfoProto(name=value) for value in wanted)
        proto = inner
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    arrays = {value.name: tensor.numpy() for value, tensor in zip(graph_inputs(proto), inputs, strict=True)}
    return session.run(wanted, arrays)
