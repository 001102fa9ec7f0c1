"""Boundary conditions at the ends of grid axes, and fields that satisfy them exactly.

Fields are [*grid, batch, channel] on uniform grids that include both ends of every axis.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml.numbers import Numbers, floating

Kind = Literal["dirichlet", "neumann", "periodic"]
KINDS = ("dirichlet", "neumann", "periodic")
STENCIL_ORDERS = (1, 2, 3, 4)


class BoundaryCondition(NamedTuple):
    """What holds at the ends of one grid axis.

    Attributes:
        kind: Values are given (dirichlet), slopes along the axis (neumann), or both ends are equal.
        axis: Which grid axis.
        ends: Which ends are constrained: "both", "low" (first point) or "high" (last point).
        length: Length of the axis in the unit of its coordinate; slopes are per that unit.
        order: Order of accuracy of the one-sided differences (neumann), 1 to 4.
    """

    kind: Kind
    axis: int = 0
    ends: Literal["both", "low", "high"] = "both"
    length: float = 1.0
    order: int = 3


class FaceData(NamedTuple):
    """Boundary data of one axis: values or slopes at its first and its last point.

    An end without a condition may hold anything; periodic conditions read neither.
    """

    low: Float[Array, "*others batch c"]
    high: Float[Array, "*others batch c"]


# Conditions, one for each constrained grid axis, with their data.
Given = Sequence[tuple[BoundaryCondition, FaceData]]


def check_condition(condition: BoundaryCondition, grid: tuple[int, ...]) -> None:
    """Checks a condition against a grid.

    Raises:
        ValueError: Naming the field, the value and what is allowed.
    """
    points = grid[condition.axis] if 0 <= condition.axis < len(grid) else 0
    reach = condition.order + 1 if condition.kind == "neumann" else 1
    for ok, message in (
        (condition.kind in KINDS, f"kind={condition.kind!r}: expected one of {', '.join(KINDS)}"),
        (points > 0, f"axis={condition.axis}: a grid of {len(grid)} axes has no such axis"),
        (
            condition.ends in ("both", "low", "high"),
            f"ends={condition.ends!r}: expected both, low or high",
        ),
        (
            condition.kind != "periodic" or condition.ends == "both",
            f"ends={condition.ends!r}: a periodic condition ties both ends",
        ),
        (
            condition.order in STENCIL_ORDERS,
            f"order={condition.order}: stencils of order 1 to 4 are known",
        ),
        (
            math.isfinite(condition.length) and condition.length > 0,
            f"length={condition.length}: expected a finite length above 0",
        ),
        (
            points >= 2 * reach,
            f"a grid axis of {points} points: {condition.kind} conditions need {2 * reach}",
        ),
    ):
        if not ok:
            raise ValueError(f"boundary condition: {message}")


def check_face(data: FaceData, condition: BoundaryCondition, field_shape: tuple[int, ...]) -> None:
    """Checks that boundary data have the shape of the faces of a field.

    Raises:
        ValueError: Naming both shapes.
    """
    wanted = face_shape(condition.axis, field_shape)
    for name, values in zip(data._fields, data, strict=True):
        got = tuple(values.shape)
        if len(got) != len(wanted) or any(
            a not in (1, b) for a, b in zip(got, wanted, strict=True)
        ):
            raise ValueError(
                f"boundary data {name!r} of axis {condition.axis} have shape {got}, expected "
                f"{wanted} (or 1 along an axis)"
            )


def face_shape(axis: int, field_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape of the face of a field [*grid, batch, c] at one end of an axis."""
    return (*field_shape[:axis], *field_shape[axis + 1 :])


def axis_length(x: Float[np.ndarray, " points"] | Numbers) -> float:
    """Returns the length of a grid axis given by its coordinates, for `BoundaryCondition.length`.

    Raises:
        ValueError: If they are not equidistant and increasing; naming the spacings found.
    """
    x = np.asarray(x)
    x = x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(np.float64)
    gaps = np.diff(x.astype(np.float64))
    if gaps.size < 1 or gaps.min() <= 0 or uneven(gaps, x):
        low, high = (gaps.min(), gaps.max()) if gaps.size else (math.nan, math.nan)
        raise ValueError(
            f"grid of {np.size(x)} points with spacings from {low:.6g} to {high:.6g}: expected a "
            "uniform, increasing grid; interpolate the data to one"
        )
    return float(x[-1]) - float(x[0])


def uneven(gaps: Any, x: Any) -> Any:
    """Returns whether gaps [n - 1] of coordinates [n] differ by more than rounding errors of these.

    Those are a few units in the last place of the largest coordinate, at both ends of two gaps.
    """
    return gaps.max() - gaps.min() > 16 * float(jnp.finfo(x.dtype).eps) * abs(x).max()


def stencil(order: int) -> tuple[float, ...]:
    """Returns c_0 .. c_order with u'(x_0) = Σ c_j u(x_j) / h + O(h^order), forward from x_0.

    At the last point the same weights stand mirrored with the other sign. Exact on polynomials of
    degree `order`: the weights solve Σ_j c_j j^p = [p = 1].

    Source: one-sided finite differences; released notebooks of Saad et al. (2023): order 3.
    """
    powers = np.arange(order + 1)
    system = np.arange(order + 1.0)[None, :] ** powers[:, None]
    return tuple(np.linalg.solve(system, (powers == 1).astype(float)))


def slope_weights(condition: BoundaryCondition, points: int) -> tuple[float, ...]:
    """Returns the weights of `stencil` per unit of length, on an axis of `points` points."""
    spacing = condition.length / (points - 1)
    return tuple(c / spacing for c in stencil(condition.order))


def functionals(condition: BoundaryCondition, points: int) -> Float[np.ndarray, "2 points"]:
    """Returns the weights along the axis whose sums the condition prescribes, low end first.

    Dirichlet: the end value; neumann: the one-sided slope; periodic: the difference of the ends,
    in the row of the high end (the low end is free).
    """
    rows = np.zeros((2, points))
    if condition.kind == "neumann":
        weights = np.asarray(slope_weights(condition, points))
        rows[0, : weights.size] = weights
        rows[1, -weights.size :] = -weights[::-1]
    elif condition.kind == "periodic":
        rows[0, 0], rows[1, 0], rows[1, -1] = 1, -1, 1
    else:
        rows[0, 0] = rows[1, -1] = 1
    return rows


def apply_functionals(
    rows: Float[np.ndarray, "ends points"], field: Float[Array, "*grid batch c"], axis: int
) -> Float[Array, "ends *others batch c"]:
    """Returns weighted sums along an axis, reading only the points with a weight."""
    used, field = np.flatnonzero(np.any(rows != 0, axis=0)), floating(field)
    along = jnp.moveaxis(jnp.take(field, used, axis=axis), axis, 0)
    return jnp.tensordot(jnp.asarray(rows[:, used], field.dtype), along, axes=1)


def impose(
    field: Float[Array, "*grid batch c"] | Numbers, condition: BoundaryCondition, data: FaceData
) -> Float[Array, "*grid batch c"]:
    """Returns the field with its end values replaced, so that the condition holds.

    Dirichlet and periodic conditions then hold to the bit, neumann ones up to rounding: the end
    value is solved from the one-sided difference.

    Source: Saad et al. (2023), the operators T_1 of the refinement (periodic: both ends get their
    mean).
    """
    field = floating(field)
    low, high = _end_values(field, condition, data)
    points, axis = field.shape[condition.axis], condition.axis
    place = jax.lax.broadcasted_iota(jnp.int32, field.shape, axis)

    def put(field: Array, at: int, values: Array) -> Array:
        values = jnp.expand_dims(values, axis).astype(field.dtype)
        return jnp.where(place == at, jnp.broadcast_to(values, field.shape), field)

    if condition.ends != "high":
        field = put(field, 0, low)
    if condition.ends != "low":
        field = put(field, points - 1, high)
    return field


def impose_all(field: Float[Array, "*grid batch c"], given: Given) -> Float[Array, "*grid batch c"]:
    """Returns the field with the end values of all axes replaced, one after the other."""
    for condition, faces in given:
        field = impose(field, condition, faces)
    return field


def violation(
    field: Float[Array, "*grid batch c"] | Numbers, condition: BoundaryCondition, data: FaceData
) -> Float[Array, "ends *others batch c"]:
    """Returns by how much a field misses a condition: |u - α|, |slope - α| or |u_0 - u_N|.

    Source: Saad et al. (2023), the boundary error.

    Ends without a condition give 0.
    """
    field = floating(field)
    rows = functionals(condition, field.shape[condition.axis])
    found = apply_functionals(rows, field, condition.axis)
    if condition.kind == "periodic":
        return jnp.abs(found.at[0].set(0))
    low, high = (jnp.broadcast_to(x, found.shape[1:]) for x in data)
    misses = jnp.abs(found - jnp.stack([low, high]))
    return misses * _is_constrained(condition, misses.dtype).reshape(2, *(1,) * (misses.ndim - 1))


def constrained_ends(condition: BoundaryCondition) -> tuple[bool, bool]:
    """Returns whether the low and the high end have a condition."""
    return condition.ends != "high", condition.ends != "low"


def _is_constrained(condition: BoundaryCondition, dtype: Any) -> Array:
    return jnp.asarray(constrained_ends(condition), dtype)


def _end_values(field: Array, condition: BoundaryCondition, data: FaceData) -> tuple[Array, Array]:
    axis, points = condition.axis, field.shape[condition.axis]

    def row(at: int) -> Array:
        return jax.lax.index_in_dim(field, at, axis, keepdims=False)

    if condition.kind == "periodic":
        mean = (row(0) + row(points - 1)) / 2
        return mean, mean
    if condition.kind == "dirichlet":
        return data.low, data.high
    first, *rest = slope_weights(condition, points)
    low = data.low / first - sum((c / first) * row(j + 1) for j, c in enumerate(rest))
    high = -data.high / first - sum((c / first) * row(points - 2 - j) for j, c in enumerate(rest))
    return low, high
