"""Analysis: which tensors take few values, which ones, and where.

An abstract interpretation of the graph, upwards from a tensor to what its values depend on. It gives each tensor an
alphabet:

* ``Steps``: the tensor is a step function of its source (see cells.py). Its table has, for each cell, the *level* that
  the tensor takes there: one number, or one a channel (an array that broadcasts against the tensor);
* ``Real``: more values than can be told, with the reason in words for the model's author.

Everything that acts on elements is one rule: evaluate the operator, by the reference evaluator, on the levels of each
cell. So ``where(s == 0, 1, s)``, ``x.sign() + (x == 0)``, ``(x >= 0) * 2 - 1`` and ``relu(sign(x))`` need no pattern of
their own. New cells begin where a real tensor is compared with a constant, where its sign is taken, and where it is
rounded to few integers. Rearrangements move the cells, max-pooling combines them.

**Zero.** ``sign(x)`` has a third cell, x = 0. What an operator behind it makes of that cell is exact (``relu(sign(x))``
is [x > 0]). Where the third level is still there when a layer reads the tensor, it is kept if an exact zero is common
(``zero_is_common``: counts, masked or padded tensors); for a bare sign of a real tensor the caller's convention puts it
to one of its neighbours (see levels.py).

**NaN** is a cell of its own. Comparisons with it are false and its sign is 0, as in PyTorch.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from tvm import relax

from tvm_bnn.errors import UnsupportedError
from tvm_bnn.reference import evaluate_call
from tvm_bnn.relay_passes.bounds import UNBOUNDED, Bounds, bounds_of
from tvm_bnn.relay_passes.cells import (
    BoolCells,
    Cells,
    Cut,
    JoinedCells,
    LineCells,
    MovedCells,
    PaddedCells,
    PooledCells,
    ProductCells,
)
from tvm_bnn.relay_passes.elementwise import ELEMENTWISE
from tvm_bnn.relay_passes.fold_constants import is_constant, value_of
from tvm_bnn.relay_passes.hoist_upsample import is_nearest
from tvm_bnn.relay_passes.rewriter import DataflowRewriter, dtype_of, op_name, path_of, shape_of
from tvm_bnn.relay_passes.zeros import zero_is_common

#: More cells than this are of no use to anyone.
MOST_CELLS = 64


@dataclass(frozen=True)
class ZeroCell:
    """The cell in which a sign was 0.

    common : whether exact zeros are to be expected there, so that no convention may touch them.
    signs : the modules that take the sign; several where tensors with such cells were joined.
    """

    cell: int
    common: bool
    signs: tuple[str, ...]


@dataclass(frozen=True)
class Steps:
    """A step function: ``levels[i]`` in cell i.

    levels : arrays that broadcast against the tensor.
    zero : the cell of sign(0), as long as nothing told it apart on purpose.
    factor : a real tensor that everything is multiplied by; of extent 1 where elements share it.
    guessed, kept : modules whose sign is behind it, where 0 took the convention, and where it is a level for good.
    """

    cells: Cells
    levels: tuple[np.ndarray, ...]
    zero: ZeroCell | None = None
    factor: relax.Expr | None = None
    guessed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class Real:
    """More values than can be told, and why.

    advice : what the model's author can change.
    bounds : least and greatest value.
    rounded : the tensor holds the integers nearest to this one.
    """

    reason: str
    advice: str = ""
    bounds: Bounds = UNBOUNDED
    rounded: relax.Expr | None = None


Alphabet = Steps | Real

_VIEWS = {
    "relax.reshape", "relax.permute_dims", "relax.expand_dims", "relax.squeeze", "relax.strided_slice",
    "relax.broadcast_to", "relax.flatten", "relax.take", "relax.tile", "relax.repeat", "relax.flip",
}  # fmt: skip
_COMPARISONS = {
    "relax.greater_equal", "relax.greater", "relax.less", "relax.less_equal", "relax.equal", "relax.not_equal",
}  # fmt: skip
_SWAPPED = {"greater_equal": "less_equal", "greater": "less", "less": "greater", "less_equal": "greater_equal"}
_AVERAGES = {"relax.nn.avg_pool2d", "relax.nn.adaptive_avg_pool2d", "relax.mean"}
_AFTER = "take the sign after it, so that the layer reads two values"
_FEW_LEVELS = "round to at most 16 levels (4 bits)"


class AlphabetAnalysis:
    """Alphabets of the values that a rewriter has emitted so far.

    sign_zero : what ``sign(0)`` of a real tensor becomes, "plus", "minus", or "exact" for the third level.
    """

    def __init__(self, rewriter: DataflowRewriter, sign_zero: str = "plus") -> None:
        if sign_zero not in ("plus", "minus", "exact"):
            raise ValueError(f"sign_zero is {sign_zero!r}; plus, minus and exact are accepted")
        self.sign_zero = sign_zero
        self._rewriter = rewriter
        self._known: dict[relax.Var, Alphabet] = {}
        self._emitted: dict[object, relax.Expr] = {}
        self._span = None
        self._rules: dict[str, Callable[[relax.Var, relax.Call], Alphabet]] = {
            **dict.fromkeys(ELEMENTWISE, self._pointwise),
            **dict.fromkeys(_VIEWS, self._view),
            "relax.nn.max_pool2d": self._max_pool,
            "relax.concat": self._concat,
            "relax.nn.pad": self._pad,
        }

    def of(self, expr: relax.Expr) -> Alphabet:
        """The alphabet of a value."""
        if not isinstance(expr, relax.Var):
            return Real("it is a constant")
        if expr not in self._known:
            found = self._derive(expr)
            self._known[expr] = found
        return self._known[expr]

    def _derive(self, var: relax.Var) -> Alphabet:
        definition = self._rewriter.lookup(var)
        if definition is var:
            found: Alphabet = Real("the input of the model is real-valued", "take the sign of it first")
        elif isinstance(definition, relax.TupleGetItem):
            found = self._field(var, definition)
        else:
            rule = self._view if is_nearest(definition) else self._rules.get(op_name(definition))
            found = rule(var, definition) if rule else self._other(definition)
        if isinstance(found, Real) and isinstance(var.ty, relax.TensorType):
            if dtype_of(var) == "bool":
                return Steps(BoolCells(self._emit, var), _levels(var, (False, True)))
            if found.bounds == UNBOUNDED:
                bounds = bounds_of(definition, lambda operand: self._bounds(operand))
                found = replace(found, bounds=bounds)
        return found

    def _bounds(self, expr: relax.Expr) -> Bounds:
        if is_constant(expr):
            value = value_of(expr)
            return (float(value.min()), float(value.max())) if value.size and not np.isnan(value).any() else UNBOUNDED
        alphabet = self.of(expr)
        if isinstance(alphabet, Real):
            return alphabet.bounds
        if alphabet.factor is not None:
            return UNBOUNDED
        numbers = np.concatenate([np.ravel(level).astype(np.float64) for level in alphabet.levels])
        numbers = numbers[~np.isnan(numbers)]
        return (float(numbers.min()), float(numbers.max())) if numbers.size else UNBOUNDED

    def _emit(self, expr: relax.Expr, key: object) -> relax.Expr:
        if key not in self._emitted:
            self._emitted[key] = self._rewriter.emit(expr, span=self._span)
        return self._emitted[key]

    def _other(self, call: relax.Expr) -> Real:
        name = op_name(call)
        if name in _AVERAGES:
            return Real(f"it is an average ({describe(call)})", _AFTER)
        if name == "relax.image.resize2d":
            return Real(f"it is interpolated ({describe(call)})", _AFTER)
        if name in ("relax.nn.conv2d", "relax.nn.conv2d_transpose", "relax.matmul", "bnn.bconv2d", "bnn.bmatmul"):
            return Real(f"it is the real-valued result of {describe(call)}", "take its sign first")
        return Real(f"it is the real-valued result of {describe(call)}", _AFTER)

    # --- elements -------------------------------------------------------------------------------------------------

    def _pointwise(self, var: relax.Var, call: relax.Call) -> Alphabet:
        tensors = [a for a in call.args if isinstance(a.ty, relax.TensorType) and not is_constant(a)]
        alphabets = [self.of(tensor) for tensor in tensors]
        real = [a for a in alphabets if isinstance(a, Real)]
        if not real and tensors:
            return self._on_levels(call, tensors, [a for a in alphabets if isinstance(a, Steps)])
        if len(tensors) == 1 and real:
            begun = self._begin(var, call, tensors[0], real[0])
            if begun is not None:
                return begun
        if op_name(call) == "relax.multiply" and len(tensors) == 2 and len(real) == 1:
            scaled = self._scaled(call, tensors, alphabets)
            if scaled is not None:
                return scaled
        return self._real_result(call, tensors, alphabets)

    def _real_result(self, call: relax.Call, tensors: Sequence[relax.Expr], alphabets: Sequence[Alphabet]) -> Real:
        real = [a for a in alphabets if isinstance(a, Real)]
        if len(tensors) == 1 and real:
            return replace(real[0], bounds=UNBOUNDED, rounded=None)
        if len(real) < len(tensors):
            return Real(
                f"{describe(call)} combines a binary tensor with a real-valued one",
                "take the sign after the two are combined",
            )
        return Real(f"{describe(call)} combines two real-valued tensors", "take the sign of the result")

    def _on_levels(self, call: relax.Call, tensors: list[relax.Expr], steps: list[Steps]) -> Alphabet:
        """Evaluate the operator on the levels of each cell."""
        if any(s.factor is not None for s in steps):
            return self._on_scaled(call, tensors, steps)
        if len(steps) == 1 and shape_of(tensors[0]) != shape_of(call):
            return Real(f"{describe(call)} broadcasts a binary tensor", "broadcast it behind the layer")
        refined = _refined([step.cells for step in steps])
        if refined is None:
            return self._on_pairs(call, tensors, steps)
        cells, maps = refined
        if cells.count > MOST_CELLS:
            return _too_many(call)
        levels = self._levels_in(call, tensors, steps, maps)
        if isinstance(levels, Real):
            return levels
        return _with_signs(Steps(cells, levels, self._zero_behind(call, steps, maps)), steps)

    def _on_pairs(self, call: relax.Call, tensors: list[relax.Expr], steps: list[Steps]) -> Alphabet:
        """Independent tensors: every pair of cells, once a convention has put each sign(0) where it belongs.

        Where zeros lead to no level that is not there without them (a {0, 1} mask times a sign), they stay.
        """
        if len(steps) != 2 or steps[0].cells.count * steps[1].cells.count > MOST_CELLS:
            return _too_many(call)
        left, right = (step.cells for step in steps)
        maps = [list(places) for places in zip(*itertools.product(range(left.count), range(right.count)), strict=True)]
        settled = [self.settle(step) for step in steps]
        levels = self._levels_in(call, tensors, settled, maps)
        if any(step.zero is not None for step in steps):
            exact = [_kept(step) for step in steps]
            all_levels = self._levels_in(call, tensors, exact, maps)
            if not isinstance(levels, Real) and not isinstance(all_levels, Real) and _among(all_levels, levels):
                settled, levels = exact, all_levels
        if isinstance(levels, Real):
            return levels
        product = ProductCells(self._emit, left, right, shape_of(call), (call, "pairs"))
        return _with_signs(Steps(product, levels), settled)

    def _levels_in(
        self, call: relax.Call, tensors: list[relax.Expr], steps: list[Steps], maps: list[list[int]]
    ) -> tuple[np.ndarray, ...] | Real:
        """The operator's result in each cell; maps: the cell of each operand there."""
        levels = []
        for places in zip(*maps, strict=True):
            given = {tensor: step.levels[place] for tensor, step, place in zip(tensors, steps, places, strict=True)}
            result = self._evaluate(call, given)
            if result is None or (result.dtype.kind == "f" and np.isinf(result).any()):
                return Real(f"{describe(call)} gives it levels that are not finite numbers")
            levels.append(_compress(result))
        return tuple(levels)

    def settle(self, steps: Steps) -> Steps:
        """The step function once ``sign_zero`` has been applied: no cell of sign(0) is open any more.

        The cell takes the level of a neighbour, unless an exact zero is common there or has a level of its neighbours
        already.
        """
        zero = steps.zero
        if zero is None:
            return steps
        own, below, above = (steps.levels[zero.cell + i] for i in (0, -1, 1))
        if np.array_equal(own, below) or np.array_equal(own, above):
            return replace(steps, zero=None)
        if zero.common or self.sign_zero == "exact":
            return _kept(steps)
        levels = list(steps.levels)
        levels[zero.cell] = above if self.sign_zero == "plus" else below
        if np.array_equal(levels[-1], own):  # a NaN compares false with everything, like what is below
            levels[-1] = below
        return replace(steps, levels=tuple(levels), zero=None, guessed=(*steps.guessed, *zero.signs))

    @staticmethod
    def _zero_behind(call: relax.Call, steps: list[Steps], maps: list[list[int]]) -> ZeroCell | None:
        """The cell of sign(0) in the result: gone where a comparison or another operand tells it apart on purpose."""
        if op_name(call) in ("relax.equal", "relax.not_equal"):
            return None
        open_zeros = [(step.zero, places) for step, places in zip(steps, maps, strict=True) if step.zero is not None]
        if not open_zeros:
            return None
        zeros, cells = [zero for zero, _ in open_zeros], [places.index(zero.cell) for zero, places in open_zeros]
        found = _joined_zeros(zeros, cells[0])
        for step, places in zip(steps, maps, strict=True):
            here, *beside = (step.levels[places[found.cell + i]] for i in (0, -1, 1))
            if step.zero is None and not any(np.array_equal(here, level) for level in beside):
                return None
        return found

    @staticmethod
    def _evaluate(call: relax.Call, given: dict[relax.Expr, np.ndarray]) -> np.ndarray | None:
        arguments = [given[a] if a in given else value_of(a) if is_constant(a) else a for a in call.args]
        try:
            return np.asarray(evaluate_call(call, arguments))
        except UnsupportedError:
            return None

    def _on_scaled(self, call: relax.Call, tensors: list[relax.Expr], steps: list[Steps]) -> Alphabet:
        """Behind a factor only multiplication by constants passes."""
        name = op_name(call)
        linear = (
            name == "relax.negative"
            or (name in ("relax.multiply", "relax.divide") and call.args[0].same_as(tensors[0]))
            or (name == "relax.multiply" and is_constant(call.args[0]))
        )
        if len(tensors) != 1 or not linear:
            return Real(f"{describe(call)} acts on a binary tensor that was scaled by data", "scale after the layer")
        inner = self._on_levels(call, tensors, [replace(steps[0], factor=None)])
        return replace(inner, factor=steps[0].factor) if isinstance(inner, Steps) else inner

    def _scaled(self, call: relax.Call, tensors: list[relax.Expr], alphabets: list[Alphabet]) -> Alphabet | None:
        """Steps times a real tensor that many elements share."""
        binary, real = (0, 1) if isinstance(alphabets[0], Steps) else (1, 0)
        steps = alphabets[binary]
        assert isinstance(steps, Steps)
        shape, result = shape_of(tensors[real]), shape_of(call)
        full = (1,) * (len(result) - len(shape)) + shape
        if steps.factor is not None or shape_of(tensors[binary]) != result or len(result) < 2:
            return None
        if (len(result) == 4 and full[1] == full[2] == full[3] == 1) or (len(result) != 4 and full[-1] == 1):
            factor = tensors[real]
            if full != shape:
                factor = self._rewriter.emit(relax.op.reshape(factor, full), span=call.span)
            return replace(steps, factor=factor)
        if len(result) == 4 and full[1] > 1 and result[1] > 1:
            return Real(
                f"{describe(call)} scales each input channel by a value that depends on the data",
                "scale the layer's output instead: a scale per input channel cannot leave the sum",
            )
        return None

    # --- where cells begin ----------------------------------------------------------------------------------------

    def _begin(self, var: relax.Var, call: relax.Call, data: relax.Expr, alphabet: Real) -> Alphabet | None:
        """The cells of a comparison, a sign or a rounding of a real tensor; None for any other operator."""
        name = op_name(call)
        if name in _COMPARISONS:
            return self._compare(var, call, data)
        if name == "relax.sign":
            return self._sign(call, data, alphabet)
        if name in ("relax.round", "relax.floor", "relax.ceil"):
            return self._round(call, data, alphabet)
        if alphabet.rounded is not None:
            return self._bounded(call, data, alphabet)
        return None

    def _compare(self, var: relax.Var, call: relax.Call, data: relax.Expr) -> Alphabet | None:
        swapped = is_constant(call.args[0])
        constant = value_of(call.args[0] if swapped else call.args[1])
        if shape_of(data) != shape_of(call) or np.isnan(constant).any():
            return None
        name = op_name(call).removeprefix("relax.")
        name = _SWAPPED.get(name, name) if swapped else name
        value = _compress(constant.reshape((1,) * (len(shape_of(data)) - constant.ndim) + constant.shape))
        if name in ("equal", "not_equal"):
            cuts = [Cut(value, True), Cut(value, False)]
            truth = [False, True, False, False] if name == "equal" else [True, False, True, True]
        else:
            cuts = [Cut(value, name in ("greater_equal", "less"))]
            behind = name.startswith("greater")
            truth = [False, True, False] if behind else [True, False, False]
            self._emitted.setdefault(("compare", data, cuts[0].key(), behind), var)  # it is there already
        return Steps(LineCells(self._emit, data, cuts), _levels(data, truth))

    def _sign(self, call: relax.Call, data: relax.Expr, alphabet: Real) -> Alphabet:
        zero = np.zeros((1,) * len(shape_of(data)), dtype_of(data))
        cuts = [Cut(zero, True), Cut(zero, False)]
        if alphabet.bounds[0] >= 0:
            return Steps(LineCells(self._emit, data, cuts[1:]), _levels(call, (0, 1, 0)))
        if alphabet.bounds[1] <= 0:
            return Steps(LineCells(self._emit, data, cuts[:1]), _levels(call, (-1, 0, 0)))
        common = zero_is_common(
            data, self._rewriter.lookup, lambda expr: isinstance(self.of(expr), Steps), self._has_zero
        )
        return Steps(
            LineCells(self._emit, data, cuts),
            _levels(call, (-1, 0, 1, 0)),
            ZeroCell(1, common, (module_of(call),)),
        )

    def _has_zero(self, expr: relax.Expr) -> bool:
        alphabet = self.of(expr)
        if isinstance(alphabet, Real):
            return False
        open_zero = alphabet.zero.cell if alphabet.zero is not None and not alphabet.zero.common else None
        return any(not level.all() for cell, level in enumerate(alphabet.levels[:-1]) if cell != open_zero)

    def _round(self, call: relax.Call, data: relax.Expr, alphabet: Real) -> Alphabet:
        low, high = alphabet.bounds
        function = {"relax.round": np.rint, "relax.floor": np.floor, "relax.ceil": np.ceil}[op_name(call)]
        if not np.isfinite(high - low) or function(high) - function(low) >= MOST_CELLS:
            bounds = (float(function(low)), float(function(high)))
            rounded = data if op_name(call) == "relax.round" else None
            if np.isfinite(high - low):
                reason = f"{describe(call)} rounds to {bounds[1] - bounds[0] + 1:g} levels"
                return Real(reason, _FEW_LEVELS, bounds, rounded)
            reason = f"{describe(call)} gives it any whole number"
            return Real(reason, "clamp it to at most 16 levels (4 bits)", bounds, rounded)
        integers = np.arange(function(low), function(high) + 1)
        return self._integers(call, data, integers, op_name(call), [float(i) for i in integers])

    def _integers(
        self, call: relax.Call, data: relax.Expr, integers: np.ndarray, name: str, levels: Sequence[float]
    ) -> Alphabet:
        """The cells of data in which it is rounded to each integer, and the levels there."""
        one = (1,) * len(shape_of(data))
        cuts = []
        for integer in integers[:-1]:
            if name == "relax.round":  # halves go to the even neighbour
                place, closed = integer + 0.5, bool(integer % 2)
            else:
                place, closed = (integer + 1, True) if name == "relax.floor" else (integer, False)
            cuts.append(Cut(np.full(one, place, dtype_of(data)), closed))
        if not cuts:
            return Real("it is constant")
        return Steps(LineCells(self._emit, data, cuts), _levels(call, [*levels, np.nan]))

    def _bounded(self, call: relax.Call, data: relax.Expr, alphabet: Real) -> Alphabet | None:
        """Integers that an operator (clip, relu, maximum ...) leaves only a few of."""
        low, high = bounds_of(call, lambda operand: self._bounds(operand))
        if not np.isfinite(high - low) or high - low >= MOST_CELLS or alphabet.rounded is None:
            if np.isfinite(high - low) and not np.isfinite(alphabet.bounds).all():
                return Real(f"{describe(call)} leaves it {high - low + 1:.0f} levels", _FEW_LEVELS, (low, high))
            return replace(alphabet, bounds=(low, high), rounded=None) if (low, high) != UNBOUNDED else None
        reach = max(abs(low), abs(high), 1.0)
        integers = np.arange(np.floor(max(alphabet.bounds[0], -2 * reach)), min(alphabet.bounds[1], 2 * reach) + 1)
        values = [self._evaluate(call, {data: np.full((1,) * len(shape_of(data)), i, np.float32)}) for i in integers]
        if any(v is None or v.size != 1 for v in values):
            return None
        levels = [float(v.reshape(-1)[0]) for v in values if v is not None]
        if len(levels) < 2 or (levels[0] != levels[1] and alphabet.bounds[0] < integers[0]):
            return None
        if levels[-1] != levels[-2] and alphabet.bounds[1] > integers[-1]:
            return None
        kept = [i for i in range(len(levels)) if 0 < i and levels[i] != levels[i - 1]]
        first, last = max(kept[0] - 1, 0), kept[-1]
        return self._integers(
            call, alphabet.rounded, integers[first : last + 1], "relax.round", levels[first : last + 1]
        )

    # --- rearrangements -------------------------------------------------------------------------------------------

    def _view(self, var: relax.Var, call: relax.Call) -> Alphabet:
        inner = self.of(call.args[0])
        if isinstance(inner, Real):
            return replace(inner, rounded=None)
        if inner.factor is not None and not is_nearest(call):
            return Real(f"{describe(call)} rearranges a binary tensor that was scaled by data", "scale after the layer")

        def moved(bits: relax.Expr) -> relax.Expr:
            return relax.Call(call.op, [bits, *call.args[1:]], call.attrs, call.ty_args, call.span)

        levels = self._moved_levels(call, inner)
        if levels is None:
            return Real(f"{describe(call)} mixes channels of different levels")
        return replace(inner, cells=MovedCells(self._emit, inner.cells, var, moved), levels=levels)

    def _moved_levels(self, call: relax.Call, inner: Steps) -> tuple[np.ndarray, ...] | None:
        rank = len(shape_of(call))
        if all(level.size == 1 for level in inner.levels):
            return tuple(level.reshape((1,) * rank) for level in inner.levels)
        moved = []
        for level in inner.levels:
            whole = np.broadcast_to(level, shape_of(call.args[0]))
            result = self._evaluate(call, {call.args[0]: whole})
            if result is None:
                return None
            moved.append(_compress(result))
        return tuple(moved)

    def _field(self, var: relax.Var, item: relax.TupleGetItem) -> Alphabet:
        split = self._rewriter.lookup(item.tuple_value)
        if op_name(split) == "relax.nn.batch_norm":
            return self._normalised(split)
        if op_name(split) != "relax.split":
            return self._other(split)
        inner = self.of(split.args[0])
        if isinstance(inner, Real):
            return replace(inner, rounded=None)

        def piece(bits: relax.Expr) -> relax.Expr:
            parts = relax.Call(split.op, [bits], split.attrs, split.ty_args, split.span)
            return relax.TupleGetItem(self._emit(parts, (item.tuple_value, bits)), item.index)

        if inner.factor is not None:
            return Real(f"{describe(split)} splits a binary tensor that was scaled by data", "scale after the layer")
        levels = []
        for level in inner.levels:
            whole = np.broadcast_to(level, shape_of(split.args[0])) if level.size > 1 else level
            parts = evaluate_call(split, [whole]) if level.size > 1 else None
            levels.append(_compress(parts[item.index]) if parts is not None else level)
        return replace(inner, cells=MovedCells(self._emit, inner.cells, var, piece), levels=tuple(levels))

    def _normalised(self, call: relax.Call) -> Alphabet:
        """Batch normalisation of few levels: a map per channel."""
        inner = self.of(call.args[0])
        if isinstance(inner, Real) or inner.factor is not None or not all(is_constant(a) for a in call.args[1:]):
            return self._other(call)
        parameters = [value_of(argument) for argument in call.args[1:]]
        channels, axis = parameters[0].size, int(call.attrs.axis)
        levels = []
        for level in inner.levels:
            shape = list(level.shape)
            shape[axis] = channels
            levels.append(_compress(evaluate_call(call, [np.broadcast_to(level, shape), *parameters])[0]))
        return replace(inner, levels=tuple(levels))

    def _max_pool(self, var: relax.Var, call: relax.Call) -> Alphabet:
        inner = self.of(call.args[0])
        if isinstance(inner, Real):
            return replace(inner, rounded=None)
        values = [level.reshape(-1) for level in inner.levels]
        if inner.factor is not None or any(value.size != 1 for value in values):
            return Real(
                f"{describe(call)} pools channels with different levels or scales",
                "scale behind the pooling, or behind the layer",
            )
        line = [float(value[0]) for value in values]
        if _falls(inner):  # levels are put in ascending order below
            inner = self.settle(inner)
            line = [float(level.reshape(-1)[0]) for level in inner.levels]
        ascending = sorted({level for level in line if not np.isnan(level)})
        masks = [tuple(level >= least for level in line) for least in ascending[1:]]
        if not masks:
            return Real("it is constant")

        def pooled(bits: relax.Expr) -> relax.Expr:
            return relax.Call(call.op, [bits], call.attrs, call.ty_args, call.span)

        dtype = inner.levels[0].dtype
        levels = tuple(np.full((1,) * len(shape_of(call)), level, dtype) for level in ascending)
        zero = inner.zero
        if zero is not None:  # as long as it has the level to itself
            own = sum(level == line[zero.cell] for level in line) == 1 + (line[-1] == line[zero.cell])
            place = ascending.index(line[zero.cell]) if own else 0
            zero = replace(zero, cell=place) if 0 < place < len(ascending) - 1 else None
        return replace(inner, cells=PooledCells(self._emit, inner.cells, var, pooled, masks), levels=levels, zero=zero)

    def _concat(self, var: relax.Var, call: relax.Call) -> Alphabet:
        fields = list(call.args[0].fields) if isinstance(call.args[0], relax.Tuple) else []
        parts = [self.of(field) for field in fields]
        for part in parts:
            if isinstance(part, Real):
                return replace(part, rounded=None, bounds=UNBOUNDED)
        steps = [part for part in parts if isinstance(part, Steps)]
        if any(step.factor is not None for step in steps):
            return Real(f"{describe(call)} joins binary tensors that were scaled by data", "scale after the layer")
        axis = int(call.attrs.axis) % len(shape_of(call))
        groups = [_ascending(step) for step in steps]
        alike = len({(step.zero is None, group and len(group)) for step, group in zip(steps, groups, strict=True)}) == 1
        if not alike or any(map(_falls, steps)):
            # not cell by cell as long as some zeros are open; and cells are put in ascending order
            steps = [self.settle(step) for step in steps]
            groups = [_ascending(step) for step in steps]
        ordered = [group for group in groups if group is not None]
        if len(ordered) < len(groups) or len({len(group) for group in ordered}) != 1:
            return Real(f"{describe(call)} joins tensors with different numbers of levels")
        count = len(ordered[0])
        joined, places = [], []
        for step, group in zip(steps, ordered, strict=True):
            wholes = [next(i for i, cells in enumerate(group) if cell in cells) for cell in range(step.cells.count)]
            joined.append((step.cells, wholes))
            places += [wholes[step.zero.cell]] if step.zero is not None else []
        zeros = [step.zero for step in steps if step.zero is not None]
        zero = _joined_zeros(zeros, places[0]) if len(set(places)) == 1 and 0 < places[0] < count - 1 else None
        levels = []
        for whole in range(count):
            pieces = [
                np.broadcast_to(step.levels[group[whole][0]], _with_extent(step.levels[group[whole][0]], field, axis))
                for step, group, field in zip(steps, ordered, fields, strict=True)
            ]
            shape = np.broadcast_shapes(*(_without(piece.shape, axis) for piece in pieces))
            wide = [np.broadcast_to(p, (*shape[:axis], p.shape[axis], *shape[axis + 1 :])) for p in pieces]
            levels.append(_compress(np.concatenate(wide, axis)))
        return _with_signs(Steps(JoinedCells(self._emit, joined, axis, count, var), tuple(levels), zero), steps)

    def _pad(self, var: relax.Var, call: relax.Call) -> Alphabet:
        inner = self.of(call.args[0])
        if isinstance(inner, Real):
            return replace(inner, rounded=None, bounds=UNBOUNDED)
        if str(call.attrs.pad_mode) != "constant":
            return self._view(var, call)
        if inner.factor is not None or any(level.size != 1 for level in inner.levels):
            return Real(f"{describe(call)} pads channels with different levels or scales", "scale behind the layer")
        value = np.float32(float(call.attrs.pad_value))
        line = [level.reshape(-1)[0] for level in inner.levels]
        border = next((i for i, level in enumerate(line) if level == value), len(line))
        widths = [int(width) for width in call.attrs.pad_width]

        def padded(bits: relax.Expr, inside: bool) -> relax.Expr:
            return relax.op.nn.pad(bits, widths, "constant", float(inside))

        levels = inner.levels
        if border == len(line):
            levels = (*levels, np.full_like(levels[0], value))
        zero = inner.zero
        if zero is not None and value == 0 and line[zero.cell] == 0:
            zero = replace(zero, common=True)
        cells = PaddedCells(self._emit, inner.cells, var, padded, border)
        return replace(inner, cells=cells, levels=levels, zero=zero)


def _levels(like: relax.Expr, values: Sequence[float | bool]) -> tuple[np.ndarray, ...]:
    """One number a cell, for a tensor of the rank of ``like``; bools for truth values, else of its dtype."""
    truth = all(isinstance(value, bool) for value in values)
    dtype = "bool" if truth else dtype_of(like)
    return tuple(np.full((1,) * len(shape_of(like)), value, dtype) for value in values)


def _refined(cells: Sequence[Cells]) -> tuple[Cells, list[list[int]]] | None:
    """Cells for all tensors together, and for each its own cell in each of them; None where they are independent."""
    whole = cells[0]
    maps = [list(range(whole.count))]
    for other in cells[1:]:
        found = whole.refine(other)
        if found is None:
            return None
        whole, here, there = found
        maps = [[places[i] for i in here] for places in maps] + [there]
    return whole, maps


def _too_many(call: relax.Call) -> Real:
    return Real(f"{describe(call)} combines tensors to too many levels", "take the sign of the result")


def _kept(steps: Steps) -> Steps:
    """The step function whose sign(0) is a level for good."""
    return steps if steps.zero is None else replace(steps, zero=None, kept=(*steps.kept, *steps.zero.signs))


def _joined_zeros(zeros: Sequence[ZeroCell], cell: int) -> ZeroCell:
    """One cell for the zeros of several tensors."""
    signs = dict.fromkeys(sign for zero in zeros for sign in zero.signs)
    return ZeroCell(cell, any(zero.common for zero in zeros), tuple(signs))


def _with_signs(result: Steps, operands: Sequence[Steps]) -> Steps:
    """The result with the signs of its operands whose zeros are decided."""
    guessed, kept = (
        tuple(dict.fromkeys(sign for step in operands for sign in signs(step)))
        for signs in (lambda step: step.guessed, lambda step: step.kept)
    )
    return replace(result, guessed=guessed, kept=kept)


def _among(levels: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> bool:
    """Whether each level is one of the others."""
    return all(any(np.array_equal(level, other, equal_nan=True) for other in others) for level in levels)


def _compress(value: np.ndarray) -> np.ndarray:
    """The same array with extent 1 along each axis on which it does not change (NaN equals NaN)."""
    for axis in range(value.ndim):
        first = np.take(value, [0], axis)
        same = (value == first) | ((value != value) & (first != first))
        if value.shape[axis] > 1 and bool(np.all(same)):
            value = first
    return value


def _ascending(step: Steps) -> list[list[int]] | None:
    """Cells of equal levels, by level; NaN's joins where it has a number. None where channels differ in the order."""
    order: list[list[int]] = []
    for cell, level in enumerate(step.levels):
        if level.dtype.kind == "f" and np.isnan(level).all():
            continue
        same = next((group for group in order if np.array_equal(step.levels[group[0]], level)), None)
        if same is not None:
            same.append(cell)
        else:
            order.append([cell])
    keys = [step.levels[group[0]] for group in order]
    ranked = sorted(range(len(order)), key=lambda i: float(keys[i].reshape(-1)[0]))
    for below, above in itertools.pairwise(ranked):
        if not (np.all(keys[below] < keys[above]) or np.all(keys[below] > keys[above])):
            return None
    result = [order[i] for i in ranked]
    missing = [c for c in range(step.cells.count) if not any(c in group for group in result)]
    result[0].extend(missing)  # a NaN has no level; it lies with the least
    return result


def _falls(steps: Steps) -> bool:
    """Whether the level above sign(0) is less than the one below it, so that ascending order would swap them."""
    if steps.zero is None:
        return False
    below, above = (steps.levels[steps.zero.cell + i] for i in (-1, 1))
    return bool(np.any(above < below))


def _with_extent(level: np.ndarray, field: relax.Expr, axis: int) -> tuple[int, ...]:
    shape = list(level.shape)
    shape[axis] = shape_of(field)[axis]
    return tuple(shape)


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], 1, *shape[axis + 1 :])


def module_of(call: relax.Call) -> str:
    """The module that an operator is in, as decisions name it."""
    return path_of(call) or "the model"


def describe(expr: relax.Expr) -> str:
    """An operator and the module that it is in, for a reason."""
    operator = op_name(expr).split(".")[-1] or "a tuple"
    path = path_of(expr) if isinstance(expr, relax.Call) else ""
    return f"{operator} in {path}" if path and path != "model" else operator
