"""Data sets of operator learning: states at time 0, solutions at later times, boundary data."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray
from ml_collections import ConfigDict

from common.data import cache
from sciml.pdes.benchmarks import PdeSpec
from sciml.pdes.problems import PROBLEMS, check_spec
from sciml.pdes.solution import Ends, Solution, frame_times

PyTree = Any
PARTS = ("train", "valid", "test")
SHIFTED = "shift"


class DataSpec(NamedTuple):
    """A data set up to the last digit.

    Attributes:
        version: Raised when the generators change what they return.
        pde: The equation and the range of its samples.
        points: Grid points of every space axis, both ends included.
        final_time: Time of the last frame.
        stored: Equidistant frames from time 0 to the last.
        kept: How many of the last ones are learned; 1: the final state only.
        counts: Samples for training, validation, test.
        scales: Other resolutions of the test set, as factors of `points`.
        seed: Of the draw.
    """

    version: int
    pde: PdeSpec
    points: int
    final_time: float
    stored: int
    kept: int
    counts: tuple[int, int, int]
    scales: tuple[float, ...]
    seed: int


def data_spec(section: ConfigDict) -> DataSpec:
    """Returns the spec of `config.data`.

    Raises:
        ValueError: If a field is out of range.
    """
    pde = PdeSpec(**{name: section[name] for name in PdeSpec._fields})
    check_spec(pde)
    spec = DataSpec(
        version=1,
        pde=pde,
        points=section.points,
        final_time=section.final_time,
        stored=section.stored,
        kept=section.kept,
        counts=(section.num_train, section.num_valid, section.num_test),
        scales=tuple(section.scales),
        seed=section.seed,
    )
    if min(spec.counts) < 1:
        raise ValueError(
            f"config.data: num_train, num_valid, num_test={spec.counts}: expected >= 1"
        )
    if spec.points < 8:
        raise ValueError(f"config.data.points={spec.points}: expected at least 8")
    if any(scale <= 0 or scale * spec.points < 8 for scale in spec.scales):
        raise ValueError(
            f"config.data.scales={spec.scales}: expected factors > 0 that leave 8 points"
        )
    frame_times(spec.final_time, stored=spec.stored, kept=spec.kept)
    return spec


class ShiftSpec(NamedTuple):
    """Test samples of ranges of the random parameter that nothing was trained on.

    Attributes:
        version: Raised when `generate_shifted` changes what it returns.
        data: The data set; its numbers are the range of training.
        shifts: How far the range is moved, in units of its own width.
    """

    version: int
    data: DataSpec
    shifts: tuple[float, ...]


def shift_spec(spec: DataSpec, shifts: Sequence[float]) -> ShiftSpec:
    """Returns the spec of the moved test sets of a data set.

    Raises:
        ValueError: If there is no range, a shift is 0 or not finite, or it leaves where the
            problem is defined.
    """
    low, high = spec.pde.low, spec.pde.high
    if not low < high:
        raise ValueError(
            f"config.data.shifts={tuple(shifts)}: {spec.pde.name} has no range to move, expected "
            "config.data.low < config.data.high"
        )
    for shift in shifts:
        if shift == 0 or not math.isfinite(shift) or low + shift * (high - low) <= 0:
            raise ValueError(
                f"config.data.shifts={tuple(shifts)}: expected finite numbers, not 0, that leave "
                f"{low} + shift * {high - low:g} above 0"
            )
    if len(set(shifts)) < max(len(shifts), 1):
        raise ValueError(f"config.data.shifts={tuple(shifts)}: expected one or more, all different")
    return ShiftSpec(1, spec, tuple(shifts))


def load_shifted(spec: ShiftSpec) -> PyTree:
    """Returns the moved test sets behind one another, in the order of the shifts: one for all."""
    flat = cache.cached(spec, generate_shifted)
    return _part(flat, SHIFTED, PROBLEMS[spec.data.pde.name].space_axes)


def generate_shifted(spec: ShiftSpec) -> dict[str, np.ndarray]:
    """Makes the test samples of every shift; sample k is at the same place of every range."""
    data, parts = spec.data, []
    problem, (_, _, count) = PROBLEMS[data.pde.name], data.counts
    times = frame_times(data.final_time, stored=data.stored, kept=data.kept)
    solve = jax.jit(problem.solve, static_argnums=(1, 3))
    for shift in spec.shifts:
        step = shift * (data.pde.high - data.pde.low)
        moved = data.pde._replace(low=data.pde.low + step, high=data.pde.high + step)
        params = problem.sample(_stream(data, PARTS.index("test")), count, moved)
        parts.append(jax.device_get(solve(params, data.points, times, moved)))
    return _flat(jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts), SHIFTED)


def abstract_shifted(spec: ShiftSpec) -> PyTree:
    """Returns the shapes of `load_shifted` without solving anything."""
    of_one = abstract(spec.data)["test"]
    times = len(spec.shifts)
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((times * x.shape[0], *x.shape[1:]), x.dtype), of_one
    )


def shift_name(shift: float) -> str:
    """Returns the name of a shift: "shift+1", "shift-0.5"."""
    return f"{SHIFTED}{shift:+g}"


def load(spec: DataSpec) -> PyTree:
    """Returns {"train" | "valid" | "test": arrays, "scaled": {"x2": arrays}} from the cache.

    Arrays are {"initial": [n, *space], "frames": [n, *space, time], "boundary": tuple of Ends};
    "scaled" holds the test samples on other grids.
    """
    flat = cache.cached(spec, generate)
    names = [*PARTS, *(scale_name(scale) for scale in spec.scales)]
    parts = {name: _part(flat, name, PROBLEMS[spec.pde.name].space_axes) for name in names}
    scaled = {scale_name(scale): parts.pop(scale_name(scale)) for scale in spec.scales}
    return {**parts, "scaled": scaled}


def generate(spec: DataSpec) -> dict[str, np.ndarray]:
    """Makes a data set; every part has samples of its own."""
    problem = PROBLEMS[spec.pde.name]
    solve = jax.jit(problem.solve, static_argnums=(1, 3))
    times = frame_times(spec.final_time, stored=spec.stored, kept=spec.kept)
    flat = {}
    for stream, (name, count) in enumerate(zip(PARTS, spec.counts, strict=True)):
        params = problem.sample(_stream(spec, stream), count, spec.pde)
        grids = {name: spec.points}
        if name == "test":
            grids |= {scale_name(s): round(s * spec.points) for s in spec.scales}
        for label, points in grids.items():
            solution = solve(params, points, times, spec.pde)
            flat |= _flat(jax.device_get(solution), label)
    return flat


def abstract(spec: DataSpec) -> PyTree:
    """Returns the shapes of `load` without solving anything."""
    space_axes = PROBLEMS[spec.pde.name].space_axes

    def part(count: int, points: int) -> PyTree:
        def shape(*sides: int) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((count, *sides), jnp.float32)

        space, face = (points,) * space_axes, (points,) * (space_axes - 1)
        ends = _ends(shape(*face, spec.kept), shape(*face, spec.kept))
        return {
            "initial": shape(*space),
            "frames": shape(*space, spec.kept),
            "boundary": (ends,) * space_axes,
        }

    parts = {name: part(n, spec.points) for name, n in zip(PARTS, spec.counts, strict=True)}
    scaled = {scale_name(s): part(spec.counts[2], round(s * spec.points)) for s in spec.scales}
    return {**parts, "scaled": scaled}


def identity(spec: DataSpec) -> dict[str, Any]:
    """Returns what the data are made of."""
    return cache.identity(spec, generate)


def describe(spec: DataSpec) -> dict[str, Any]:
    """Returns what stands under a table: the equation, the grid and the checksum."""
    return {
        "pde": spec.pde.name,
        "points": spec.points,
        "samples": dict(zip(PARTS, spec.counts, strict=True)),
        "sha256": cache.describe(spec, generate)["sha256"],
    }


def scale_name(scale: float) -> str:
    """Returns the name of a resolution: "x2", "x0.5"."""
    return f"x{scale:g}"


def _stream(spec: DataSpec, stream: int) -> PRNGKeyArray:
    return jax.random.fold_in(jax.random.key(spec.seed), stream)


def _flat(solution: Solution, label: str) -> dict[str, np.ndarray]:
    flat = {f"{label}/initial": solution.initial, f"{label}/frames": solution.frames}
    for axis, ends in enumerate(solution.boundary):
        flat |= {f"{label}/low{axis}": ends.low, f"{label}/high{axis}": ends.high}
    return {name: np.asarray(array) for name, array in flat.items()}


def _part(flat: dict[str, np.ndarray], name: str, space_axes: int) -> PyTree:
    boundary = tuple(
        _ends(flat[f"{name}/low{axis}"], flat[f"{name}/high{axis}"]) for axis in range(space_axes)
    )
    return {
        "initial": flat[f"{name}/initial"],
        "frames": flat[f"{name}/frames"],
        "boundary": boundary,
    }


def _ends(low: Any, high: Any) -> Ends:
    """Returns Ends of host arrays or of shapes."""
    return Ends(low, high)
