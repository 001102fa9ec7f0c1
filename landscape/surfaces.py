"""Surfaces: loss, accuracy or any other number over lines and planes in parameter space.

What is measured is `values(params, rows)`: a dict of arrays with one number for each row of the
data, or of means over the rows; a lone array or number is the "loss". `values_at` is pure: params,
directions and data are arguments, and it may stand in a larger program. `surface` evaluates a grid
of any size from Python, with checks, a time estimate, and in parts that are kept if asked.
"""

import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import Mesh
from jaxtyping import Array, Float

from common import sharding
from common.errors import NumericalError
from common.evaluation import sums_over
from common.progress import duration, logged_progress
from landscape import kept_parts
from landscape.first_layer import AffineFirst, affine_outputs, check_affine
from landscape.grids import Surface, joined, points_of
from landscape.variances import check_variances
from landscape.vectors import PyTree, layout_of, leaves_of, moved

# (params, rows) -> values; (params, rows, model_state) -> values where there is a `model_state`.
Values: TypeAlias = Callable[..., Any]
# (params, batch, model_state) -> the model state that these rows give at these params.
Statistics: TypeAlias = Callable[[PyTree, PyTree, PyTree], PyTree]
AXIS = "data"  # of the mesh, over which points are split
PART = 64  # points that a killed process loses, or one for every device if there are more


class NotFiniteError(NumericalError, ValueError):
    """A value is not finite where everything else is compared with it: at the center."""


def values_at(
    values: Values,
    params: PyTree,
    directions: Sequence[PyTree],
    points: Float[Array | np.ndarray, "points directions"],
    rows: PyTree,
    *,
    model_state: PyTree = None,
    statistics: Statistics | None = None,
    batch: PyTree = None,
    chunk: int | None = None,
    at_once: int = 1,
) -> dict[str, Float[Array, " points"]]:
    """Returns the mean over all rows of every value, at the points theta + sum_i c_i d_i.

    Source: Li et al. (2018), Sec. 2.2; f(a, b) = L(theta + a d + b e). Points are split over the
    axis "data" of the mesh under which this is traced, and evaluated one after another, which
    gives the same numbers for any `chunk`, `at_once` and number of devices, up to rounding.

    Args:
        values: What is measured, see the module; or a `first_layer.AffineFirst`.
        params: theta. Statistics that are to move along with it are a part of this tree.
        directions: One tree for every coordinate, see `landscape.vectors`.
        points: Coordinates; a point with a NaN is not evaluated, its values are NaN.
        rows: The data: arrays with the same leading axis.
        model_state: Third argument of `values`, the same at all points: statistics of batch
            normalization, frozen.
        statistics: Computes `model_state` anew at every point: statistics that follow the weights.
        batch: The rows `statistics` gets, all as one batch; None: all rows.
        chunk: Rows in memory at a time; None: all. On a CPU 20 to 100 images stay in its cache.
        at_once: Points evaluated together, by `vmap`: faster for small dense layers, slower for
            convolutions on a CPU, which then have groups.

    Returns:
        Means; infinity where one is no number.

    Raises:
        ValueError: If directions are of another tree or not one a coordinate, `values` gives means
            where the last slice of `chunk` rows is not full, or `AffineFirst` has `statistics`.
    """
    if at_once < 1:
        raise ValueError(f"at_once={at_once}: expected at least 1 point")
    points = jnp.asarray(points)
    if points.shape[1] != len(directions):
        raise ValueError(f"points of {points.shape[1]} coordinates, {len(directions)} directions")
    batch = rows if batch is None else batch
    arrays = _Arrays(params, tuple(directions), rows, model_state, batch)
    count, devices = points.shape[0], _devices()
    width = devices * at_once
    filled = jnp.pad(points, ((0, -count % width), (0, 0)), constant_values=jnp.nan)
    # Neighbours go to different devices: points that are not asked for cost nothing on any.
    blocks = filled.reshape(-1, devices, at_once, points.shape[1]).swapaxes(0, 1)

    of_device = functools.partial(_of_device, values, statistics, chunk)
    if devices > 1:
        specs = {"in_specs": (jax.P(AXIS), jax.P()), "out_specs": jax.P(AXIS)}
        of_device = jax.shard_map(of_device, **specs, check_vma=False)
    found = of_device(blocks, arrays)
    return {name: value.swapaxes(0, 1).reshape(-1)[:count] for name, value in found.items()}


def surface(
    values: Values,
    params: PyTree,
    directions: Sequence[PyTree],
    axes: Sequence[np.ndarray],
    rows: PyTree,
    *,
    model_state: PyTree = None,
    statistics: Statistics | None = None,
    batch: PyTree = None,
    chunk: int | None = None,
    at_once: int = 1,
    part: int | None = None,
    keep: bool = False,
    mesh: Mesh | None = None,
) -> Surface:
    """Returns the values over a whole grid; arguments as in `values_at`.

    The first thing evaluated is the center, all coordinates 0; how long the rest takes is logged
    before it begins. All processes of a pod call this alike, and all get the whole surface.

    Args:
        values: And what follows, as in `values_at`.
        params: theta.
        directions: One for every axis.
        axes: Coordinates along every direction, see `grids.axis`.
        rows: The data.
        model_state: And what follows, as in `values_at`.
        statistics: See there.
        batch: See there.
        chunk: See there.
        at_once: See there.
        part: Points evaluated by one call, and kept together; None: `PART`, and at least one for
            every device, `at_once` of them.
        keep: Keep every part in the cache (`common.data.cache`). A surface that was killed, or is
            asked for again, goes on from there, bit for bit; processes that are runs of their own
            share the work.
        mesh: The devices; None: all.

    Raises:
        ValueError: Also if a value is not finite at the center, a running variance is not positive
            there, or the first part of an `AffineFirst` is not affine.
    """
    points = points_of(axes)
    mesh = mesh or sharding.make_mesh({AXIS: -1})
    part = max(PART, mesh.shape.get(AXIS, 1) * at_once) if part is None else part
    arrays = _Arrays(params, tuple(directions), rows, model_state, batch)
    _check(values, arrays, axes, part)
    how = {"values": values, "statistics": statistics, "chunk": chunk, "at_once": at_once}
    evaluate = _evaluator(how, arrays, points, min(part, len(points)), mesh)
    bounds = [(i, min(i + part, len(points))) for i in range(0, len(points), part)]
    if keep:
        functions = [(values, (params, rows), model_state)]
        functions += [(statistics, (params, rows if batch is None else batch), model_state)]
        digest = kept_parts.digest(functions, (arrays, points))
        parts = kept_parts.evaluate(digest, bounds, evaluate)
    else:
        parts = [evaluate(start, stop) for start, stop in bounds]
    return joined(axes, parts)


class _Arrays(NamedTuple):
    """The arguments of `values_at` that are arrays, and lie whole on every device."""

    params: PyTree
    directions: tuple[PyTree, ...]
    rows: PyTree
    model_state: PyTree
    batch: PyTree


@functools.partial(jax.jit, static_argnames=("values", "statistics", "chunk", "at_once"))
def _compiled(arrays: _Arrays, points: Array, *, values: Values, **how: Any) -> dict[str, Array]:
    params, directions, rows, model_state, batch = arrays
    state = {"model_state": model_state, "batch": batch}
    found = values_at(values, params, directions, points, rows, **state, **how)
    return jax.lax.with_sharding_constraint(found, jax.P())  # whole in every process


def _evaluator(
    how: dict[str, Any], arrays: _Arrays, points: np.ndarray, size: int, mesh: Mesh
) -> Callable[[int, int], dict[str, np.ndarray]]:
    """Returns (start, stop) -> values of these points; the first call checks and says how long."""
    report: list[Callable[[int, int], None]] = []
    done, placed = 0, []

    def call(chosen: np.ndarray) -> dict[str, np.ndarray]:
        filled = np.full((size, points.shape[1]), np.nan)
        filled[: len(chosen)] = chosen
        with jax.set_mesh(mesh):
            found = _compiled(placed[0], filled, **how)
        return {name: np.asarray(value)[: len(chosen)] for name, value in found.items()}

    def begin() -> None:
        whole = sharding.replicated(mesh)
        placed.append(sharding.place(arrays, jax.tree.map(lambda _: whole, arrays)))
        width = min(size, mesh.shape.get(AXIS, 1) * how["at_once"])
        center = np.zeros((width, points.shape[1]))
        _check_center(call(center))
        nothing, one = _seconds(lambda: call(center * np.nan)), _seconds(lambda: call(center))
        calls, steps = math.ceil(len(points) / size), math.ceil(len(points) / width)
        seconds = calls * nothing + steps * max(one - nothing, 0.0)
        logging.info("surface of %d points: about %s", len(points), duration(seconds))
        report.append(logged_progress("points of a surface"))

    def evaluate(start: int, stop: int) -> dict[str, np.ndarray]:
        nonlocal done
        if not report:
            begin()
        found, done = call(points[start:stop]), done + stop - start
        report[0](done, len(points))
        return found

    return evaluate


def _check(values: Values, arrays: _Arrays, axes: Sequence[np.ndarray], part: int) -> None:
    """Checks what `surface` is asked for, before anything large is compiled."""
    params, directions, rows, model_state, _ = arrays
    layout = layout_of(params)
    for place, direction in enumerate(directions):
        leaves_of(layout, direction, name=f"directions[{place}]")
    if len(axes) != len(directions) or part < 1:
        raise ValueError(
            f"{len(axes)} axes for {len(directions)} directions, part={part}: expected an axis "
            "for every direction and parts of at least 1 point"
        )
    check_variances(params, directions, axes)
    check_variances(model_state)
    if isinstance(values, AffineFirst):
        corner = np.array([max(coordinates, key=abs) for coordinates in axes], float)
        check_affine(values, params, directions, corner, rows, model_state)


def _seconds(function: Callable[[], Any]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def _check_center(values: dict[str, np.ndarray]) -> None:
    """Checks that there is a finite value where all coordinates are 0.

    Raises:
        NotFiniteError: Naming the first that is not.
    """
    for name, value in values.items():
        if not np.isfinite(value[0]):
            raise NotFiniteError(
                f"{name} is not finite at the center, where all coordinates are 0: the parameters, "
                "the model state or the data have numbers that are not finite, or are too large"
            )


def _devices() -> int:
    """Returns over how many devices points are split where this is traced."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if AXIS in mesh.manual_axes else mesh.shape.get(AXIS, 1)


def _of_device(
    values: Values,
    statistics: Statistics | None,
    chunk: int | None,
    blocks: Float[Array, "1 blocks at_once directions"],
    arrays: _Arrays,
) -> dict[str, Float[Array, "1 blocks at_once"]]:
    """Returns the values of the points of one device, a block after another."""
    if isinstance(values, AffineFirst):
        if statistics is not None:
            raise ValueError("statistics that follow the weights: no first layer is affine then")
        found = _slice_by_slice(values, chunk, blocks[0], arrays)
    else:
        at = functools.partial(_means, values, statistics, chunk, arrays)
        found = jax.lax.map(functools.partial(_of_block, at), blocks[0])
    return jax.tree.map(lambda x: x[None], found)


def _slice_by_slice(
    values: AffineFirst,
    chunk: int | None,
    blocks: Float[Array, "blocks at_once directions"],
    arrays: _Arrays,
) -> dict[str, Float[Array, "blocks at_once"]]:
    """Returns the values of all points for a slice of rows, and the next, as `AffineFirst` says."""
    params, directions, rows, model_state, _ = arrays
    extra, count = () if model_state is None else (model_state,), _num_rows(rows)
    if not count:
        raise ValueError("rows is empty: there is no mean over no rows")
    size = min(chunk or count, count)
    index = jnp.arange(-(-count // size) * size).reshape(-1, size)

    def of_slice(index: Array) -> dict[str, Array]:
        part = jax.tree.map(lambda x: x[jnp.minimum(index, count - 1)], rows)
        outputs = affine_outputs(values.first, params, directions, part, *extra)

        def at(point: Float[Array, " directions"]) -> dict[str, Array]:
            here = moved(params, directions, point)
            found = _by_name(values.rest(here, outputs.at(point), part, *extra), size, count)
            return {k: jnp.sum(jnp.where(index < count, x, 0)) / count for k, x in found.items()}

        return jax.lax.map(functools.partial(_of_block, at), blocks)

    return jax.tree.map(lambda x: jnp.sum(x, axis=0), jax.lax.map(of_slice, index))


def _of_block(
    at: Callable[[Array], dict[str, Array]], points: Float[Array, "at_once directions"]
) -> dict[str, Array]:
    """Returns the values of points that are evaluated together; nothing is if all have NaNs."""
    asked = ~jnp.isnan(points).any(axis=1)

    def found(points: Array) -> dict[str, Array]:
        if len(points) == 1:
            values = {name: value[None] for name, value in at(points[0]).items()}
        else:
            values = jax.vmap(at)(points)
        finite = {name: jnp.where(jnp.isnan(x), jnp.inf, x) for name, x in values.items()}
        return {name: jnp.where(asked, value, jnp.nan) for name, value in finite.items()}

    def nothing(points: Array) -> dict[str, Array]:
        shapes = jax.eval_shape(found, points)
        return {name: jnp.full(x.shape, jnp.nan, x.dtype) for name, x in shapes.items()}

    return jax.lax.cond(asked.any(), found, nothing, points)


def _means(
    values: Values,
    statistics: Statistics | None,
    chunk: int | None,
    arrays: _Arrays,
    point: Float[Array, " directions"],
) -> dict[str, Float[Array, ""]]:
    """Returns the means over all rows at one point."""
    params, directions, rows, model_state, batch = arrays
    here = moved(params, directions, point)
    if statistics is not None:
        model_state = statistics(here, batch, model_state)
    extra = () if model_state is None else (model_state,)
    count = _num_rows(rows)

    def of_slice(part: PyTree) -> dict[str, Array]:
        size = jnp.shape(jax.tree.leaves(part)[0])[0]
        return _by_name(values(here, part, *extra), size, count)

    sums = sums_over(of_slice, rows, chunk=chunk or max(count, 1))
    return {name: total / number for name, (total, number) in sums.items()}


def _num_rows(rows: PyTree) -> int:
    return jnp.shape(jax.tree.leaves(rows)[0])[0] if jax.tree.leaves(rows) else 0


def _by_name(found: Any, size: int, count: int) -> dict[str, Array]:
    """Returns one number for each of `size` rows of `count` in all, for every value."""
    named = found if isinstance(found, dict) else {"loss": found}
    return {name: _per_row(name, value, size, count) for name, value in named.items()}


def _per_row(name: str, value: Any, size: int, count: int) -> Array:
    """Returns one number for each of `size` rows, also of a mean over them."""
    value = jnp.asarray(value)
    if value.ndim:
        return value
    if count % size:
        raise ValueError(
            f"{name} is a mean over the rows, and the last of the slices of chunk={size} rows is "
            f"not full, {count} rows in all: return one number a row, or choose a divisor"
        )
    return jnp.broadcast_to(value, size)
