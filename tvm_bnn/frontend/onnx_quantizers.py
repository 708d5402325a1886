"""QONNX's quantisers as standard ONNX nodes.

``BipolarQuant(x, scale)``       (x >= 0 ? 1 : -1) * scale: zero becomes +1.
``Quant(x, scale, zero, bits)``  (round(clip(x / scale + zero, low, high)) - zero) * scale, where low and high follow
                                 from bits, ``signed`` and ``narrow``; with one signed bit the inner part is
                                 x / scale + zero >= 0 ? 1 : -1.

Declines, with an error that names the node, a number of bits that is not constant and roundings other than to the
nearest, up and down.
"""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import numpy_helper

from tvm_bnn.errors import UnsupportedError
from tvm_bnn.frontend.onnx_paths import path_of_node, set_path

DOMAINS = ("qonnx.custom_op.general", "finn.custom_op.general", "onnx.brevitas")
_ROUNDING = {"ROUND": "Round", "CEIL": "Ceil", "FLOOR": "Floor"}


def expand_quantizers(model: onnx.ModelProto) -> None:
    """Replace the quantisers of a model in place; the new nodes bear the old one's path.

    Raises UnsupportedError for any other operator of these domains.
    """
    nodes = list(model.graph.node)
    if not any(node.domain in DOMAINS for node in nodes):
        return
    constants = _constants(model)
    del model.graph.node[:]
    for node in nodes:
        if node.domain in DOMAINS:
            model.graph.node.extend(_Expansion(model, node, constants).nodes())
        else:
            model.graph.node.append(node)
    standard = [entry for entry in model.opset_import if entry.domain not in DOMAINS]
    del model.opset_import[:]
    model.opset_import.extend(standard)


def _constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                found[node.output[0]] = numpy_helper.to_array(attribute.t)
    return found


class _Expansion:
    """The nodes that one quantiser becomes."""

    def __init__(self, model: onnx.ModelProto, node: onnx.NodeProto, constants: dict[str, np.ndarray]) -> None:
        self.model, self.node, self.constants = model, node, constants
        self.path = path_of_node(node)
        self.made: list[onnx.NodeProto] = []

    def nodes(self) -> list[onnx.NodeProto]:
        known: dict[str, Callable[[], str]] = {"BipolarQuant": self._bipolar, "Quant": self._quant}
        known["IntQuant"] = known["Quant"]
        if self.node.op_type not in known:
            raise UnsupportedError(
                f"{self.path}: the QONNX operator {self.node.op_type} cannot be imported; accepted are "
                f"{', '.join(known)}: export the model without it"
            )
        result = known[self.node.op_type]()
        # the last node takes the name under which the others know the result
        last = self.made[-1]
        assert last.output[0] == result
        last.output[0] = self.node.output[0]
        return self.made

    def _bipolar(self) -> str:
        value, scale = self.node.input
        return self._emit("Mul", self._sign(value), scale)

    def _quant(self) -> str:
        value, scale, zero, bits = self.node.input
        given = {a.name: a.s.decode() if a.s else a.i for a in self.node.attribute}
        signed, narrow = bool(given.get("signed", 1)), bool(given.get("narrow", 0))
        width = self._bits(bits)
        shifted = not self._is_zero(zero)
        level = self._emit("Div", value, scale)
        if shifted:
            level = self._emit("Add", level, zero)
        if width == 1 and signed:
            level = self._sign(level)
        else:
            low = -(2 ** (width - 1)) + narrow if signed else 0
            high = 2 ** (width - 1) - 1 if signed else 2**width - 1 - narrow
            level = self._emit("Clip", level, self._constant(low), self._constant(high))
            level = self._emit(self._rounding(str(given.get("rounding_mode", "ROUND"))), level)
        if shifted:
            level = self._emit("Sub", level, zero)
        return self._emit("Mul", level, scale)

    def _sign(self, value: str) -> str:
        positive = self._emit("GreaterOrEqual", value, self._constant(0))
        return self._emit("Where", positive, self._constant(1), self._constant(-1))

    def _bits(self, name: str) -> int:
        value = self.constants.get(name)
        if value is None or value.size != 1 or float(value.item()) != int(value.item()) or value.item() < 1:
            found = "not constant" if value is None else f"{value.tolist()}"
            raise UnsupportedError(
                f"{self.path}: the number of bits of {self.node.op_type} is {found}; accepted is one whole number"
            )
        return int(value.item())

    def _rounding(self, mode: str) -> str:
        if mode.upper() not in _ROUNDING:
            raise UnsupportedError(
                f"{self.path}: {self.node.op_type} rounds by {mode}; accepted are {', '.join(_ROUNDING)}"
            )
        return _ROUNDING[mode.upper()]

    def _is_zero(self, name: str) -> bool:
        return name in self.constants and not np.any(self.constants[name])

    def _constant(self, value: float) -> str:
        name = f"{self.node.output[0]}/constant_{value:g}"
        if name not in self.constants:
            self.constants[name] = np.array(value, np.float32)
            self.model.graph.initializer.append(numpy_helper.from_array(self.constants[name], name))
        return name

    def _emit(self, operator: str, *inputs: str) -> str:
        result = f"{self.node.output[0]}/{operator}_{len(self.made)}"
        node = onnx.helper.make_node(operator, inputs, [result], name=result)
        set_path(node, self.path)
        self.made.append(node)
        return result
