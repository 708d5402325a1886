"""Deliberate faults in analysis, folding and kernels: each replaces a function, and names the probe that sees it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np
from tvm import tirx

from tvm_bnn.lower import tally, words
from tvm_bnn.lower.anchors import convolution
from tvm_bnn.relay_passes import (
    alphabet,
    binary_sum,
    cells,
    convert_binary,
    fold_affine,
    fold_predicates,
    levels,
)  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """A fault: what it does, the place, the probe that sees it, and whether that takes compiled kernels.

    change : takes the function (or value) in place and returns the faulty one.
    """

    name: str
    owner: Any
    attribute: str
    change: Callable[[Any], Any]
    probe: str
    compiled: bool = False

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The fault is there inside the block."""
        if isinstance(self.owner, dict):
            with mock.patch.dict(self.owner, {self.attribute: self.change(self.owner[self.attribute])}):
                yield
        else:
            with mock.patch.object(self.owner, self.attribute, self.change(getattr(self.owner, self.attribute))):
                yield

    @property
    def place(self) -> str:
        """Module or class, and function."""
        owner = "SCALAR" if isinstance(self.owner, dict) else self.owner.__name__.replace("tvm_bnn.", "")
        return f"{owner}.{self.attribute}"


def _swapped_direction(compared):
    return lambda self, cut, behind: compared(self, cut, not behind)


def _other_convention(settle):
    def faulty(self, steps):
        kept, self.sign_zero = self.sign_zero, "minus" if self.sign_zero == "plus" else "plus"
        try:
            return settle(self, steps)
        finally:
            self.sign_zero = kept

    return faulty


def _zeros_are_rare(_common):
    return lambda *_: False


def _zero_weight_is_plus(split):
    def faulty(weight):
        magnitude = np.abs(weight).max(axis=tuple(range(1, weight.ndim)), keepdims=True)
        return split(np.where(weight == 0, magnitude, weight))

    return faulty


def _on_planes(change):
    """A fault in what planes_of returns."""

    def wrap(planes_of):
        def faulty(steps):
            planes = planes_of(steps)
            return planes if isinstance(planes, str) else change(planes)

        return faulty

    return wrap


def _middle_class_everywhere(sums):
    def faulty(weight, size, geometry):
        table, rows, columns = sums(weight, size, geometry)
        middle = table[:, rows[len(rows) // 2], columns[len(columns) // 2]]
        return np.broadcast_to(middle[:, None, None], table.shape).copy(), rows, columns

    return faulty


def _classes_from_the_end(classes):
    def faulty(*arguments):
        found, masks = classes(*arguments)
        return found[::-1], masks

    return faulty


def _negated_level(signs_of):
    def faulty(self, value):
        signs = signs_of(self, value)
        return None if signs is None else tuple(-sign for sign in signs)

    return faulty


def _first_group(channels_of):
    return lambda filters, per_group, groups: channels_of(filters, per_group, groups) % per_group


def _turned_kernel(forward):
    return lambda weight, groups: np.ascontiguousarray(forward(weight, groups)[:, :, ::-1])


def _one_row_less(found):
    return lambda *arguments: [replace(p, before=p.before + 1, after=p.after - 1) for p in found(*arguments)]


def _sorted_bits(intervals):
    """As if the larger sum always made the bit True."""
    return lambda truth, bound: intervals(np.sort(truth, axis=1), bound)


def _on_interval(change):
    def wrap(intervals):
        def faulty(truth, bound):
            lowest, width, kind = intervals(truth, bound)
            return (*change(lowest.astype(np.int64), width.astype(np.int64)), kind)

        return faulty

    return wrap


def _cut_to_32(lowest, width):
    return lowest.astype(np.int32), width.astype(np.uint32)


def _unscaled_shift(coefficients):
    def faulty(call):
        found = coefficients(call)
        return found if found is None else (found[0], found[1], np.abs(found[2]))

    return faulty


def _never_outside(bounds):
    def faulty(self, lowest, span):
        first, last, outside = bounds(self, lowest, span)
        return first, last, np.zeros_like(outside)

    return faulty


def _one_bit_more(padding_words):
    return lambda pad_value, per_group: padding_words(pad_value, per_group + 1 if per_group % 32 else per_group)


def _no_border(_base_of_sums):
    return lambda weight, *_: (tally.Table.of_number(int(np.prod(weight.shape[1:]))),) * 2


def _one_count_more(bounds):
    def faulty(self, lowest, span):
        first, last, outside = bounds(self, lowest, span)
        return first, last + 1, outside

    return faulty


def _big_endian(pack):
    def faulty(bits):
        padded = np.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, -bits.shape[-1] % 32)])
        return np.ascontiguousarray(np.packbits(padded, axis=-1, bitorder="big")).view("<u4")

    return faulty


def _always_group_0(group_word):
    return lambda reader, data, pixel, group, position, per_group: group_word(
        reader, data, pixel, 0 * group, position, per_group
    )


def _next_word(stored_word):
    return lambda reader, var, pixel, position: stored_word(reader, var, pixel, tirx.max(position - 1, 0))


def _round_up(source):
    return lambda call, axis, index: tirx.min(source(call, axis, index) + 1, int(call.args[0].ty.shape[axis]) - 1)


FAULTS = [
    # analysis
    Fault("threshold in the other direction", cells.LineCells, "_compared", _swapped_direction, "chain"),
    Fault("sign(0) by the other convention", alphabet.AlphabetAnalysis, "settle", _other_convention, "conventions"),
    Fault("zeros of a discrete source guessed", alphabet, "zero_is_common", _zeros_are_rare, "masked"),
    Fault("a weight of 0 counts as +a", convert_binary, "weight_planes", _zero_weight_is_plus, "zero_weights"),
    Fault(
        "plane coefficients all 1", convert_binary, "planes_of",
        _on_planes(lambda p: replace(p, weights=(1,) * len(p.weights))), "two_bits",
    ),
    Fault(
        "the sign of a step dropped", convert_binary, "planes_of",
        _on_planes(lambda p: replace(p, flip=np.abs(p.flip))), "per_channel",
    ),
    Fault(
        "the middle of the levels dropped", convert_binary, "planes_of",
        _on_planes(lambda p: replace(p, middle=0 * p.middle)), "per_channel",
    ),
    # conversion
    Fault("border classes ignored", binary_sum, "border_sums", _middle_class_everywhere, "two_levels"),
    Fault("padded with the other level", levels.Planes, "signs_of", _negated_level, "padded"),
    Fault("channels of the first group", binary_sum, "_channels_of", _first_group, "per_channel"),
    Fault("kernel turned around", convert_binary, "forward_weight", _turned_kernel, "transposed"),
    Fault("phase one row off", convert_binary, "phases", _one_row_less, "transposed"),
    # folding
    Fault("direction behind negative gamma ignored", fold_predicates, "_intervals", _sorted_bits, "chain"),
    Fault(
        "threshold one too high", fold_predicates, "_intervals",
        _on_interval(lambda lowest, width: _cut_to_32(lowest + 1, width)), "chain",
    ),
    Fault(
        "complement of an interval one too narrow", fold_predicates, "_intervals",
        _on_interval(lambda lowest, width: _cut_to_32(lowest, width - 1)), "slopes",
    ),
    Fault("shift without its sign", fold_affine, "coefficients", _unscaled_shift, "epilogue"),
    # kernels
    Fault("interval without wrapping", tally.Tally, "_bounds", _never_outside, "slopes", True),
    Fault("border correction left out", convolution, "base_of_sums", _no_border, "chain", True),
    Fault("one count too many passes a test", tally.Tally, "_bounds", _one_count_more, "chain", True),
    Fault("border classes from the end", convolution, "border_classes", _classes_from_the_end, "two_levels", True),
    Fault("padded word one bit too long", convolution, "padding_words", _one_bit_more, "padded", True),
    Fault("bits of a word in the other order", convolution, "pack_words", _big_endian, "chain", True),
    Fault("words of group 0 for every group", convolution, "group_word", _always_group_0, "per_channel", True),
    Fault("word before the right one", words, "_stored_word", _next_word, "rearranged", True),
    Fault("nearest pixel rounded up", words, "nearest_source", _round_up, "rearranged", True),
]  # fmt: skip
