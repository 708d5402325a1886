"""A random graph under construction: Relax values whose every element is known to be exact.

All constants and data are dyadic: whole multiples of a power of two. A ``Map`` carries that power (``unit``) and a
bound of its magnitude. As long as the bound has at most EXACT units, sums and products of elements are exact in
float32 in whatever order they are taken, so a rewritten graph equals the original bit for bit; a step that could go
beyond declines.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import tvm
from tvm import relax
from tvm.relax import op

from tests.properties.draws import Draws

#: Whole units that a magnitude may have. float32 holds 2**24; what passes compute besides (the middle between two
#: levels, a folded scale) takes a few bits more than the values themselves.
EXACT = 2**20

CHANNELS = (1, 3, 31, 32, 33, 64, 65)


class Declined(Exception):
    """A step does not fit this graph: its shape, or exactness."""


@dataclass(frozen=True)
class Map:
    """A value of the graph.

    unit : the power of two that every element is a multiple of, as exponent. bound : of the magnitude.
    levels : what its elements can be, ascending, where a step of an activation says so and views kept it; else None.
    discrete : whether exact zeros are common, so that no convention for sign(0) may be used.
    """

    var: relax.Var
    unit: int
    bound: float
    levels: tuple[float, ...] | None = None
    discrete: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(extent) for extent in self.var.ty.shape)

    @property
    def channels(self) -> int:
        return self.shape[1]

    @property
    def size(self) -> tuple[int, ...]:
        return self.shape[2:]


@dataclass(frozen=True)
class Weight:
    """Weights of a layer: the expression, their bound per filter summed over the taps, and how they are made."""

    expr: relax.Expr
    unit: int
    reach: float
    form: str


@dataclass
class Graph:
    """Arguments, data, steps taken, and what is expected of the layers of one graph.

    name : in front of every module path. told : the signs, by path, that took a convention; they are then spelled out.
    steps : names of the steps taken. expected : path of a layer -> "binary" or "float", where the grammar knows.
    sharp : signs that no convention may touch. guessable : the others, so far.
    direct : for each result, the signs that reach it with no layer between. A convention is for the layers; such a
        result has the zeros of torch.sign.
    sure : whether the levels of activations are what they say.
    """

    draws: Draws
    name: str = "graph"
    told: frozenset[str] = frozenset()
    plus: bool = True
    variables: list[relax.Var] = field(default_factory=list)
    data: list[np.ndarray] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    expected: dict[str, str] = field(default_factory=dict)
    sharp: set[str] = field(default_factory=set)
    guessable: list[str] = field(default_factory=list)
    direct: tuple[frozenset[str], ...] = ()
    sure: bool = True

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.draws.below(1 << 16))

    # --- values -------------------------------------------------------------------------------------------------

    def path(self, what: str) -> str:
        """A new module path."""
        self._count = getattr(self, "_count", 0) + 1
        return f"{self.name}.{what}{self._count}"

    def emit(self, expr: relax.Expr, path: str = "") -> relax.Var:
        """Bind an expression; path is that of the torch module it would come from."""
        if path and isinstance(expr, relax.Call):
            span = tvm.ir.Span(tvm.ir.SourceName(path), 0, 0, 0, 0)
            expr = relax.Call(expr.op, expr.args, expr.attrs, expr.ty_args, span)
        return relax.BlockBuilder.current().emit(expr)

    def argument(self, *shape: int, zeros: bool = False) -> Map:
        """An argument: odd multiples of 1/4 up to 3.75, or any of 1/2 where zeros are welcome."""
        units = self.rng.integers(-7, 8, shape) * 2 if zeros else self.rng.integers(-8, 8, shape) * 2 + 1
        array = (units / 4).astype(np.float32)
        var = relax.Var(f"{self.name.replace('.', '_')}_x{len(self.variables)}", relax.TensorType(shape, "float32"))
        self.variables.append(var)
        self.data.append(array)
        return Map(var, -2, 4.0)

    def dyadic(self, *shape: int, low: int = -4, high: int = 4, unit: int = -1) -> np.ndarray:
        """Multiples of 2**unit from low to high units, never 0."""
        units = self.rng.integers(low, high, shape)
        return (np.where(units >= 0, units + 1, units) * 2.0**unit).astype(np.float32)

    def signs(self, *shape: int) -> np.ndarray:
        """+1 and -1."""
        return np.where(self.rng.random(shape) < 0.5, 1, -1).astype(np.float32)

    # --- exact steps --------------------------------------------------------------------------------------------

    def made(self, expr: relax.Expr, unit: float, bound: float, path: str = "", **known) -> Map:
        """Bind a result after the proof that it is exact."""
        if bound > EXACT * 2.0**unit:
            raise Declined(f"{bound} has more than {EXACT} units of 2**{unit}")
        return Map(self.emit(expr, path), int(unit), float(bound), **known)

    def view(self, value: Map, expr: relax.Expr, **changed) -> Map:
        """Bind a rearrangement, whose elements are those of value."""
        return replace(value, var=self.emit(expr), **changed)

    def scaled(self, value: Map, number: np.ndarray | float) -> Map:
        """value times a constant that broadcasts."""
        factor = np.atleast_1d(np.asarray(number, np.float32))
        levels = None
        if value.levels is not None and factor.size == 1:
            levels = tuple(sorted(float(factor.flat[0]) * level for level in value.levels))
        bound = value.bound * float(np.abs(factor).max())
        expr = op.multiply(value.var, relax.const(factor))
        return self.made(expr, value.unit + unit_of(factor), bound, levels=levels, discrete=value.discrete)

    def shifted(self, value: Map, number: np.ndarray | float) -> Map:
        """value plus a constant that broadcasts."""
        term = np.atleast_1d(np.asarray(number, np.float32))
        unit, bound = min(value.unit, unit_of(term)), value.bound + float(np.abs(term).max())
        levels = None
        if value.levels is not None and term.size == 1:
            levels = tuple(level + float(term.flat[0]) for level in value.levels)
        return self.made(op.add(value.var, relax.const(term)), unit, bound, levels=levels)

    def sum(self, first: Map, second: Map) -> Map:
        """first + second, shapes equal or broadcasting."""
        unit = min(first.unit, second.unit)
        discrete = first.discrete and second.discrete
        return self.made(op.add(first.var, second.var), unit, first.bound + second.bound, discrete=discrete)

    def product(self, first: Map, second: Map) -> Map:
        """first * second, shapes equal or broadcasting."""
        expr = op.multiply(first.var, second.var)
        discrete = first.discrete or second.discrete
        return self.made(expr, first.unit + second.unit, first.bound * second.bound, discrete=discrete)

    def clipped(self, value: Map, low: float, high: float) -> Map:
        """clip(value, low, high)."""
        unit = min([value.unit, *(unit_of(b) for b in (low, high) if b)])
        levels = value.levels
        if levels is not None:
            levels = tuple(sorted({min(max(level, low), high) for level in levels}))
        bound = max(abs(low), abs(high))
        discrete = value.discrete or low == 0 or high == 0
        return self.made(op.clip(value.var, low, high), unit, bound, levels=levels, discrete=discrete)

    def sign(self, value: Map) -> relax.Var:
        """torch.sign, or what the convention makes of it where the analysis said that it was used."""
        path = self.path("sign")
        if value.discrete:
            self.sharp.add(path)
        else:
            self.guessable.append(path)
        if path not in self.told:
            return self.emit(op.sign(value.var), path)
        compare = op.greater_equal if self.plus else op.greater
        condition = self.emit(compare(value.var, number(0)))
        return self.emit(op.where(condition, number(1), number(-1)))


def number(value: float) -> relax.Expr:
    """A scalar float32 constant."""
    return relax.const(np.float32(value))


def unit_of(array: np.ndarray | float) -> int:
    """The largest power of two that every element is a multiple of, as exponent; 0 of zeros."""
    values = np.abs(np.asarray(array, np.float64)).ravel()
    values = values[values != 0]
    if not len(values):
        return 0
    mantissa, exponent = np.frexp(values)
    whole = (mantissa * 2.0**24).astype(np.int64)
    zeros = np.log2((whole & -whole).astype(np.float64)).astype(np.int64)
    return int((exponent - 24 + zeros).min())
