"""ONNX operators whose translation by TVM's importer is wrong, or is no graph operator that a pass could read.

TVM expresses Clip, Pad and others by finished kernels (``call_tir``), through which nothing can be proven; it drops
``auto_pad`` in places; and its nearest resize rounds differently. Each function here takes the builder, the inputs
(Relax expressions, None for one that is left out), the attributes and the opset, and returns an expression. Errors are
UnsupportedError with a text that the importer completes with the node's path.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tvm import relax

from tvm_bnn.errors import UnsupportedError
from tvm_bnn.reference.resize import nearest_table
from tvm_bnn.relay_passes.fold_constants import is_constant, value_of
from tvm_bnn.relay_passes.rewriter import dtype_of, shape_of

Inputs = Sequence[relax.Expr | None]
Attributes = Mapping[str, Any]
Converter = Callable[[relax.BlockBuilder, Inputs, Attributes, int], relax.Expr]


def _input(inputs: Inputs, index: int) -> relax.Expr | None:
    return inputs[index] if index < len(inputs) else None


def _text(attributes: Attributes, name: str, default: str) -> str:
    value = attributes.get(name, default)
    return value.decode() if isinstance(value, bytes) else str(value)


def _constant(inputs: Inputs, index: int, what: str) -> np.ndarray | None:
    """An input that has to be constant; None where it is left out or empty."""
    given = _input(inputs, index)
    if given is None:
        return None
    if not is_constant(given):
        raise UnsupportedError(f"its {what} depend on the data; constants are accepted")
    value = value_of(given)
    return value if value.size else None


def clip(builder: relax.BlockBuilder, inputs: Inputs, attributes: Attributes, opset: int) -> relax.Expr:
    """Clip: bounds as attributes (before opset 11) or inputs; a NaN is no bound."""
    data = inputs[0]
    if opset < 11:
        bounds = [attributes.get("min", -np.inf), attributes.get("max", np.inf)]
    else:
        given = [_constant(inputs, index, "bounds") for index in (1, 2)]
        bounds = [limit if value is None else value.item() for value, limit in zip(given, (-np.inf, np.inf))]
    if not dtype_of(data).startswith("float"):
        for value, function in zip(bounds, (relax.op.maximum, relax.op.minimum), strict=True):
            if np.isfinite(value):
                data = builder.emit(function(data, relax.const(int(value), dtype_of(data))))
        return data
    low, high = (
        limit if np.isnan(value) else float(value) for value, limit in zip(bounds, (-np.inf, np.inf), strict=True)
    )
    return relax.op.clip(data, low, high)


def pad(builder: relax.BlockBuilder, inputs: Inputs, attributes: Attributes, opset: int) -> relax.Expr:
    """Pad by a constant, the reflected or the outermost values."""
    data = inputs[0]
    rank = len(shape_of(data))
    if opset < 11:
        widths, value = np.array(attributes["pads"]), attributes.get("value", 0.0)
        axes = None
    else:
        found = _constant(inputs, 1, "widths")
        widths = np.zeros(2 * rank, np.int64) if found is None else found
        constant = _constant(inputs, 2, "padded values")
        value = 0.0 if constant is None else constant.item()
        axes = _constant(inputs, 3, "axes")
    before, after = widths.reshape(2, -1).tolist()
    chosen = range(rank) if axes is None else [int(axis) % rank for axis in axes]
    pairs = dict(zip(chosen, zip(before, after, strict=True), strict=True))
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    mode = _text(attributes, "mode", "constant")
    if min(widths, default=0) < 0:
        raise UnsupportedError(f"its widths are {widths.tolist()}; widths from 0 up are accepted: crop by Slice")
    flat = [int(width) for axis in range(rank) for width in pairs.get(axis, (0, 0))]
    return relax.op.nn.pad(data, flat, modes[mode], float(value))


def batch_normalization(builder: relax.BlockBuilder, inputs: Inputs, attributes: Attributes, _: int) -> relax.Expr:
    """BatchNormalization with its running statistics."""
    if attributes.get("training_mode", 0):
        raise UnsupportedError("it computes its statistics from the data; export the model in eval mode")
    normalised = relax.op.nn.batch_norm(
        inputs[0], *inputs[1:5], axis=1, epsilon=float(attributes.get("epsilon", 1e-5)), training=False
    )
    return relax.TupleGetItem(builder.emit(normalised), 0)


def dropout(builder: relax.BlockBuilder, inputs: Inputs, attributes: Attributes, _: int) -> relax.Expr:
    """Dropout does nothing at inference."""
    training = _constant(inputs, 2, "training mode")
    if training is not None and bool(training):
        raise UnsupportedError("it drops values at random; export the model in eval mode")
    return inputs[0]


def resize(builder: relax.BlockBuilder, inputs: Inputs, attributes: Attributes, opset: int) -> relax.Expr:
    """Resize of height and width: nearest by every rule of ONNX, linear and cubic where TVM's rules agree."""
    if opset < 11:
        return upsample(builder, inputs, attributes, opset)
    for name, accepted in (("antialias", 0), ("exclude_outside", 0)):
        if attributes.get(name, accepted) != accepted:
            raise UnsupportedError(f"{name}={attributes[name]} has no code here; {accepted} is accepted")
    policy = _text(attributes, "keep_aspect_ratio_policy", "stretch")
    if policy != "stretch":
        raise UnsupportedError(f"keep_aspect_ratio_policy={policy} has no code here; stretch is accepted")
    shape = shape_of(inputs[0])
    axes = [int(axis) % len(shape) for axis in attributes.get("axes", range(len(shape)))]
    given_scales, given_sizes = _constant(inputs, 2, "scales"), _constant(inputs, 3, "sizes")
    scales, sizes = np.ones(len(shape), np.float32), np.array(shape)
    if given_sizes is not None:
        sizes[axes] = given_sizes
        scales = (sizes / np.array(shape)).astype(np.float32)
    elif given_scales is not None:
        scales[axes] = given_scales
        sizes = np.floor(np.array(shape) * scales).astype(np.int64)
    return _resize(builder, inputs[0], scales, sizes, attributes)


def upsample(builder: relax.BlockBuilder, inputs: Inputs, attributes: Attributes, opset: int) -> relax.Expr:
    """Upsample, and Resize as it was in opset 10: positions are multiples of the scale, rounded down."""
    found = _constant(inputs, 1, "scales") if opset >= 9 else np.array(attributes["scales"], np.float32)
    shape = shape_of(inputs[0])
    scales = np.ones(len(shape), np.float32) if found is None else found.astype(np.float32)
    sizes = np.floor(np.array(shape) * scales).astype(np.int64)
    fixed = {"mode": attributes.get("mode", "nearest"), "coordinate_transformation_mode": "asymmetric"}
    return _resize(builder, inputs[0], scales, sizes, {**fixed, "nearest_mode": "floor"})


def _resize(
    builder: relax.BlockBuilder, data: relax.Expr, scales: np.ndarray, sizes: np.ndarray, attributes: Attributes
) -> relax.Expr:
    shape = shape_of(data)
    if len(shape) != 4 or tuple(sizes[:2]) != shape[:2]:
        raise UnsupportedError(f"it resizes {list(shape)} to {sizes.tolist()}; height and width of [N, C, H, W] can be")
    method = _text(attributes, "mode", "nearest")
    coordinates = _text(attributes, "coordinate_transformation_mode", "half_pixel")
    if method == "nearest":
        rounding = _text(attributes, "nearest_mode", "round_prefer_floor")
        tables = [
            nearest_positions(size, int(out), float(scale), coordinates, rounding)
            for size, out, scale in zip(shape[2:], sizes[2:], scales[2:], strict=True)
        ]
        return pick(builder, data, tables)
    exact = np.float32(1) * sizes[2:] / np.array(shape[2:])
    if not np.allclose(scales[2:], exact, rtol=1e-6, atol=0) and coordinates != "align_corners":
        raise UnsupportedError(
            f"it resizes {list(shape[2:])} by {scales[2:].tolist()}, which gives no whole size; export it with the "
            "size instead of the scale"
        )
    accepted = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
    if coordinates not in accepted or method not in ("linear", "cubic"):
        raise UnsupportedError(
            f"mode {method} with coordinates {coordinates} has no code here; nearest, linear and cubic with "
            f"{', '.join(accepted)} have"
        )
    return relax.op.image.resize2d(
        data,
        tuple(int(extent) for extent in sizes[2:]),
        layout="NCHW",
        method=method,
        coordinate_transformation_mode=coordinates,
        rounding_method="",
        cubic_alpha=float(attributes.get("cubic_coeff_a", -0.75)),
    )


def pick(builder: relax.BlockBuilder, data: relax.Expr, tables: Sequence[np.ndarray]) -> relax.Expr:
    """A map of the rows and columns in two tables: one resize where both follow PyTorch's rule, else two takes."""
    sizes = shape_of(data)[2:]
    usual = [nearest_table(size, len(table), "asymmetric", "floor") for size, table in zip(sizes, tables, strict=True)]
    if all(np.array_equal(*pair) for pair in zip(usual, tables, strict=True)):
        return relax.op.image.resize2d(
            data,
            tuple(len(table) for table in tables),
            layout="NCHW",
            method="nearest_neighbor",
            coordinate_transformation_mode="asymmetric",
            rounding_method="floor",
        )
    picked = builder.emit(relax.op.take(data, relax.const(tables[0].astype(np.int64)), axis=2))
    return relax.op.take(picked, relax.const(tables[1].astype(np.int64)), axis=3)


def nearest_positions(size: int, out: int, scale: float, coordinates: str, rounding: str) -> np.ndarray:
    """int64[out]: which input position each output position copies, by ONNX's rules in float32.

    A scale of 1 copies, as in onnxruntime. Declines round_prefer_ceil where a position is a half but for its rounding
    error: what becomes of it is then a matter of the implementation.
    """
    if scale == 1:
        return np.arange(out)
    position = np.arange(out, dtype=np.float32)
    half, factor = np.float32(0.5), np.float32(scale)
    rules: dict[str, Callable[[], np.ndarray]] = {
        "asymmetric": lambda: position / factor,
        "half_pixel": lambda: (position + half) / factor - half,
        "pytorch_half_pixel": lambda: (position + half) / factor - half if out > 1 else np.zeros(out, np.float32),
        "align_corners": lambda: position * np.float32(size - 1) / np.float32(max(out - 1, 1)),
        "tf_half_pixel_for_nn": lambda: (position + half) / factor,
    }
    roundings: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "round_prefer_floor": lambda at: np.ceil(at - half),
        "round_prefer_ceil": lambda at: np.floor(at + half),
        "floor": np.floor,
        "ceil": np.ceil,
    }
    if coordinates not in rules or rounding not in roundings:
        raise UnsupportedError(
            f"nearest with coordinates {coordinates} and {rounding} has no code here; {', '.join(rules)} with "
            f"{', '.join(roundings)} have"
        )
    found = rules[coordinates]()
    from_half = np.abs(found - np.floor(found) - half)
    if rounding == "round_prefer_ceil" and np.any((from_half > 0) & (from_half < 1e-4)):
        raise UnsupportedError(
            f"nearest from {size} to {out} with {coordinates} and {rounding} depends on rounding errors; export it "
            "with the rounding floor, or resize by a whole factor"
        )
    return np.clip(roundings[rounding](found).astype(np.int64), 0, size - 1)


def depth_to_space(builder: relax.BlockBuilder, inputs: Inputs, attributes: Attributes, _: int) -> relax.Expr:
    """DepthToSpace as views, which bits pass: channels are [C, r, r] in mode CRD (PyTorch's pixel shuffle), and
    [r, r, C] in mode DCR.
    """
    data, block = inputs[0], int(attributes["blocksize"])
    batch, channels, height, width = shape_of(data)
    left = channels // block**2
    if _text(attributes, "mode", "DCR") == "DCR":
        apart, order = (batch, block, block, left, height, width), [0, 3, 4, 1, 5, 2]
    else:
        apart, order = (batch, left, block, block, height, width), [0, 1, 4, 2, 5, 3]
    moved = builder.emit(relax.op.permute_dims(builder.emit(relax.op.reshape(data, apart)), order))
    return relax.op.reshape(moved, (batch, left, height * block, width * block))


def gather(builder: relax.BlockBuilder, inputs: Inputs, attributes: Attributes, _: int) -> relax.Expr:
    """Gather at constant indices, which may be negative; a scalar index drops the axis."""
    data, axis = inputs[0], int(attributes.get("axis", 0))
    found = _constant(inputs, 1, "indices")
    indices = np.zeros((0,), np.int64) if found is None else found.astype(np.int64)
    axis %= len(shape_of(data))
    indices = np.where(indices < 0, indices + shape_of(data)[axis], indices)
    picked = builder.emit(relax.op.take(data, relax.const(indices.reshape(-1), "int64"), axis=axis))
    shape = (*shape_of(data)[:axis], *indices.shape, *shape_of(data)[axis + 1 :])
    return picked if indices.ndim == 1 else relax.op.reshape(picked, shape)


def tile(builder: relax.BlockBuilder, inputs: Inputs, attributes: Attributes, _: int) -> relax.Expr:
    """Tile by constant counts."""
    counts = _constant(inputs, 1, "counts")
    return inputs[0] if counts is None else relax.op.tile(inputs[0], [int(count) for count in counts])


def einsum(builder: relax.BlockBuilder, inputs: Inputs, attributes: Attributes, opset: int) -> relax.Expr:
    """Einsum of two tensors that is a matrix product: permute, multiply, permute.

    Labels of both operands are summed or, where the result has them too, a batch; the rest are rows and columns.
    """
    equation = _text(attributes, "equation", "").replace(" ", "")
    operands, _, result = equation.partition("->")
    first, comma, second = operands.partition(",")
    batch = [label for label in first if label in second and label in result]
    summed = [label for label in first if label in second and label not in result]
    rows = [label for label in first if label not in second]
    columns = [label for label in second if label not in first]
    plain = all(len(set(labels)) == len(labels) and labels.isalpha() for labels in (first, second, result))
    if not plain or len(inputs) != 2 or not comma or sorted(result) != sorted([*batch, *rows, *columns]):
        raise UnsupportedError(f"{equation!r} is no product of two matrices; write it as matmul and sums")
    extent = dict(zip(first + second, (*shape_of(inputs[0]), *shape_of(inputs[1])), strict=True))

    def size(labels: Sequence[str]) -> list[int]:
        return [extent[label] for label in labels]

    def arranged(operand: relax.Expr, labels: str, *groups: list[str]) -> relax.Expr:
        order = [labels.index(label) for group in groups for label in group]
        moved = builder.emit(relax.op.permute_dims(operand, order))
        return builder.emit(relax.op.reshape(moved, [int(np.prod(size(group))) for group in groups]))

    left, right = arranged(inputs[0], first, batch, rows, summed), arranged(inputs[1], second, batch, summed, columns)
    product = builder.emit(relax.op.matmul(left, right))
    named = [*batch, *rows, *columns]
    spread = builder.emit(relax.op.reshape(product, size(named)))
    return relax.op.permute_dims(spread, [named.index(label) for label in result])


def resolve_auto_pad(attributes: dict[str, Any], size: Sequence[int], kernel: Sequence[int]) -> None:
    """Write the paddings that ``auto_pad`` stands for into the attributes of a convolution or pooling."""
    mode = _text(attributes, "auto_pad", "NOTSET")
    attributes.pop("auto_pad", None)
    if mode == "NOTSET":
        return
    if mode == "VALID":
        attributes["pads"] = (0,) * (2 * len(size))
        return
    strides = attributes.get("strides", (1,) * len(size))
    dilations = attributes.get("dilations", (1,) * len(size))
    totals = [
        max((-(-extent // stride) - 1) * stride + (taps - 1) * dilation + 1 - extent, 0)
        for extent, stride, dilation, taps in zip(size, strides, dilations, kernel, strict=True)
    ]
    small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
    attributes["pads"] = tuple([*small, *large] if mode == "SAME_UPPER" else [*large, *small])


CONVERTERS: Mapping[str, Converter] = {
    "BatchNormalization": batch_normalization,
    "Clip": clip,
    "DepthToSpace": depth_to_space,
    "Dropout": dropout,
    "Einsum": einsum,
    "Gather": gather,
    "Pad": pad,
    "Resize": resize,
    "Tile": tile,
    "Upsample": upsample,
}
