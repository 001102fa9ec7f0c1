"""Functions to learn from: solutions of conservation laws at random contexts and targets.

Training functions are drawn where they are needed, inside the compiled step: number `index` of a
stream is a pure function of seed and index, so a fixed data set has no arrays and no file.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from ml_collections import ConfigDict

from common.data import cache
from sciml.pdes.conservation import LAWS, check_law
from sciml.probconserv.anp import AnpBatch, Observations
from sciml.probconserv.updates import cell_edges

PyTree = Any
TRAIN, VALID, TEST = 0, 1, 2  # streams of random numbers


class DataSpec(NamedTuple):
    """Which functions, and where they are known.

    Attributes:
        name: A law of `sciml.pdes.conservation.LAWS`.
        train_range: Of the parameter in training, drawn uniformly.
        test_params: Parameters of the tests.
        counts: Functions for training, validation, and test of each parameter.
        context_grid: Times and places of the contexts, all pairs.
        target_grid: Those of the targets in training.
        points: Equidistant places of a test slice, both ends included.
        cells: Of a test slice, see `UpdateSpec`.
        seed: Of the draws.
        version: Raised when the functions become others.
    """

    name: str
    train_range: tuple[float, float]
    test_params: tuple[float, ...]
    counts: tuple[int, int, int]
    context_grid: tuple[int, int]
    target_grid: tuple[int, int]
    points: int
    cells: int
    seed: int
    version: int = 1


def data_spec(section: ConfigDict, cells: int) -> DataSpec:
    """Returns the spec of `config.data`.

    Raises:
        ValueError: If a field is out of range.
    """
    spec = DataSpec(
        name=section.name,
        train_range=tuple(section.train_range),
        test_params=tuple(section.test_params),
        counts=(section.num_train, section.num_valid, section.num_test),
        context_grid=tuple(section.context_grid),
        target_grid=tuple(section.target_grid),
        points=section.points,
        cells=cells,
        seed=section.seed,
    )
    check_law(spec.name, (*spec.train_range, *spec.test_params))
    low, high = spec.train_range
    for name, value, ok, allowed in (
        ("train_range", spec.train_range, low <= high, "low <= high"),
        ("test_params", spec.test_params, len(spec.test_params) > 0, "at least one"),
        ("num_train, num_valid, num_test", spec.counts, min(spec.counts) >= 1, ">= 1"),
        ("context_grid", spec.context_grid, min(spec.context_grid) >= 1, ">= 1"),
        ("target_grid", spec.target_grid, min(spec.target_grid) >= 1, ">= 1"),
        ("points", spec.points, spec.points >= 5, "at least 5"),
    ):
        if not ok:
            raise ValueError(f"config.data: {name}={value}: expected {allowed}")
    return spec


class Slices(NamedTuple):
    """Contexts of test functions, and the slice at one time that is asked for."""

    contexts: Observations
    targets: Observations
    mass: Float[Array, " batch"]
    cell_masses: Float[Array, "batch cells"]
    front: Float[Array, " batch"]


def functions(
    index: Int[Array, " batch"], *, spec: DataSpec, stream: int
) -> tuple[Float[Array, " batch"], AnpBatch]:
    """Returns parameters and functions of these numbers: contexts and targets with their values.

    Source: Hansen et al. (2023), the released code. Context times are one uniform draw in each of
    equal intervals, all other coordinates uniform.
    """
    keys = _keys(index, spec, stream)

    def one(key: PRNGKeyArray) -> tuple[Array, Array, Array]:
        key_param, key_context, key_target = jax.random.split(key, 3)
        low, high = spec.train_range
        param = jax.random.uniform(key_param, (), minval=low, maxval=high)
        contexts = _random_grid(key_context, spec.context_grid, spec, is_stratified=True)
        targets = _random_grid(key_target, spec.target_grid, spec, is_stratified=False)
        return param, contexts, targets

    param, contexts, targets = jax.vmap(one)(keys)
    return param, AnpBatch(
        contexts=observed(spec, param, contexts), targets=observed(spec, param, targets)
    )


def slices_at(param: float, time: float, *, spec: DataSpec) -> Slices:
    """Returns test functions of one parameter at one time; only their contexts differ."""
    law, count = LAWS[spec.name], spec.counts[2]
    keys = _keys(jnp.arange(count), spec, TEST)
    contexts = jax.vmap(lambda k: _random_grid(k, spec.context_grid, spec, is_stratified=True))(
        keys
    )
    x = jnp.linspace(*law.domain, spec.points)
    targets = jnp.stack([jnp.full_like(x, time), x], axis=-1)
    targets = jnp.broadcast_to(targets, (count, *targets.shape))
    params = jnp.full(count, param)
    t = jnp.full((count, 1), time)
    edges = x[np.asarray(cell_edges(spec.points, spec.cells))]
    windows = law.window_mass(
        params,
        jnp.full((count, edges.size), time),
        jnp.broadcast_to(edges, (count, edges.size)),
    )
    front = t if law.front is None else jnp.clip(law.front(params, t), *law.domain)
    return Slices(
        contexts=observed(spec, params, contexts),
        targets=observed(spec, params, targets),
        mass=law.mass(params, t)[:, 0],
        cell_masses=jnp.diff(windows, axis=1),
        front=front[:, 0],
    )


def observed(
    spec: DataSpec, param: Float[Array, " batch"], points: Float[Array, "batch n 2"]
) -> Observations:
    """Returns points (t, x) with the exact solution there."""
    return Observations(points, LAWS[spec.name].solution(param, points[..., 0], points[..., 1]))


def load(spec: DataSpec) -> PyTree:
    """Returns {"valid": AnpBatch, "test": Slices}: those of all parameters in turn, report time."""
    return jax.device_get(jax.jit(lambda: _evaluated(spec))())


def identity(spec: DataSpec) -> dict[str, Any]:
    """Returns what the functions are drawn from, those of training included."""
    return cache.identity(spec, load)


def abstract(spec: DataSpec) -> PyTree:
    """Returns the shapes of `load`."""
    return jax.eval_shape(lambda: _evaluated(spec))


def label(spec: DataSpec, param: float) -> str:
    """Returns the name of a test parameter: "m=1"."""
    return f"{LAWS[spec.name].parameter}={param:g}"


def _evaluated(spec: DataSpec) -> PyTree:
    time = LAWS[spec.name].report_time
    _, valid = functions(jnp.arange(spec.counts[1]), spec=spec, stream=VALID)
    tests = [slices_at(param, time, spec=spec) for param in spec.test_params]
    return {"valid": valid, "test": jax.tree.map(lambda *parts: jnp.concatenate(parts), *tests)}


def _keys(index: Int[Array, " batch"], spec: DataSpec, stream: int) -> Array:
    root = jax.random.fold_in(jax.random.key(spec.seed), stream)
    return jax.vmap(jax.random.fold_in, (None, 0))(root, index)


def _random_grid(
    key: PRNGKeyArray, sizes: tuple[int, int], spec: DataSpec, *, is_stratified: bool
) -> Float[Array, "n 2"]:
    """Returns all pairs (t, x) of random times and random places."""
    law = LAWS[spec.name]
    key_t, key_x = jax.random.split(key)
    times, places = sizes
    share = jax.random.uniform(key_t, (times,))
    if is_stratified:
        share = (jnp.arange(times) + share) / times
    low, high = law.domain
    x = jax.random.uniform(key_x, (places,), minval=low, maxval=high)
    pairs = jnp.meshgrid(share * law.final_time, x, indexing="ij")
    return jnp.stack([axis.reshape(-1) for axis in pairs], axis=-1)
