"""The records that conversion leaves behind, for the summary and for ``--explain``."""

from dataclasses import dataclass, field

import numpy as np
from tvm import relax

from tvm_bnn.relay_passes.fold_constants import is_constant
from tvm_bnn.relay_passes.rewriter import op_name, path_of, shape_of


@dataclass
class Layer:
    """What became of one convolution, linear layer or matmul.

    value : name of the Relax variable that holds the layer's result.
    decision : "binary" or "float"; reason says why it stayed float, advice what the model's author can change.
    macs : multiply-accumulates of one inference, padded taps included.
    planes : pairs of an activation's and the weights' bit planes that are convolved; 1 where both have two levels.
    epilogue : how its bits are made: "integer threshold" ..., or "float", with the reason; "softmax: 65 weights".
    precision : of a float layer: "fp32", "tf32", "bf16" or "int8"; stays_fp32 : why it is not what was asked for.
    """

    path: str
    op: str
    shape: str
    macs: int
    value: str
    weights: int = 0
    decision: str = "float"
    reason: str = ""
    advice: str = ""
    planes: int = 1
    epilogue: str = ""
    precision: str = "fp32"
    stays_fp32: str = ""

    def refuse(self, reason: str, advice: str = "") -> None:
        """Leave the layer in floats."""
        self.decision, self.reason, self.advice = "float", reason, advice

    def note_epilogue(self, text: str) -> None:
        """How the bits behind a binary layer are made; it may be read by several predicates."""
        if text not in self.epilogue:
            self.epilogue = f"{self.epilogue}; {text}" if self.epilogue else text


@dataclass
class Decisions:
    """All records of a compilation.

    guessed_signs : modules where sign(0) of a real tensor took a convention.
    mixed_signs : those of them in which operators or float layers read a sign as well; these see its 0.
    kept_zeros : modules whose sign keeps exact zeros as a third level.
    zero_weights : layers with weights that are exactly 0, a whole filter among them; they stay 0.
    """

    layers: list[Layer] = field(default_factory=list)
    guessed_signs: list[str] = field(default_factory=list)
    mixed_signs: list[str] = field(default_factory=list)
    kept_zeros: list[str] = field(default_factory=list)
    zero_weights: list[str] = field(default_factory=list)

    def candidate(self, call: relax.Call, name: str, op: str) -> Layer:
        """A new record for a call whose result has this name."""
        shapes = " x ".join("x".join(map(str, shape_of(argument))) for argument in call.args[:2])
        layer = Layer(path_of(call), op, shapes, macs(call), name)
        if is_constant(call.args[1]):
            layer.weights = int(np.prod(shape_of(call.args[1])))
        self.layers.append(layer)
        return layer


def macs(call: relax.Call) -> int:
    """Multiply-accumulates of a convolution or product."""
    out = int(np.prod(shape_of(call)))
    if op_name(call) == "relax.matmul":
        return out * shape_of(call.args[0])[-1]
    if op_name(call) == "relax.nn.conv2d_transpose":
        data, weight = shape_of(call.args[0]), shape_of(call.args[1])
        return int(np.prod(data)) * weight[1] * int(np.prod(weight[2:]))
    if op_name(call) == "relax.nn.attention":
        batch, queries, heads, width = shape_of(call.args[0])
        return 2 * batch * heads * queries * shape_of(call.args[1])[1] * width
    return out * int(np.prod(shape_of(call.args[1])[1:]))
