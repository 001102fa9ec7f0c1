"""Maps of curvature over a plane: both ends of the spectrum, and the curvature the plane shows."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from landscape import kept_parts
from landscape.curvature import ends_over
from landscape.grids import Surface, joined, points_of
from landscape.products import GaussNewton, Loss, Operator, averaged, placed
from landscape.vectors import PyTree, layout_of, moved, norm, to_vector

NAMES = ("smallest", "largest", "ratio", "certain", "plane_smallest", "plane_largest")


def curvature_map(
    loss: Loss | GaussNewton,
    params: PyTree,
    batches: Sequence[PyTree],
    directions: tuple[PyTree, PyTree],
    axes: Sequence[np.ndarray],
    *,
    key: PRNGKeyArray,
    frozen: str | None = None,
    tolerance: float = 1e-2,
    max_steps: int | None = None,
    sizes: Sequence[float] | None = None,
    keep: bool = False,
) -> Surface:
    """Returns the ends of the spectrum of the Hessian at every point of a plane.

    Source: Li et al. (2018), Sec. 6 and Fig. 7. Eigenvectors are handed on along lines of the grid.

    Args:
        loss: loss(params, batch), or a `GaussNewton`.
        params: theta.
        batches: A list of batches, see `products.averaged`.
        directions: The plane, with coordinates `axes`.
        axes: See `grids.axis`.
        key: Of the starting vectors.
        frozen: Regex of parameters that neither the Hessian nor the directions move.
        tolerance: Of `curvature.spectrum_ends`.
        max_steps: As well.
        sizes: Weights of the batches.
        keep: Keep every line of the grid in the cache, as `surfaces.surface` does.

    Returns:
        "smallest", "largest", "ratio" |lambda_min / lambda_max|, "certain" (1: sign of lambda_min),
        "plane_smallest" and "plane_largest": of the Hessian of the plane alone.

    Raises:
        ValueError: As `curvature.spectrum_ends`; if this is no plane, or it moves what is frozen.
    """
    if len(axes) != 2 or len(directions) != 2:
        raise ValueError(f"{len(axes)} axes, {len(directions)} directions: a plane has two of both")
    points, batches = points_of(axes), placed(list(batches))
    plane = _vectors(params, directions, frozen)
    options = dict(frozen=frozen, tolerance=tolerance, max_steps=max_steps, sizes=sizes)

    def evaluate(start: int, stop: int) -> dict[str, np.ndarray]:
        part, part_key = points[start:stop], jax.random.fold_in(key, start)
        ends = ends_over(loss, params, batches, directions, part, key=part_key, **options)
        here = (moved(params, directions, point) for point in part)
        each = (averaged(loss, p, batches, frozen=frozen, sizes=sizes) for p in here)
        bends = np.transpose([_bends(one, plane) for one in each])
        found = (ends.smallest, ends.largest, ends.ratio, ends.is_sign_certain, *bends)
        return {name: np.asarray(x, float) for name, x in zip(NAMES, found, strict=True)}

    bounds = [(i, i + len(axes[1])) for i in range(0, len(points), len(axes[1]))]
    if not keep:
        return joined(axes, [evaluate(start, stop) for start, stop in bounds])
    what = f"curvature map {type(loss).__name__} {options}"
    arrays = (params, directions, batches, points, jax.random.key_data(key), what)
    digest = kept_parts.digest([(_value(loss), (params, batches[0]), None)], arrays)
    return joined(axes, kept_parts.evaluate(digest, bounds, evaluate))


def _vectors(
    params: PyTree, directions: Sequence[PyTree], frozen: str | None
) -> list[Float[jax.Array, " n"]]:
    """Returns directions as vectors of the parameters that are not frozen."""
    layout = layout_of(params, frozen=frozen)
    vectors = [to_vector(layout, direction) for direction in directions]
    for place, (direction, vector) in enumerate(zip(directions, vectors, strict=True)):
        if not np.isclose(float(norm(direction)), np.linalg.norm(vector), rtol=1e-4):
            raise ValueError(f"directions[{place}] moves parameters that frozen={frozen!r} names")
    return vectors


def _bends(operator: Operator, plane: Sequence[Any]) -> Float[np.ndarray, " 2"]:
    """Returns the two eigenvalues of the Hessian of the loss over the plane, in its coordinates."""
    images = [np.asarray(operator.apply(vector), float) for vector in plane]
    matrix = np.array([[np.asarray(d, float) @ image for image in images] for d in plane])
    return np.linalg.eigvalsh((matrix + matrix.T) / 2)


def _value(loss: Loss | GaussNewton) -> Loss:
    return loss.value if isinstance(loss, GaussNewton) else loss
