"""Rearrangements that lose nothing: any chain of reshapes and permutations as one reshape, permutation, reshape.

A tensor's axes are cut into *atoms*, the coarsest factors of which every step of the chain moves whole ones only. The
chain is then a permutation of atoms. Where a step would cut at places that no factors agree on (3x4 seen as 2x6), it
has no such form.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import prod

import numpy as np
from tvm import relax

from tvm_bnn.relay_passes.rewriter import op_name

_RESHAPES = frozenset({"relax.reshape", "relax.expand_dims", "relax.squeeze", "relax.flatten"})


@dataclass(frozen=True)
class Arrangement:
    """How the elements of ``source`` come to lie in ``shape``.

    atoms : extents of the atoms, in the order of the source; none is 1. order : their order in the result.
    """

    source: tuple[int, ...]
    atoms: tuple[int, ...]
    order: tuple[int, ...]
    shape: tuple[int, ...]

    @classmethod
    def identity(cls, shape: tuple[int, ...]) -> "Arrangement":
        """Nothing moves."""
        elements = prod(shape)
        return cls(shape, (elements,), (0,), shape) if elements > 1 else cls(shape, (), (), shape)

    @property
    def moves(self) -> bool:
        """Whether some element lies at another place of memory."""
        return list(self.order) != sorted(self.order)

    def then(self, call: relax.Expr, shape: tuple[int, ...]) -> "Arrangement | None":
        """This, and a reshape or permutation of its result to a shape; None where the two share no atoms."""
        if op_name(call) in _RESHAPES:
            return self.reshaped(shape)
        rank = len(self.shape)
        axes = call.attrs.axes
        return self.permuted([int(a) % rank for a in axes] if axes is not None else list(reversed(range(rank))))

    def then_all(self, steps: Sequence[tuple[relax.Expr, tuple[int, ...]]]) -> "Arrangement | None":
        """This, and a chain of reshapes and permutations, the last first, each with its shape; None as in ``then``."""
        arrangement: Arrangement | None = self
        for call, shape in reversed(steps):
            arrangement = None if arrangement is None else arrangement.then(call, shape)
        return arrangement

    def permuted(self, axes: Sequence[int]) -> "Arrangement":
        """This, and a permutation of the axes of its result."""
        cut = self._cut(self.shape)
        assert cut is not None
        sizes, groups = cut
        order = [atom for axis in axes for atom in groups[axis]]
        return self._simplified(sizes, order, tuple(self.shape[axis] for axis in axes))

    def reshaped(self, shape: tuple[int, ...]) -> "Arrangement | None":
        """This, and a reshape of its result; None where it cuts an atom at no factor."""
        cut = self._cut(shape)
        if cut is None:
            return None
        sizes, groups = cut
        return self._simplified(sizes, [atom for group in groups for atom in group], shape)

    def inverse(self) -> "Arrangement":
        """What takes it back."""
        places = sorted(range(len(self.order)), key=lambda place: self.order[place])
        return Arrangement(self.shape, tuple(self.atoms[atom] for atom in self.order), tuple(places), self.source)

    def innermost(self) -> int | None:
        """The axis of the result along which neighbours are neighbours of the source; None where it has one element."""
        cut = self._cut(self.shape)
        assert cut is not None
        sizes, groups = cut
        return next((axis for axis, group in enumerate(groups) if group and group[-1] == len(sizes) - 1), None)

    def keeps(self, axis: int, source_axis: int) -> bool:
        """Whether an axis of the result is that axis of the source."""
        cut = self._cut(self.shape)
        assert cut is not None
        sizes, groups = cut
        group = groups[axis]
        together = all(b == a + 1 for a, b in pairwise(group)) and self.shape[axis] == self.source[source_axis]
        return together and bool(group) and prod(sizes[group[-1] + 1 :]) == prod(self.source[source_axis + 1 :])

    def factors_of(self, source_axis: int) -> list[tuple[int, int]] | None:
        """Of an axis of the source, the extents of its factors and the axis of the result that each goes to.

        None where an axis ends inside an atom.
        """
        finest = self._finest()
        if finest is None:
            return None
        sizes, of_source, of_result = finest
        axis_of = {atom: axis for axis, atoms in enumerate(of_result) for atom in atoms}
        return [(sizes[atom], axis_of[atom]) for atom in of_source[source_axis]]

    def place(self, index: Sequence) -> list | None:
        """Where the element at an index of the result lies in the source; None where it takes more than factors.

        Indices are numbers, or expressions that know +, *, // and %.
        """
        cut = self._cut(self.shape)
        assert cut is not None
        sizes, groups = cut
        at: list = [0] * len(sizes)
        for position, group in zip(index, groups, strict=True):
            for atom in reversed(group[1:]):
                at[atom], position = position % sizes[atom], position // sizes[atom]
            if group:
                at[group[0]] = position
        places = []
        for extent in reversed(self.source):
            place, step = 0, 1
            while step < extent:
                left, size = extent // step, sizes.pop()
                position = at.pop()
                if size > left:
                    if size % left:
                        return None
                    sizes.append(size // left)
                    at.append(position // left)
                    position, size = position % left, left
                elif left % size:
                    return None
                place = position * step + place
                step *= size
            places.append(place)
        return places[::-1]

    def taken_back(self, value: np.ndarray) -> np.ndarray | None:
        """A constant of the result as one of the source, both with axes of extent 1 where all elements are alike.

        value : rank of the result, extents those of the result or 1. None where an axis ends inside an atom.
        """
        finest = self._finest()
        if finest is None:
            return None
        sizes, of_source, of_result = finest
        parts = [
            sizes[atom] if extent > 1 else 1
            for extent, atoms in zip(value.shape, of_result, strict=True)
            for atom in atoms
        ]
        before = value.reshape(parts).transpose([atom for atoms in of_source for atom in atoms])
        for axis in range(before.ndim):
            first = np.take(before, [0], axis)
            before = first if np.array_equal(np.broadcast_to(first, before.shape), before) else before
        extents, full = list(reversed(before.shape)), []
        for axis, atoms in enumerate(of_source):
            varies = any([extents.pop() > 1 for _ in atoms])
            full.append((self.source[axis] if varies else 1, [sizes[atom] if varies else 1 for atom in atoms]))
        before = np.broadcast_to(before, [extent for _, atoms in full for extent in atoms])
        return before.reshape([extent for extent, _ in full])

    def applied(self, expr: relax.Expr, emit: Callable[[relax.Expr], relax.Expr]) -> relax.Expr:
        """The rearranged expression, its last call unbound; expr itself where nothing changes."""
        if not self.moves:
            return expr if self.source == self.shape else relax.op.reshape(expr, self.shape)
        axes = self._axes()
        if axes is not None:
            return relax.op.permute_dims(expr, axes)
        if self.atoms != self.source:
            expr = emit(relax.op.reshape(expr, self.atoms))
        permuted = relax.op.permute_dims(expr, self.order)
        if tuple(self.atoms[atom] for atom in self.order) == self.shape:
            return permuted
        return relax.op.reshape(emit(permuted), self.shape)

    def _axes(self) -> list[int] | None:
        """The order of the source's axes in the result, where that is all there is to it."""
        groups: list[list[int]] = []
        axes = list(range(len(self.source)))
        for atom in self.atoms:
            group: list[int] = []
            while axes and prod(self.source[axis] for axis in group) < atom:
                group.append(axes.pop(0))
            if prod(self.source[axis] for axis in group) != atom:  # it ends inside an axis
                return None
            groups.append(group)
        order = [axis for atom in self.order for axis in groups[atom]]
        return order if not axes and tuple(self.source[axis] for axis in order) == self.shape else None

    def _cut(self, shape: tuple[int, ...]) -> tuple[list[int], list[list[int]]] | None:
        """Extents of finer atoms, and which of them make each axis of a shape; None where there are no such."""
        groups: list[list[int]] = []
        sizes, waiting = list(self.atoms), list(reversed(self.order))
        for extent in shape:
            group: list[int] = []
            left = extent
            while left > 1:
                atom = waiting.pop()
                if sizes[atom] > left and sizes[atom] % left == 0:  # its outer factor is of this axis, the inner waits
                    sizes[atom : atom + 1] = [left, sizes[atom] // left]
                    for atoms in (group, waiting, *groups):
                        atoms[:] = [a + (a > atom) for a in atoms]
                    waiting.append(atom + 1)
                elif left % sizes[atom]:
                    return None
                left //= sizes[atom]
                group.append(atom)
            groups.append(group)
        return sizes, groups

    def _finest(self) -> tuple[list[int], list[list[int]], list[list[int]]] | None:
        """Atoms that end where axes of the source and of the result do, in the order of the result.

        Returns their extents, which make each axis of the source, and which each of the result; None where there are no
        such.
        """
        cut = self._cut(self.shape)
        if cut is None:  # of an inverse, whose result is another's source
            return None
        sizes, groups = cut
        order = tuple(atom for group in groups for atom in group)
        cut = Arrangement(self.source, tuple(sizes), order, self.shape).inverse()._cut(self.source)
        if cut is None:
            return None
        sizes, of_source = cut
        ends = [0]
        for extent in self.shape:
            end = ends[-1]
            while prod(sizes[ends[-1] : end]) < extent:
                end += 1
            ends.append(end)
        return sizes, of_source, [list(range(begin, end)) for begin, end in pairwise(ends)]

    def _simplified(self, atoms: list[int], order: list[int], shape: tuple[int, ...]) -> "Arrangement":
        """Atoms that stay neighbours become one."""
        joined = {b for a, b in pairwise(order) if b == a + 1}
        first = [atom for atom in range(len(atoms)) if atom not in joined]
        sizes = tuple(prod(atoms[begin:end]) for begin, end in pairwise([*first, len(atoms)]))
        number = {atom: position for position, atom in enumerate(first)}
        return Arrangement(self.source, sizes, tuple(number[a] for a in order if a not in joined), shape)


def is_arrangement(expr: relax.Expr) -> bool:
    """Whether an operator moves elements, loses none and makes none."""
    return op_name(expr) in _RESHAPES or op_name(expr) == "relax.permute_dims"


def cut(value: np.ndarray, extents: Sequence[int], axis: int) -> list[np.ndarray]:
    """A constant cut into parts of these extents along an axis; alike for all parts where it has extent 1 there."""
    if value.shape[axis] == 1:
        return [value] * len(extents)
    ends = accumulate(extents, initial=0)
    return [np.take(value, range(begin, end), axis) for begin, end in pairwise(ends)]
