"""ONNX -> Relax: TVM's importer, with its errors corrected and every call marked with its layer.

Each node's result is bound to a variable at once, and what TVM expresses by kernels instead of operators is translated
by `onnx_converters` or refused: passes can prove nothing about a kernel.
"""

import contextlib
import io
import re
import warnings
from typing import Any

import onnx
import tvm
from tvm import relax
from tvm.relax.frontend.onnx.onnx_frontend import ONNXGraphImporter, _get_convert_map

from tvm_bnn.errors import UnsupportedError
from tvm_bnn.frontend.importer import Imported
from tvm_bnn.frontend.onnx_converters import CONVERTERS, resolve_auto_pad
from tvm_bnn.frontend.onnx_file import STANDARD_DOMAINS
from tvm_bnn.frontend.onnx_paths import path_of_node
from tvm_bnn.frontend.span_builder import SpanBuilder
from tvm_bnn.frontend.user_code import RAISED_BY_USERS, first_line
from tvm_bnn.relay_passes.rewriter import bindings_of, shape_of

_CONTROL_FLOW = ("If", "Loop", "Scan")
_WINDOWS = ("Conv", "MaxPool", "AveragePool")


def import_onnx(model: onnx.ModelProto) -> tuple[Imported, dict[str, str]]:
    """Translate a model of static shapes and operators that `check_operators` accepts; weights become constants.

    Returns the module, and the ONNX names of the values that it calls by names that are fit for Relax.

    Raises UnsupportedError where a form of an operator has no translation; the message names it and its node.
    """
    importer = _Importer(model)
    # TVM prints the operator that fails
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        module = importer.from_onnx(model.graph, _opset(model))
    _check_graph(module)
    values = _values(importer)
    node_of = {variable: plain for variable, plain, _ in values}
    return Imported(module, None, node_of), {plain: name for _, plain, name in values}


def _opset(model: onnx.ModelProto) -> int:
    return next((entry.version for entry in model.opset_import if entry.domain in STANDARD_DOMAINS), 1)


def check_operators(model: onnx.ModelProto) -> None:
    """Raises UnsupportedError for operators without a translation, each named with the first node that uses it."""
    known = {*_get_convert_map(), *CONVERTERS, "Constant"} - {*_CONTROL_FLOW}
    missing: dict[str, str] = {}
    for node in model.graph.node:
        foreign = node.domain not in STANDARD_DOMAINS
        if foreign or node.op_type not in known:
            missing.setdefault(f"{node.domain}.{node.op_type}" if foreign else node.op_type, path_of_node(node))
    if missing:
        found = ", ".join(f"{name} (in {path})" for name, path in missing.items())
        raise UnsupportedError(f"operators that cannot be imported: {found}; replace them by supported ones")


class _Importer(ONNXGraphImporter):
    """TVM's importer with spans, our converters and one binding a node."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__({}, "float32")
        self.bb = SpanBuilder()
        self.paths: dict[str, str] = {}
        for index, node in enumerate(model.graph.node):
            # a converter is told the node's name, and nothing else of it
            node.name = f"{index}"
            self.paths[node.name] = path_of_node(node)

    def _convert_operator(self, op_name: str, inputs: list, attrs: dict[str, Any], opset: int) -> relax.Expr:
        path = self.paths.get(attrs["tvm_custom"]["name"], "")
        self.bb.enter(path)
        try:
            return self._bound(self._converted(op_name, inputs, attrs, opset))
        except UnsupportedError as error:
            raise UnsupportedError(f"{path}: operator {op_name} cannot be imported: {error}") from error
        except RAISED_BY_USERS as error:
            raise UnsupportedError(
                f"{path}: operator {op_name} cannot be imported ({first_line(error)}); replace it by supported ones"
            ) from error
        finally:
            self.bb.leave()

    def _converted(self, op_name: str, inputs: list, attrs: dict[str, Any], opset: int) -> relax.Expr:
        if op_name in CONVERTERS:
            return CONVERTERS[op_name](self.bb, list(inputs), attrs, opset)
        if op_name in _WINDOWS:
            kernel = shape_of(inputs[1])[2:] if op_name == "Conv" else attrs["kernel_shape"]
            resolve_auto_pad(attrs, shape_of(inputs[0])[2:], kernel)
        if op_name == "ConvTranspose" and "output_shape" in attrs:
            raise UnsupportedError("it states its output_shape; state the paddings instead")
        return super()._convert_operator(op_name, inputs, attrs, opset)

    def _bound(self, value: relax.Expr) -> relax.Expr:
        if isinstance(value, relax.Tuple):
            return relax.Tuple([self._bound(field) for field in value.fields])
        return self.bb.emit(value) if isinstance(value, relax.Call | relax.TupleGetItem) else value


def _check_graph(module: tvm.IRModule) -> None:
    for binding in bindings_of(module["main"]):
        value = binding.value
        if isinstance(value, relax.Call) and not (
            isinstance(value.op, tvm.ir.Op) and value.op.name.startswith("relax.") and "call_tir" not in value.op.name
        ):
            raise UnsupportedError(
                f"{_place(value)}: its operator is imported as a kernel, which no pass can read; replace it by others"
            )
        if isinstance(binding.var.ty, relax.ShapeType):
            raise UnsupportedError(f"{_place(value)}: it computes with shapes; export the model with static shapes")


def _place(value: relax.Expr) -> str:
    return value.span.source_name.name if isinstance(value.span, tvm.ir.Span) else "the model"


def _values(importer: _Importer) -> list[tuple[str, str, str]]:
    """(Relax variable, a name for it that is fit for Relax and unique, name of the ONNX value)."""
    found: dict[str, tuple[str, str, str]] = {}
    taken: set[str] = set()
    for name, value in importer._nodes.items():
        if isinstance(value, relax.Var) and value.name not in found:
            plain = re.sub(r"\W+", "_", name).strip("_") or "value"
            plain = f"v_{plain}" if plain[0].isdigit() else plain
            while plain in taken:
                plain += "_"
            taken.add(plain)
            found[value.name] = (value.name, plain, name)
    return list(found.values())
