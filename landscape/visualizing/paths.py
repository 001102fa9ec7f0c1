"""What table paths says of trained networks: in how few dimensions their optimizers moved.

A function `config -> metrics` of cells, on the pairs of networks of table batch_size and the states
that their training kept.
"""

import itertools
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from common import stages
from common.keys import split_apart
from landscape import surfaces
from landscape.directions import gaussian, towards
from landscape.grids import Surface, axis
from landscape.products import Loss
from landscape.trajectories import PathAxes, path_axes, projection
from landscape.vectors import layout_of, moved, norm
from landscape.visualizing.experiments import variables_of
from landscape.visualizing.measures import FROZEN, Trained, stage_of, trained

PyTree = Any
NETWORKS = ("small", "large")
FIRST = 0.1  # share of all steps that are the first ones
DIRECTIONS = 32  # random ones, sixteen planes
MARGIN = 0.15  # around a path in its picture


class Path(NamedTuple):
    """The way of one network.

    Attributes:
        steps: Of the loop, the first one 0.
        variables: Parameters and running statistics after each.
        drops: Places of `steps` after which the learning rate had dropped.
        first: How many belong to the first steps.
    """

    steps: np.ndarray
    variables: list[PyTree]
    drops: list[int]
    first: int


def paths(config: ConfigDict) -> dict[str, float]:
    """Returns how flat the paths of both networks are, and what their planes show of the loss."""
    found = trained(config)
    numbers = dict(found.run.evaluate())
    for name, path in paths_of(config).items():
        numbers |= {f"{name}_{what}": value for what, value in of_path(found, path).items()}
    return numbers


def paths_of(config: ConfigDict) -> dict[str, Path]:
    """Returns the paths of both networks of a config that are trained."""
    states = stages.path_of(stage_of(config))
    steps = np.array(states.steps)
    variables: dict[str, list[PyTree]] = {name: [] for name in NETWORKS}
    for place in range(len(states)):
        pair = states[place]
        for name, trees in variables.items():
            trees.append(jax.device_get(variables_of(getattr(pair, name))))
    shares = steps / config.num_steps
    drops = [int(np.argmax(shares >= share)) for share in config.optimizer.decay_at]
    first = int(np.argmax(shares >= FIRST))
    return {name: Path(steps, trees, drops, first) for name, trees in variables.items()}


def of_path(found: Trained, path: Path) -> dict[str, float]:
    """Returns the numbers of a path.

    Source: Li et al. (2018), Sec. 7. Running statistics are no part of it: they are those of its
    end all over the plane, while every state has its own, as in the released code.
    """
    trees, frozen = path.variables, FROZEN.frozen
    share = lambda trees, **how: float(np.sum(path_axes(trees, frozen=frozen, **how).explained))
    axes = path_axes(trees, frozen=frozen)
    inner = np.sum(axes.residuals**2) / np.sum(axes.distances**2)
    return {
        "two_axes": float(np.sum(axes.explained)),
        "one_axis": float(axes.explained[0]),
        "two_axes_uncentred": share(trees, center=False),
        "two_axes_late": share(trees[path.first :]),
        "two_axes_norm_free": share(trees, norm_free=True, rules=FROZEN),
        "residual": float(np.sqrt(inner)),
        **of_steps(path, axes),
        **of_random_directions(found, path, axes.distances),
        **of_losses(found, path, axes),
    }


def of_steps(path: Path, axes: PathAxes) -> dict[str, float]:
    """Returns which share of its length a step has in the plane: of the first, and up to the drop.

    The rest of it is motion that no picture shows.
    """
    frozen = FROZEN.frozen
    length = jax.jit(lambda before, after: norm(towards(before, after, frozen=frozen)))
    whole = [float(length(*pair)) for pair in itertools.pairwise(path.variables)]
    share = np.linalg.norm(np.diff(axes.coordinates, axis=0), axis=1) / whole
    drop, first = path.drops[0], path.first
    return {
        "inside_first": float(np.mean(share[:first])),
        "inside_before_drop": float(np.mean(share[first:drop])),
    }


def of_random_directions(
    found: Trained, path: Path, distances: Float[np.ndarray, " n"]
) -> dict[str, float]:
    """Returns the share of the variation in a random plane, and the cosines with its directions.

    Source: Li et al. (2018), Sec. 7.1; two random vectors of n entries have an expected |cosine| of
    sqrt(2 / (pi n)), which is 1 here.
    """
    end, frozen = path.variables[-1], FROZEN.frozen
    draw = jax.jit(gaussian, static_argnames="frozen")
    drawn = [draw(key, end, frozen=frozen) for key in split_apart(found.key, DIRECTIONS)]
    seen = projection(path.variables, drawn, frozen=frozen)
    length = jax.jit(norm)
    lengths = np.array([float(length(direction)) for direction in drawn])
    cosines = np.abs(seen.coordinates[:-1]) * lengths / distances[:-1, None]
    expected = np.sqrt(2 / (np.pi * layout_of(end, frozen=frozen).size))
    return {
        "random_plane": 2 * seen.explained / DIRECTIONS,
        "random_cosine": float(np.mean(cosines) / expected),
    }


def of_losses(found: Trained, path: Path, axes: PathAxes) -> dict[str, float]:
    """Returns how far the loss of the plane is off, and how far steps go down its slope.

    Source: Li et al. (2018), Sec. 7.2. A step down the gradient of the plane has a descent of 1,
    one along a contour 0; a mean over the first steps, from there to the first drop of the learning
    rate, and as many steps as the first ones after that.
    """
    end, rows = jax.tree.map(jnp.asarray, (path.variables[-1], found.rows))
    true = np.array([float(_loss(tree, rows, found.loss)) for tree in path.variables])
    places = axes.coordinates.astype(np.float32)
    seen = [_on_plane(point, end, axes.axes, rows, found.loss) for point in places]
    values, slopes = (np.asarray(np.stack(x), float) for x in zip(*seen, strict=True))
    moves = np.diff(axes.coordinates, axis=0)
    lengths = np.linalg.norm(moves, axis=1) * np.linalg.norm(slopes[:-1], axis=1)
    descent = -np.sum(moves * slopes[:-1], axis=1) / np.maximum(lengths, np.finfo(float).tiny)
    drop, first = path.drops[0], path.first
    off = np.abs(np.log(values / true))[:-1]
    return {
        "loss_factor": float(np.exp(np.median(off))),
        "descent_first": float(np.mean(descent[:first])),
        "descent_before_drop": float(np.mean(descent[first:drop])),
        "descent_after_drop": float(np.mean(descent[drop : drop + first])),
    }


def picture(found: Trained, path: Path, axes: PathAxes) -> Surface:
    """Returns the loss over the plane of a path, as far as it goes and a little further.

    Source: Li et al. (2018), Sec. 7.2; L(theta_n + a p_1 + b p_2).
    """
    section = found.config.surface
    low, high = np.min(axes.coordinates, axis=0), np.max(axes.coordinates, axis=0)
    margin = MARGIN * np.max(high - low)
    ends = zip(low - margin, high + margin, strict=True)
    return surfaces.surface(
        found.values,
        path.variables[-1],
        axes.axes,
        tuple(axis(float(a), float(b), section.points) for a, b in ends),
        found.rows,
        chunk=section.chunk,
        at_once=section.at_once,
        keep=True,
    )


@partial(jax.jit, static_argnames="loss")
def _loss(variables: PyTree, rows: PyTree, loss: Loss) -> Array:
    return loss(variables, rows)


@partial(jax.jit, static_argnames="loss")
def _on_plane(
    point: Array, end: PyTree, directions: Any, rows: PyTree, loss: Loss
) -> tuple[Array, Array]:
    """Returns the loss at a point of the plane, and its slope there."""
    at = lambda point: loss(moved(end, directions, point), rows)
    return jax.value_and_grad(at)(point)
