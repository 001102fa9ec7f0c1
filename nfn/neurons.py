"""Numbers for the entries of axes: two entries that must move together are one neuron.

The axes of the arrays of a program hold numbers of neurons. Where an operation lets entries of two
axes meet (a sum, a product, a contraction), they become the same neuron; where it tells entries
apart by their place (a flattening, a convolution), the neurons are noted. What this means for the
weights is for `nfn.tracing` to say.
"""

from collections.abc import Hashable, Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

UNIFORM = -1  # an entry of an axis along which the array does not change

Entries = Int[np.ndarray, "_"]


class Value(NamedTuple):
    """What is known of an array.

    Attributes:
        axes: The neurons of every axis. Negative: the array does not depend on any neuron there,
            and is the same at all places with the same number.
        leaves: Paths of the parameters it is made of, as long as it has no data in it.
        has_data: Whether it depends on the inputs of the network.
    """

    axes: tuple[Entries, ...]
    leaves: frozenset[str] = frozenset()
    has_data: bool = False


class Neurons:
    """All neurons of one program, and what the program does to them.

    Attributes:
        fixed: Entries whose place has a meaning, such as positions of a filter.
        lost: Entries that the program tells apart by their place, and by what.
        recoded: Axes that became other axes, such as the channels of a map in its flattening.
        marks: By neuron, what sets it apart from others: the uniform entries of a partly uniform
            axis that it met, or a sum it is a part of.
    """

    def __init__(self) -> None:
        self.fixed: list[Entries] = []
        self.lost: list[tuple[Entries, str]] = []
        self.recoded: list[tuple[tuple[Entries, ...], tuple[Entries, ...]]] = []
        self.marks: list[tuple[int, tuple[int, int]]] = []
        self._parents: list[int] = []
        self._blocks: dict[Hashable, int] = {}
        self._occasions = 0

    def new(self, size: int) -> Entries:
        """Returns an axis of new neurons."""
        first = len(self._parents)
        self._parents += range(first, first + size)
        return np.arange(first, first + size)

    def new_fixed(self, size: int) -> Entries:
        """Returns an axis of new entries whose place has a meaning."""
        entries = self.new(size)
        self.fixed.append(entries)
        return entries

    def block(self, key: Hashable) -> int:
        """Returns a number for uniform entries, the same for the same key."""
        return self._blocks.setdefault(key, UNIFORM - 1 - len(self._blocks))

    def in_block(self, entries: Entries, key: Hashable) -> Entries:
        """Returns entries that others will stand beside: the uniform ones get a number."""
        is_uniform = entries == UNIFORM
        return np.where(is_uniform, self.block(key), entries) if is_uniform.any() else entries

    def join(self, first: Entries, second: Entries) -> Entries:
        """Lets two axes of the same size meet, and returns the axis of the result."""
        if first is second or np.array_equal(first, second):
            return first
        self._occasions += 1
        pairs = zip(first.tolist(), second.tolist(), strict=True)
        return np.array([self._meet(a, b) for a, b in pairs], first.dtype)

    def consume(self, axis: Entries) -> None:
        """Notes that these entries and no others end in what follows, as in a sum over an axis."""
        self._occasions += 1
        self.marks += [(entry, (0, self._occasions)) for entry in axis.tolist() if entry >= 0]

    def lose(self, axes: Iterable[Entries], reason: str) -> None:
        """Notes that the program tells the entries of axes apart by their place."""
        self.lost += [(axis[axis >= 0], reason) for axis in axes if len(axis) > 1]

    def recode(self, axes: Iterable[Entries], sizes: Iterable[int], reason: str) -> list[Entries]:
        """Returns the axes that become of `axes` where the program arranges entries anew."""
        axes = tuple(axes)
        for axis in axes:
            self.consume(axis)
        old = tuple(axis[axis >= 0] for axis in axes if len(axis) > 1)
        new = [self.new(size) for size in sizes]
        self.lose([*old, *new], reason)
        self.recoded.append((old, tuple(new)))
        return new

    def root(self, neuron: int) -> int:
        """Returns the number that stands for all neurons that are the same."""
        parents = self._parents
        while parents[neuron] != neuron:
            parents[neuron] = parents[parents[neuron]]
            neuron = parents[neuron]
        return neuron

    def roots(self, entries: Entries) -> list[int]:
        """Returns `root` of all entries that are neurons."""
        return [self.root(entry) for entry in entries.tolist() if entry >= 0]

    def _meet(self, first: int, second: int) -> int:
        if first == second or second == UNIFORM:
            return first
        if first == UNIFORM:
            return second
        low, high = min(first, second), max(first, second)
        if high < 0:
            return self.block((low, high))
        if low < 0:
            self.marks.append((high, (low, self._occasions)))
            return high
        low, high = self.root(low), self.root(high)
        self._parents[max(low, high)] = min(low, high)
        return min(low, high)


def uniform(size: int) -> Entries:
    """Returns an axis along which an array does not change."""
    return np.full(size, UNIFORM)
