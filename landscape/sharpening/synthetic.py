"""Regression on the unit cube: data, network, and every bound of the paper next to the truth."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from ml_collections import ConfigDict

from common import stages
from common.data import cache
from common.nets.mlp import init_mlp, mlp
from landscape.coverings import cube_radius, distance_to_uniform, generalization_bound
from landscape.jacobians import jacobian_norms
from landscape.lipschitz import (
    ball_points,
    errors_of_squared,
    pair_ratios,
    sandwich,
    segment_norms,
)

PyTree = Any
TARGET_CONSTANT = np.pi  # Lipschitz constant of the target


class DataSpec(NamedTuple):
    """Samples of the uniform law.

    Attributes:
        dimension: Of the cube.
        num_train: Training samples.
        num_test: Test samples.
        seed: Of both; the data are drawn anew for every seed of a run.
        version: Raised when `load` changes what it returns.
    """

    dimension: int
    num_train: int
    num_test: int
    seed: int
    version: int = 1


def data_spec(config: ConfigDict) -> DataSpec:
    """Returns the spec of `config.data` and the seed of the run."""
    return DataSpec(seed=config.seed, **config.data)


def target(inputs: np.ndarray) -> np.ndarray:
    """Returns sin(pi <x, u>) for the unit vector u along the diagonal; Lipschitz constant pi."""
    along = np.sum(inputs, axis=1, keepdims=True) / np.sqrt(inputs.shape[1])
    return np.sin(np.pi * along)


def load(spec: DataSpec) -> PyTree:
    """Returns {"train" | "test": {"input": [n, d], "target": [n, 1]}}, float32."""
    rng = np.random.default_rng(spec.seed)

    def part(count: int) -> PyTree:
        inputs = rng.uniform(size=(count, spec.dimension)).astype(np.float32)
        return {"input": inputs, "target": target(inputs).astype(np.float32)}

    return {"train": part(spec.num_train), "test": part(spec.num_test)}


def abstract(spec: DataSpec) -> PyTree:
    """Returns the shapes of `load`."""

    def part(count: int) -> PyTree:
        shape = lambda size: jax.ShapeDtypeStruct((count, size), np.float32)
        return {"input": shape(spec.dimension), "target": shape(1)}

    return {"train": part(spec.num_train), "test": part(spec.num_test)}


def identity(spec: DataSpec) -> dict[str, Any]:
    """Returns what the data are made of."""
    return cache.identity(spec, load)


def init(key: PRNGKeyArray, *, dimension: int, depth: int, width: int) -> PyTree:
    """Draws the parameters of a network with one output."""
    return init_mlp(key, (dimension, *(width,) * (depth - 1), 1))


def predict(params: PyTree, inputs: Float[Array, "n d"]) -> Float[Array, "n 1"]:
    """Returns the outputs; the activation is tanh, so that the Jacobian is continuous."""
    return mlp(params, inputs, activation=jnp.tanh)


def bounds(config: ConfigDict) -> dict[str, float]:
    """Returns the bounds of a trained network next to what they bound.

    Source: MacDonald et al. (2023), Thm 4.3, 5.1 and 6.1. The true Lipschitz constant is the
    largest Jacobian on a fine grid, the true gap that of the mean costs.
    """
    run = stages.trained(config)
    params, data, section = run.state.params, run.data, config.bounds
    inputs, dimension = data["train"]["input"], config.data.dimension
    radius = cube_radius(len(inputs), dimension, section.failure)
    clip = lambda x: jnp.clip(x, 0, 1)
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    around = ball_points(key, inputs, radius, section.ball_points, support=clip)
    found = sandwich(predict, params, inputs, around)
    costs = {name: costs_of(params, rows) for name, rows in data.items()}
    errors = errors_of_squared(costs["train"])
    ratios = pair_ratios(inputs, data["train"]["target"], errors)
    best = jnp.unravel_index(jnp.argmax(ratios), ratios.shape)
    first, second = (inputs[i][None] for i in best)
    largest_error = float(jnp.sqrt(2 * jnp.max(costs["test"])))
    bound = generalization_bound(
        largest_error, float(found.upper), TARGET_CONSTANT, distance_to_uniform(np.asarray(inputs))
    )
    gap = float(jnp.mean(costs["test"]) - jnp.mean(costs["train"]))
    return {
        "train_cost": float(jnp.mean(costs["train"])),
        "gap": gap,
        "bound": bound,
        "bound_over_gap": bound / abs(gap),
        "radius": radius,
        "covered": covered(np.asarray(inputs), radius),
        "lower": float(found.lower),
        "lipschitz": _lipschitz(params, dimension, section.grid),
        "upper": float(found.upper),
        "variation": float(jnp.max(found.variations)),
        "pair_bound": float(jnp.max(ratios)),
        "pair_share": float(jnp.max(ratios) / segment_norms(predict, params, first, second)[0]),
    }


def costs_of(params: PyTree, rows: PyTree) -> Float[Array, " n"]:
    """Returns half the squared error of every row."""
    return jnp.sum((predict(params, rows["input"]) - rows["target"]) ** 2, axis=1) / 2


def covered(samples: np.ndarray, radius: float) -> float:
    """Returns the share of a grid of the cube that lies within `radius` of a sample."""
    grid = grid_of(samples.shape[1], 64)
    distances = np.linalg.norm(grid[:, None] - samples[None], axis=2).min(axis=1)
    return float(np.mean(distances <= radius))


def grid_of(dimension: int, points: int) -> np.ndarray:
    """Returns [points^d, d] points of the cube, evenly spaced, its corners among them."""
    axes = np.meshgrid(*[np.linspace(0, 1, points)] * dimension, indexing="ij")
    return np.stack(axes, axis=-1).reshape(-1, dimension).astype(np.float32)


def _lipschitz(params: PyTree, dimension: int, points: int) -> float:
    grid = jnp.asarray(grid_of(dimension, points if dimension == 1 else points // 4))
    return float(jnp.max(jacobian_norms(predict, params, grid, chunk=1_024).spectral))
