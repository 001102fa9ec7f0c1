"""Networks in two parts: a first layer that is affine in its parameters, and the rest.

What such a layer gives at theta + sum_i c_i d_i is h + sum_i c_i h_i, exactly: a few arrays stand
for it at all points of a line or plane. That holds for dense layers and convolutions with biases,
and through batch normalization with frozen statistics while its scale is at rest.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from landscape.vectors import PyTree, dtype_of, moved

ROWS = 8  # that are looked at to tell whether a layer is affine


class AffineFirst(NamedTuple):
    """Values in two parts; takes the place of `values` in `surfaces.surface` and `values_at`.

    Points are then evaluated for one slice of `chunk` rows after the other: the first layer once
    for a slice, not for every point, and all points while the slice is in the processor's cache.

    Attributes:
        first: (params, rows) -> outputs of the first layer before its nonlinearity, arrays of
            floats. Where there is a model state, it is the third argument.
        rest: (params, outputs, rows) -> values, see `landscape.surfaces`; the model state is the
            fourth argument.
    """

    first: Callable[..., PyTree]
    rest: Callable[..., Any]

    def __call__(self, params: PyTree, rows: PyTree, *model_state: PyTree) -> Any:
        """Returns the values as both parts give them, one after the other."""
        outputs = self.first(params, rows, *model_state)
        return self.rest(params, outputs, rows, *model_state)


class AffineOutputs(NamedTuple):
    """Outputs of a first layer over a line or plane.

    Attributes:
        center: Where all coordinates are 0.
        slopes: What they change along every direction.
    """

    center: PyTree
    slopes: tuple[PyTree, ...]

    def at(self, point: Float[Array | np.ndarray, " directions"]) -> PyTree:
        """Returns the outputs at a point: h + sum_i c_i h_i."""

        def one(center: Array, *slopes: Array) -> Array:
            terms = (c * slope for c, slope in zip(point, slopes, strict=True))
            return sum(terms, start=center).astype(center.dtype)

        return jax.tree.map(one, self.center, *self.slopes)


def affine_outputs(
    first: Callable[..., PyTree], params: PyTree, directions: Sequence[PyTree], *arguments: PyTree
) -> AffineOutputs:
    """Returns the outputs of `first(params, *arguments)` over the plane of these directions. Pure.

    Parameters narrower than float32 are not rounded at every point, as those of the whole are.

    Raises:
        ValueError: If a direction is of another tree.
    """
    point = jnp.zeros(len(directions))
    at = lambda point: first(moved(params, directions, point), *arguments)
    center, along = jax.linearize(at, point)
    return AffineOutputs(center, tuple(map(along, jnp.eye(len(directions), dtype=point.dtype))))


def check_affine(
    function: AffineFirst,
    params: PyTree,
    directions: Sequence[PyTree],
    corner: Float[np.ndarray, " directions"],
    rows: PyTree,
    model_state: PyTree = None,
) -> None:
    """Checks that the first part is affine: at `corner`, for the first rows.

    Raises:
        ValueError: If it is not, up to half the digits of its numbers.
    """
    rows = jax.tree.map(lambda x: jnp.asarray(x[:ROWS]), rows)
    extra = () if model_state is None else (model_state,)
    both = _both(params, tuple(directions), jnp.asarray(corner), rows, extra, first=function.first)
    for found, wanted in zip(*map(jax.tree.leaves, both), strict=True):
        size, error = (float(jnp.max(jnp.abs(x))) for x in (wanted, found - wanted))
        if error > _coarsest((wanted, params)) ** 0.5 * size:
            raise ValueError(
                f"first is not affine in the parameters: at the coordinates {corner.tolist()} its "
                f"outputs of up to {size:.3g} are {error:.3g} off; nonlinearities, and scales that "
                "move together with the kernels before them, belong into rest"
            )


@functools.partial(jax.jit, static_argnames="first")
def _both(
    params: PyTree,
    directions: tuple[PyTree, ...],
    point: Array,
    rows: PyTree,
    extra: tuple[PyTree, ...],
    *,
    first: Callable[..., PyTree],
) -> tuple[PyTree, PyTree]:
    """Returns the outputs at a point from those over the plane, and by `first` itself."""
    found = affine_outputs(first, params, directions, rows, *extra).at(point)
    return found, first(moved(params, directions, point), rows, *extra)


def _coarsest(tree: PyTree) -> float:
    """Returns the largest relative rounding of the floats in a tree."""
    dtypes = [dtype_of(leaf) for leaf in jax.tree.leaves(tree)]
    return max(float(jnp.finfo(d).eps) for d in dtypes if jnp.issubdtype(d, jnp.floating))
