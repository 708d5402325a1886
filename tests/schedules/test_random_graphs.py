"""Seeded random graphs of the same operators, through the passes and the kernels, against the reference."""

import numpy as np
import pytest
from tvm import relax
from tvm.relax import op

from tvm_bnn import ops
from tvm_bnn.reference import evaluate
from tvm_bnn.relay_passes.convert_binary import Decisions
from tvm_bnn.relay_passes.pipeline import optimize

TARGETS = ["avx512", "avx2", "generic with fma"]
FILLINGS = [("normal", "normal")]
GRAPHS = 40
AT_ONCE = 10  # graphs in one module
CHANNELS = [1, 3, 31, 32, 33, 40, 64, 65]
CASES: dict = {}


class Grammar:
    """Grows one graph: a pool of float maps, to which random operators add."""

    def __init__(self, case) -> None:
        self.case, self.rng = case, case.rng
        size = int(self.rng.integers(1, 12)), int(self.rng.integers(1, 12))
        self.pool = [case.argument(int(self.rng.integers(1, 3)), self.channels(), *size)]

    def channels(self) -> int:
        return int(self.rng.choice(CHANNELS))

    def pick(self, like: relax.Var | None = None) -> relax.Var:
        fitting = [v for v in self.pool if like is None or shape(v) == shape(like)]
        return fitting[int(self.rng.integers(len(fitting)))]

    def grow(self, steps: int) -> relax.Tuple:
        rules = [self.binary_conv, self.binary_conv, self.float_conv, self.unary, self.pair, self.view, self.pool2d]
        for _ in range(steps):
            rules[int(self.rng.integers(len(rules)))]()
        results = [self.pool[-1], self.pick()]
        return relax.Tuple([*results, self.case.positive(self.pick())])

    def add(self, expr: relax.Expr) -> None:
        self.pool.append(self.case.emit(expr))

    def geometry(self, data, kernel):
        reach = int(self.rng.integers(0, 3))
        return {
            "strides": (int(self.rng.integers(1, 3)),) * 2,
            "padding": (kernel - 1 + reach,) * 4 if min(shape(data)[2:]) < kernel else (reach,) * 4,
        }

    def binary_conv(self) -> None:
        data, kernel = self.pick(), int(self.rng.choice([1, 2, 3]))
        bits = self.case.positive(self.case.emit(op.add(data, self.case.constant(1, shape(data)[1], 1, 1))))
        if self.rng.random() < 0.3 and max(shape(data)[2:]) < 12:
            bits = self.case.emit(nearest(bits, [2 * extent for extent in shape(data)[2:]]))
        geometry = ops.BConv2DAttrs(**self.geometry(bits, kernel), pad_value=int(self.rng.integers(-1, 2)))
        weight = self.case.signs(self.channels(), shape(bits)[1], kernel, kernel)
        self.pool.append(self.case.scaled(self.case.emit(ops.bconv2d(bits, weight, geometry))))

    def float_conv(self) -> None:
        data, kernel = self.pick(), int(self.rng.choice([1, 3]))
        weight = self.case.constant(self.channels(), shape(data)[1], kernel, kernel)
        scaled = self.case.emit(op.multiply(data, relax.const(np.float32(0.25))))
        self.add(op.nn.conv2d(scaled, weight, **self.geometry(data, kernel)))

    def unary(self) -> None:
        operators = [op.sigmoid, op.tanh, op.nn.relu, op.negative, op.abs, lambda x: op.clip(x, -1, 1), op.square]
        self.add(operators[int(self.rng.integers(len(operators)))](self.pick()))

    def pair(self) -> None:
        first = self.pick()
        second = self.pick(like=first)
        levels = op.where(self.case.positive(second), relax.const(1.0), relax.const(-0.5))
        options = [
            lambda: op.add(first, second),
            lambda: op.multiply(first, op.sigmoid(op.mean(second, [2, 3], keepdims=True))),
            lambda: op.maximum(first, second),
            lambda: op.multiply(first, levels),
            lambda: op.concat([first, second], 1),
        ]
        self.add(options[int(self.rng.integers(len(options)))]())

    def view(self) -> None:
        data = self.pick()
        _, channels, height, width = shape(data)
        options = [
            lambda: op.permute_dims(data, (0, 1, 3, 2)),
            lambda: op.strided_slice(data, [1, 2], [channels // 2, height // 2], [channels, height]),
            lambda: relax.TupleGetItem(op.split(data, [1 + channels // 3], 1), 0),
            lambda: op.reshape(data, (shape(data)[0], channels, width, height)),
            lambda: nearest(data, [height + height // 2, 2 * width]) if max(height, width) < 12 else op.flip(data, 3),
            lambda: op.nn.pad(data, (0, 0, 0, 1, 1, 0, 0, 2), pad_value=0.5),
        ]
        self.add(options[int(self.rng.integers(len(options)))]())

    def pool2d(self) -> None:
        data = self.pick()
        options = [
            lambda: op.nn.max_pool2d(data, (3, 3), strides=(2, 2), padding=(1, 1)),
            lambda: op.nn.avg_pool2d(data, (2, 2), padding=(1, 1), count_include_pad=True),
            lambda: op.image.resize2d(
                data, (7, 9), layout="NCHW", method="linear", coordinate_transformation_mode="half_pixel"
            ),
            lambda: op.nn.softmax(data, 1),
        ]
        self.add(options[int(self.rng.integers(len(options)))]())


def shape(value: relax.Var) -> tuple[int, ...]:
    return tuple(int(extent) for extent in value.ty.shape)


def nearest(data, size):
    return op.image.resize2d(
        data,
        size,
        layout="NCHW",
        method="nearest_neighbor",
        coordinate_transformation_mode="asymmetric",
        rounding_method="floor",
    )


CASES = {f"graph {seed}": lambda case: Grammar(case).grow(9) for seed in range(GRAPHS)}


def test_kernels_equal_the_reference(grid, case, target, target_of):
    grid.check(case, target_of(target))


@pytest.mark.parametrize("first", range(0, GRAPHS, AT_ONCE))
def test_passes_change_no_more_than_roundings(build_cases, first):
    names = list(CASES)[first : first + AT_ONCE]
    module, data, _ = build_cases(CASES, names, list(CASES))
    before, after = evaluate(module, data), evaluate(optimize(module, Decisions()), data)
    for old, new in zip(before, after, strict=True):
        assert (old.shape, old.dtype) == (new.shape, new.dtype)
        if old.dtype.kind == "f":
            # folded maps round once instead of twice; operators behind them carry that on
            np.testing.assert_allclose(new, old, rtol=0, atol=1e-5 * np.abs(old).max(initial=1e-30))
