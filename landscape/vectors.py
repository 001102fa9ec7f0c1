"""Parameter trees as vectors: which entries move, inner products, and steps along directions.

A *direction* is a tree of the shape of the parameters: floats (float32 where the parameters are
narrower), 0 where a parameter is frozen, and None in place of leaves that are no floats, such as
step counters, which never move.
"""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from common.precision import wide
from common.sharding import path_name

PyTree = Any
HIGHEST = jax.lax.Precision.HIGHEST  # inner products on a TPU are of bfloat16 otherwise


class Layout(NamedTuple):
    """Where every parameter lies in one vector; made of Python values, so static under `jit`.

    Attributes:
        structure: The tree.
        paths: Of all leaves, such as "params/dense_0/kernel".
        shapes: Of all leaves.
        dtypes: Of all leaves, by name.
        is_float: Whether a leaf has a direction at all.
        moves: Whether it does, and is not frozen: the vector holds these leaves only.
    """

    structure: Any
    paths: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]
    is_float: tuple[bool, ...]
    moves: tuple[bool, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of entries of every leaf in the vector."""
        moving = zip(self.shapes, self.moves, strict=True)
        return tuple(math.prod(shape) for shape, moves in moving if moves)

    @property
    def moving_paths(self) -> tuple[str, ...]:
        """The paths of the leaves in the vector."""
        return tuple(path for path, moves in zip(self.paths, self.moves, strict=True) if moves)

    @property
    def size(self) -> int:
        """The number of entries of the vector."""
        return sum(self.sizes)

    @property
    def dtype(self) -> Any:
        """The type of the vector: float32, or float64 if a parameter is."""
        moving = zip(self.dtypes, self.moves, strict=True)
        return jnp.result_type(*(wide(jnp.dtype(dtype)) for dtype, moves in moving if moves))


def layout_of(params: PyTree, *, frozen: str | None = None) -> Layout:
    """Returns the layout of a tree; leaves whose path matches the regex `frozen` do not move.

    Raises:
        ValueError: If nothing matches, nothing is left to move, or a leaf is complex.
    """
    found, structure = jax.tree_util.tree_flatten_with_path(params)
    paths = tuple(path_name("params", path) for path, _ in found)
    dtypes = tuple(dtype_of(leaf) for _, leaf in found)
    for path, dtype in zip(paths, dtypes, strict=True):
        if jnp.issubdtype(dtype, jnp.complexfloating):
            raise ValueError(f"{path} is {dtype}: expected real parameters; store two real leaves")
    is_float = tuple(bool(jnp.issubdtype(dtype, jnp.floating)) for dtype in dtypes)
    stays = matching(paths, frozen, field="frozen")
    moves = tuple(f and not s for f, s in zip(is_float, stays, strict=True))
    if not any(moves):
        raise ValueError(
            f"frozen={frozen!r} leaves no parameter to move; there are {named(paths)}"
            if any(is_float)
            else f"params have no leaf of floats; there are {named(paths)}"
        )
    shapes = tuple(tuple(jnp.shape(leaf)) for _, leaf in found)
    return Layout(structure, paths, shapes, tuple(map(str, dtypes)), is_float, moves)


def matching(paths: Sequence[str], pattern: str | None, *, field: str) -> tuple[bool, ...]:
    """Returns for every path whether the regex is found in it; none for None.

    Raises:
        ValueError: If it is no regular expression or matches nothing.
    """
    if pattern is None:
        return (False,) * len(paths)
    try:
        found = tuple(re.search(pattern, path) is not None for path in paths)
    except re.error as error:
        raise ValueError(f"{field}={pattern!r}: no regular expression: {error}") from error
    if not any(found):
        raise ValueError(f"{field}={pattern!r} matches no parameter; there are {named(paths)}")
    return found


def named(paths: Sequence[str]) -> str:
    """Returns the first paths, for a message of one line."""
    rest = f", ... ({len(paths)} in all)" if len(paths) > 6 else ""
    return ", ".join(paths[:6]) + rest


def dtype_of(leaf: Any) -> Any:
    """Returns the type that JAX has for an array or a Python number: float64 only if enabled."""
    dtype = leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
    return jax.dtypes.canonicalize_dtype(dtype) if jnp.issubdtype(dtype, jnp.floating) else dtype


def leaves_of(layout: Layout, tree: PyTree, *, name: str = "direction") -> list[Any]:
    """Returns one entry for every leaf of the layout; None where a direction has none.

    Raises:
        ValueError: If the tree is another one, or a leaf has another shape.
    """
    try:
        leaves = layout.structure.flatten_up_to(tree)
    except (ValueError, TypeError, KeyError) as error:
        first = str(error).partition("\n")[0]
        raise ValueError(f"{name} is of another tree than the parameters: {first}") from None
    for path, shape, leaf in zip(layout.paths, layout.shapes, leaves, strict=True):
        if leaf is None:
            continue
        got = shape_of(leaf)
        if got != shape:
            said = "a subtree" if got is None else f"shape {got}"
            raise ValueError(f"{name} has {said} at {path}; the parameter has shape {shape}")
    return leaves


def shape_of(leaf: Any) -> tuple[int, ...] | None:
    """Returns the shape of an array or number, None of a tree."""
    is_leaf = jax.tree.structure(leaf) == jax.tree.structure(0)
    return tuple(jnp.shape(leaf)) if is_leaf else None


def direction_of(layout: Layout, leaves: Iterable[Any]) -> PyTree:
    """Returns the direction with these leaves where parameters move, in turn; 0 where frozen."""
    given = iter(leaves)
    shape_of = zip(layout.shapes, layout.dtypes, layout.is_float, layout.moves, strict=True)
    full = []
    for shape, dtype, is_float, moves in shape_of:
        if moves:
            full.append(next(given))
        else:
            full.append(jnp.zeros(shape, wide(jnp.dtype(dtype))) if is_float else None)
    return layout.structure.unflatten(full)


def moving(layout: Layout, tree: PyTree, *, name: str = "params") -> list[Array]:
    """Returns the leaves that move, none narrower than float32; 0 where a direction has None."""
    leaves, chosen = leaves_of(layout, tree, name=name), []
    places = zip(layout.shapes, layout.dtypes, layout.moves, leaves, strict=True)
    for shape, dtype, moves, leaf in places:
        if moves:
            leaf = jnp.zeros(shape) if leaf is None else jnp.asarray(leaf)
            chosen.append(leaf.astype(wide(jnp.dtype(dtype))))
    return chosen


def with_moving(layout: Layout, params: PyTree, leaves: Sequence[Any]) -> PyTree:
    """Returns `params` with other values for the leaves that move."""
    given = iter(leaves)
    before = leaves_of(layout, params, name="params")
    full = [next(given) if moves else x for x, moves in zip(before, layout.moves, strict=True)]
    return layout.structure.unflatten(full)


def to_vector(layout: Layout, tree: PyTree, *, name: str = "direction") -> Float[Array, " n"]:
    """Returns the entries of a direction, or of parameters, that move."""
    leaves = moving(layout, tree, name=name)
    return jnp.concatenate([leaf.reshape(-1).astype(layout.dtype) for leaf in leaves])


def to_leaves(layout: Layout, vector: Float[Array, " n"]) -> list[Array]:
    """Returns the leaves that move, in the types of directions."""
    leaves, start = [], 0
    for shape, dtype, moves in zip(layout.shapes, layout.dtypes, layout.moves, strict=True):
        if moves:
            stop = start + math.prod(shape)
            leaves.append(vector[start:stop].reshape(shape).astype(wide(jnp.dtype(dtype))))
            start = stop
    return leaves


def to_direction(layout: Layout, vector: Float[Array, " n"]) -> PyTree:
    """Returns a vector as a direction."""
    return direction_of(layout, to_leaves(layout, vector))


def moved(
    params: PyTree, directions: Sequence[PyTree], coordinates: Sequence[Any] | Array | np.ndarray
) -> PyTree:
    """Returns theta + sum_i c_i d_i, every leaf in its own type: a point of a line or plane.

    Leaves that are no floats, or None in all directions, are handed on. All coordinates 0 give the
    parameters themselves.

    Raises:
        ValueError: If a direction is of another tree, or coordinates are not one a direction.
    """
    layout = layout_of(params)
    if len(directions) != len(coordinates):
        raise ValueError(
            f"{len(coordinates)} coordinates for {len(directions)} directions: expected as many"
        )
    parts = [leaves_of(layout, direction) for direction in directions]

    def one(leaf: Any, terms: Sequence[Any], is_float: bool) -> Any:
        if not is_float or all(term is None for term in terms):
            return leaf
        dtype = dtype_of(leaf)
        total = jnp.asarray(leaf).astype(wide(dtype))
        for c, term in zip(coordinates, terms, strict=True):
            total = total if term is None else total + c * term
        return total.astype(dtype)

    leaves = leaves_of(layout, params, name="params")
    columns = zip(*parts, strict=True) if parts else [()] * len(leaves)
    full = [one(*args) for args in zip(leaves, columns, layout.is_float, strict=True)]
    return layout.structure.unflatten(full)


def dot(first: PyTree, second: PyTree) -> Float[Array, ""]:
    """Returns the inner product of two directions, or of parameters without their integers.

    Raises:
        ValueError: If they are of different trees.
    """
    first, second = _floats(first), _floats(second)
    one, other = jax.tree.structure(first), jax.tree.structure(second)
    if one != other:
        raise ValueError(f"directions of different trees: {one} and {other}")
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return jnp.sum(jnp.stack([_vdot(x, y) for x, y in pairs]))


def norm(direction: PyTree) -> Float[Array, ""]:
    """Returns the Euclidean length of a direction."""
    return jnp.sqrt(dot(direction, direction))


def cosine(first: PyTree, second: PyTree) -> Float[Array, ""]:
    """Returns the cosine of the angle between two directions; 0 if one has no length.

    Two Gaussian directions of n entries have an expected |cosine| of about sqrt(2 / (pi n)).
    """
    lengths = norm(first) * norm(second)
    return jnp.where(lengths == 0, 0, dot(first, second) / jnp.where(lengths == 0, 1, lengths))


def _floats(tree: PyTree) -> PyTree:
    """Returns a tree with None in place of what is no float."""
    return jax.tree.map(lambda x: x if jnp.issubdtype(dtype_of(x), jnp.floating) else None, tree)


def _vdot(x: Any, y: Any) -> Array:
    x, y = jnp.asarray(x), jnp.asarray(y)
    return jnp.vdot(x.astype(wide(x.dtype)), y.astype(wide(y.dtype)), precision=HIGHEST)
