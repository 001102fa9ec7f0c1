"""Networks with an axis of several groups: their weight space has tensors cut into pieces.

A zero-padded shortcut adds 16 channels to some of the next 32: these 16 move with those before,
the other 16 among themselves. So every tensor with this axis is two tensors of the weight space.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from nfn.weights import Params, TensorSpec, WeightSpace, leaves_of, nested, weight_space

AxisParts = str | None | Sequence[tuple[str | None, int]]
Place = tuple[str | None, int]  # a group, None if fixed, and the number of a neuron in it


class Tensor(NamedTuple):
    """One parameter tensor whose axes may have several groups.

    Attributes:
        path: Its path among the parameters.
        shape: Its shape, in any order of axes.
        axes: For every axis the group acting on it, None, or the groups of its consecutive parts
            with their sizes: (("new", 8), ("old", 16), ("new", 8)).
    """

    path: str
    shape: tuple[int, ...]
    axes: tuple[AxisParts, ...]


class Piece(NamedTuple):
    """The entries of a tensor of the network that are one tensor of the weight space."""

    path: str
    source: str
    entries: tuple[tuple[int, ...], ...]


class SplitSpace(NamedTuple):
    """A weight space and where its tensors are in those of the network; hashable."""

    space: WeightSpace
    pieces: tuple[Piece, ...]
    shapes: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def is_whole(self) -> bool:
        """Whether the tensors of the space are those of the network."""
        return all(piece.path == piece.source for piece in self.pieces)


def split_space(tensors: Iterable[Tensor]) -> SplitSpace:
    """Returns the weight space of tensors whose axes may have several groups.

    Neurons of a group are numbered as they come along an axis, over all parts of the axis that
    the group has.

    Raises:
        ValueError: If parts do not add up to their axis, or a group has axes of different sizes.
    """
    return split_by_places(
        (t.path, t.shape, [_places(t, i) for i in range(len(t.shape))]) for t in tensors
    )


def split_by_places(
    tensors: Iterable[tuple[str, tuple[int, ...], Sequence[Sequence[Place]]]],
) -> SplitSpace:
    """As `split_space`, given path, shape and, for every axis, every entry's group and number."""
    specs, pieces, shapes = [], [], []
    for path, shape, axes in tensors:
        shapes.append((path, shape))
        parts = [_parts(places) for places in axes]
        is_whole = all(
            [entries for _, entries in part] == [tuple(range(size))]
            for part, size in zip(parts, shape, strict=True)
        )
        for chosen in itertools.product(*map(range, map(len, parts))):
            picked = [part[i] for part, i in zip(parts, chosen, strict=True)]
            groups = tuple(group for group, _ in picked)
            entries = tuple(entries for _, entries in picked)
            name = path if is_whole else f"{path}/{'_'.join(['part', *map(str, chosen)])}"
            specs.append(TensorSpec(name, tuple(map(len, entries)), groups))
            pieces.append(Piece(name, path, entries))
    return SplitSpace(weight_space(specs), tuple(pieces), tuple(shapes))


def split_params(split: SplitSpace, params: Params) -> dict[str, Any]:
    """Returns the parameters [*batch, *shape] of a network as those of `split.space`.

    Raises:
        ValueError: If tensors are missing, unknown or of another shape; the message names one.
    """
    leaves = leaves_of(params)
    shapes = dict(split.shapes)
    for path in leaves.keys() ^ shapes.keys():
        where = "the weight space" if path in leaves else "the parameters"
        raise ValueError(f"{path}: missing in {where}")
    for path, shape in shapes.items():
        found = np.shape(leaves[path])
        if found[len(found) - len(shape) :] != shape:
            raise ValueError(f"{path}: shape {found}, expected [*batch, *{shape}]")
    return nested(
        {
            piece.path: leaves[piece.source]
            if piece.path == piece.source
            else jnp.asarray(leaves[piece.source])[(..., *np.ix_(*piece.entries))]
            for piece in split.pieces
        }
    )


def join_params(split: SplitSpace, params: Params) -> dict[str, Any]:
    """Inverts `split_params`; the result has nested dicts by path."""
    leaves, joined = leaves_of(params), {}
    shapes = dict(split.shapes)
    for piece in split.pieces:
        if piece.path == piece.source:
            joined[piece.source] = leaves[piece.path]
            continue
        part, shape = jnp.asarray(leaves[piece.path]), shapes[piece.source]
        if piece.source not in joined:
            batch = part.shape[: part.ndim - len(shape)]
            joined[piece.source] = jnp.zeros((*batch, *shape), part.dtype)
        place = (..., *np.ix_(*piece.entries))
        joined[piece.source] = joined[piece.source].at[place].set(part)
    return nested(joined)


def _places(tensor: Tensor, axis: int) -> list[Place]:
    """Returns group and number of every entry of one axis."""
    if len(tensor.axes) != len(tensor.shape):
        raise ValueError(
            f"{tensor.path}: shape {tensor.shape} has {len(tensor.shape)} axes, but groups are "
            f"given for {len(tensor.axes)}: {tensor.axes}"
        )
    parts, size = tensor.axes[axis], tensor.shape[axis]
    if parts is None or isinstance(parts, str):
        parts = ((parts, size),)
    if sum(length for _, length in parts) != size:
        raise ValueError(
            f"{tensor.path}: parts {tuple(parts)} do not add up to axis {axis} of size {size}"
        )
    counters: dict[str | None, itertools.count[int]] = {}
    return [
        (group, next(counters.setdefault(group, itertools.count())))
        for group, length in parts
        for _ in range(length)
    ]


def _parts(places: Sequence[Place]) -> list[tuple[str | None, tuple[int, ...]]]:
    """Returns the groups of an axis and their entries, in the order of their neurons."""
    found: dict[str | None, list[tuple[int, int]]] = {}
    for entry, (group, number) in enumerate(places):
        found.setdefault(group, []).append((number, entry))
    return [(group, tuple(entry for _, entry in sorted(found[group]))) for group in found]
