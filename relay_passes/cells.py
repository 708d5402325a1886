"""Cells: into which finitely many pieces the values of a tensor's source fall.

A tensor that takes few values is a *step function* of something: of a real tensor, cut at a few places (``sign(x)`` has
the cells x < 0, x = 0, x > 0), or of predicates that are there already. What such a tensor is worth in each cell is a
table (see alphabet.py); what the cells are, and how to say in Relax that an element lies in some of them, is said here.

A *mask* has one truth value a cell; ``bits(mask)`` is the bool tensor that tells whether an element's cell is in it.
Predicates are emitted when someone asks, and once.

======================  ==========================================================================================
``LineCells``           a real tensor between cuts, and NaN as a cell of its own, the last
``BoolCells``           a bool tensor: False, True
``MovedCells``          a rearrangement (reshape, slice, resize ...) of another tensor's cells: its bits move
``PooledCells``         the maximum of a window: it reaches a level where some element does
``JoinedCells``         tensors that are joined along an axis, cell by cell
``PaddedCells``         a border of one value around a tensor
``ProductCells``        two tensors side by side: every pair of their cells
======================  ==========================================================================================
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import relax

Mask = tuple[bool, ...]
#: Binds an expression to a variable: the second argument tells equal requests, of which only the first is emitted.
Emit = Callable[[relax.Expr, object], relax.Expr]


def complement(mask: Mask) -> Mask:
    """The other cells."""
    return tuple(not inside for inside in mask)


class Cells:
    """The common interface; ``count`` is how many cells there are."""

    count: int

    def __init__(self, emit: Emit) -> None:
        self.emit = emit
        self._made: dict[Mask, relax.Expr] = {}

    def bits(self, mask: Mask) -> relax.Expr:
        """Where the cell is in the mask, as a bool tensor."""
        assert len(mask) == self.count and any(mask) and not all(mask), mask
        if mask not in self._made:
            self._made[mask] = self._bits(mask)
        return self._made[mask]

    def _bits(self, mask: Mask) -> relax.Expr:
        raise NotImplementedError

    def refine(self, other: "Cells") -> "tuple[Cells, list[int], list[int]] | None":
        """Cells that tell apart what both tell apart, and for each of them the cell of self and of other.

        None where the two do not look at one tensor, so that their cells are independent.
        """
        return (self, list(range(self.count)), list(range(self.count))) if other is self else None


@dataclass(frozen=True)
class Cut:
    """A place on the line: elements behind it are ``>= value`` (closed) or ``> value``.

    value : float array that broadcasts against the tensor: one number, or one a channel.
    """

    value: np.ndarray
    closed: bool

    def key(self) -> tuple:
        """Equal for equal cuts."""
        return (self.value.shape, self.value.tobytes(), self.closed)

    def before(self, other: "Cut") -> bool:
        """Whether this cut lies strictly before the other one everywhere."""
        try:
            here, there = np.broadcast_arrays(self.value, other.value)
        except ValueError:
            return False
        same_place = (here == there) & (self.closed and not other.closed)
        return bool(np.all((here < there) | same_place))


class LineCells(Cells):
    """A real tensor between ascending cuts; the last cell is NaN."""

    def __init__(self, emit: Emit, source: relax.Expr, cuts: Sequence[Cut]) -> None:
        super().__init__(emit)
        self.source, self.cuts = source, tuple(cuts)
        self.count = len(self.cuts) + 2

    def _bits(self, mask: Mask) -> relax.Expr:
        if mask[-1]:
            return self._emitted(relax.op.logical_not(self.bits(complement(mask))), ("not", mask))
        line = mask[:-1]
        starts = [i for i, inside in enumerate(line) if inside and (i == 0 or not line[i - 1])]
        result: relax.Expr | None = None
        for start in starts:
            end = next((i for i in range(start, len(line)) if not line[i]), len(line))
            run = self._run(start, end)
            result = run if result is None else self._emitted(relax.op.logical_or(result, run), ("or", mask, start))
        assert result is not None
        return result

    def _run(self, start: int, end: int) -> relax.Expr:
        """Where an element lies in the cells start ... end - 1; NaN lies in none."""
        behind = self._compared(self.cuts[start - 1], True) if start else None
        before = self._compared(self.cuts[end - 1], False) if end <= len(self.cuts) else None
        if behind is None or before is None:
            found = behind if before is None else before
            return self._emitted(relax.op.equal(self.source, self.source), "number") if found is None else found
        return self._emitted(relax.op.logical_and(behind, before), ("and", start, end))

    def _compared(self, cut: Cut, behind: bool) -> relax.Expr:
        operators = {
            (True, True): relax.op.greater_equal,
            (False, True): relax.op.greater,
            (True, False): relax.op.less,
            (False, False): relax.op.less_equal,
        }
        value = relax.const(np.asarray(cut.value, dtype=str(self.source.ty.dtype)))
        compare = operators[cut.closed, behind]
        # by the source: other cells of the same tensor may ask for the same comparison
        return self.emit(compare(self.source, value), ("compare", self.source, cut.key(), behind))

    def _emitted(self, expr: relax.Expr, what: object) -> relax.Expr:
        return self.emit(expr, (self.source, tuple(cut.key() for cut in self.cuts), what))

    def refine(self, other: Cells) -> tuple[Cells, list[int], list[int]] | None:
        """Both tensors' cuts in one order; None where the order differs from channel to channel."""
        if other is self:
            return super().refine(other)
        if not isinstance(other, LineCells) or not self.source.same_as(other.source):
            return None
        merged = list(self.cuts)
        for cut in other.cuts:
            if cut.key() in [known.key() for known in merged]:
                continue
            place = sum(known.before(cut) for known in merged)
            if not all(cut.before(known) for known in merged[place:]):
                return None
            merged.insert(place, cut)
        keys = [cut.key() for cut in merged]
        cells = LineCells(self.emit, self.source, merged)
        return cells, _positions(keys, self.cuts), _positions(keys, other.cuts)


def _positions(keys: list[tuple], cuts: Sequence[Cut]) -> list[int]:
    """For each cell between the merged cuts, the cell between ``cuts`` that holds it; NaN stays last."""
    own = {cut.key() for cut in cuts}
    cell, positions = 0, [0]
    for key in keys:
        cell += key in own
        positions.append(cell)
    return [*positions, len(cuts) + 1]


class BoolCells(Cells):
    """The two values of a bool tensor."""

    count = 2

    def __init__(self, emit: Emit, source: relax.Expr) -> None:
        super().__init__(emit)
        self.source = source

    def _bits(self, mask: Mask) -> relax.Expr:
        return self.source if mask[1] else self.emit(relax.op.logical_not(self.source), ("not", self.source))


class MovedCells(Cells):
    """A rearrangement of another tensor: ``move`` makes the call on the bits."""

    def __init__(self, emit: Emit, inner: Cells, key: object, move: Callable[[relax.Expr], relax.Expr]) -> None:
        super().__init__(emit)
        self.inner, self.key, self.move = inner, key, move
        self.count = inner.count

    def _bits(self, mask: Mask) -> relax.Expr:
        return self.emit(self.move(self.inner.bits(mask)), (self.key, mask))


class PooledCells(Cells):
    """The largest of a window's elements, whose cells ascend.

    ascending : masks over the inner cells: which of them reach at least level 1, 2, ...
    """

    def __init__(
        self,
        emit: Emit,
        inner: Cells,
        key: object,
        pool: Callable[[relax.Expr], relax.Expr],
        ascending: Sequence[Mask],
    ) -> None:
        super().__init__(emit)
        self.inner, self.key, self.pool, self.ascending = inner, key, pool, ascending
        self.count = len(ascending) + 1

    def _bits(self, mask: Mask) -> relax.Expr:
        result: relax.Expr | None = None
        level = 0
        while level < self.count:
            if not mask[level]:
                level += 1
                continue
            end = next((i for i in range(level, self.count) if not mask[i]), self.count)
            run = self._between(level, end)
            joined = run if result is None else self.emit(relax.op.logical_or(result, run), (self.key, mask, level))
            result, level = joined, end
        assert result is not None
        return result

    def _reaches(self, level: int) -> relax.Expr:
        return self.emit(self.pool(self.inner.bits(self.ascending[level - 1])), (self.key, "reaches", level))

    def _between(self, start: int, end: int) -> relax.Expr:
        if end == self.count:
            return self._reaches(start)
        below = self.emit(relax.op.logical_not(self._reaches(end)), (self.key, "below", end))
        if start == 0:
            return below
        return self.emit(relax.op.logical_and(self._reaches(start), below), (self.key, "between", start, end))


class JoinedCells(Cells):
    """Tensors one behind the other along an axis.

    parts : for each, its cells, and which of them make up cell 0, 1, ... of the whole.
    """

    def __init__(
        self, emit: Emit, parts: Sequence[tuple[Cells, Sequence[int]]], axis: int, count: int, key: object
    ) -> None:
        super().__init__(emit)
        self.parts, self.axis, self.count, self.key = parts, axis, count, key

    def _bits(self, mask: Mask) -> relax.Expr:
        pieces = [cells.bits(tuple(mask[whole] for whole in wholes)) for cells, wholes in self.parts]
        return self.emit(relax.op.concat(pieces, self.axis), (self.key, mask))


class PaddedCells(Cells):
    """A border around a tensor, of elements that lie in one cell.

    border : that cell; the last one, of its own, where the tensor itself never has that value.
    """

    def __init__(
        self,
        emit: Emit,
        inner: Cells,
        key: object,
        pad: Callable[[relax.Expr, bool], relax.Expr],
        border: int,
    ) -> None:
        super().__init__(emit)
        self.inner, self.key, self.pad, self.border = inner, key, pad, border
        self.count = max(inner.count, border + 1)

    def _bits(self, mask: Mask) -> relax.Expr:
        inside = mask[: self.inner.count]
        if any(inside) and not all(inside):
            bits = self.inner.bits(inside)
        else:  # only the border is told apart
            some = self.inner.bits((True,) + (False,) * (self.inner.count - 1))
            other = self.emit(relax.op.logical_not(some), (self.key, "other"))
            join = relax.op.logical_or if inside[0] else relax.op.logical_and
            bits = self.emit(join(some, other), (self.key, "inside", inside[0]))
        return self.emit(self.pad(bits, mask[self.border]), (self.key, mask))


class ProductCells(Cells):
    """Pairs of cells of two tensors that broadcast against each other; pair (i, j) is cell ``i * right.count + j``.

    shape : of the two together.
    """

    def __init__(self, emit: Emit, left: Cells, right: Cells, shape: tuple[int, ...], key: object) -> None:
        super().__init__(emit)
        self.left, self.right, self.shape, self.key = left, right, shape, key
        self.count = left.count * right.count

    def _bits(self, mask: Mask) -> relax.Expr:
        width = self.right.count
        rows = [mask[i * width : (i + 1) * width] for i in range(self.left.count)]
        terms = []
        for row in dict.fromkeys(row for row in rows if any(row)):
            factors = [] if all(row) else [self.right.bits(row)]
            where = tuple(other == row for other in rows)
            if not all(where):
                factors.append(self.left.bits(where))
            both = factors[0] if len(factors) == 1 else relax.op.logical_and(*factors)
            terms.append(self.emit(both, (self.key, "both", row, where)))
        result = terms[0]
        for number, term in enumerate(terms[1:]):
            result = self.emit(relax.op.logical_or(result, term), (self.key, mask, number))
        if tuple(int(extent) for extent in result.ty.shape) != self.shape:
            result = self.emit(relax.op.broadcast_to(result, self.shape), (self.key, mask, "whole"))
        return result
