"""Planes through a saved run: random ones, of the top eigenvectors, and of the path it took."""

from typing import NamedTuple

import jax
import numpy as np

from common.runs import Loaded
from landscape.curvature import Eigenpairs
from landscape.directions import random_plane
from landscape.filters import FilterRules
from landscape.objectives import Objective
from landscape.trajectories import PathAxes, path_axes
from landscape.vectors import PyTree

LEAST_STEPS = 3  # checkpoints of a path that spans a plane
MARGIN = 0.15  # around a path, of its extent


class Plane(NamedTuple):
    """A plane through a run.

    Attributes:
        directions: Two.
        axes: Coordinates along them; 0 is one of each.
        said: What they are, for people.
        vectors: What biases and norm layers do.
        path: The path of the run, if the plane is its.
        steps: Of the path.
    """

    directions: tuple[PyTree, ...]
    axes: tuple[np.ndarray, np.ndarray]
    said: str
    vectors: str = "move along"
    path: PathAxes | None = None
    steps: tuple[int, ...] = ()


class RunPath:
    """The parameters of a run's checkpoints, each read when it is asked for."""

    def __init__(self, run: Loaded, objective: Objective, steps: tuple[int, ...]) -> None:
        self.run, self.objective, self.steps = run, objective, steps

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> PyTree:
        if self.steps[index] == self.run.step:
            return self.objective.params
        return self.objective.params_of(self.run.state_at(self.steps[index]))


def normalized_plane(
    objective: Objective, along: np.ndarray, *, by: str, number: int, stacked: str | None
) -> Plane:
    """Returns a plane of two Gaussian directions, normalized; the same number, the same draws.

    Raises:
        ValueError: If no parameter has filters, or a regex matches nothing.
    """
    rules = FilterRules(stacked=stacked)
    draw = jax.jit(random_plane, static_argnames=("by", "rules"))  # not a program an operation
    pair = draw(jax.random.key(number), objective.params, by=by, rules=rules)
    if not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(pair[0])):
        raise ValueError(
            f"direction={by}: all parameters are vectors, such as biases, which rest; hessian and "
            "pca move them"
        )
    return Plane(pair, (along, along), f"Gaussian, {by}-normalized, plane {number}", "at rest")


def hessian_plane(objective: Objective, pairs: Eigenpairs, along: np.ndarray) -> Plane:
    """Returns the plane of the two top eigenvectors v, each of a length that suits the loss L.

    At coordinate 1 the parabola c^2 lambda / 2 of the direction c v has risen by L itself.

    Raises:
        ValueError: If there is only one eigenvector, or the loss does not bend.
    """
    if len(pairs.vectors) < 2:
        raise ValueError("direction=hessian: one parameter has one eigenvector, which is no plane")
    if not pairs.values[:2].all():
        raise ValueError("direction=hessian: the loss does not bend, all eigenvalues are 0")
    loss = abs(float(jax.jit(objective.loss)(objective.params, objective.frozen)))
    lengths = np.sqrt(2 * (loss or 1.0) / np.abs(pairs.values[:2]))
    both = zip(lengths, pairs.vectors[:2], strict=True)
    directions = tuple(jax.tree.map(lambda x, c=c: c * x, v) for c, v in both)
    said = "top eigenvectors of the Hessian, {:.3g} and {:.3g} long: there L rises by L itself"
    return Plane(directions, (along, along), said.format(*lengths))


def path_plane(run: Loaded, objective: Objective, resolution: int) -> Plane:
    """Returns the plane of the two principal axes of a run's path up to its checkpoint.

    Raises:
        ValueError: If there are too few checkpoints up to there.
    """
    steps = tuple(step for step in run.steps() if step <= run.step)
    if len(steps) < LEAST_STEPS:
        raise ValueError(
            f"direction=pca: {len(steps)} checkpoints up to step {run.step}, expected "
            f"{LEAST_STEPS} or more; train with --config.checkpoint_every=N --config.keep=1000"
        )
    found = path_axes(RunPath(run, objective, steps))
    extent = np.ptp(found.coordinates, axis=0)
    if not extent.all():
        raise ValueError("direction=pca: the checkpoints lie on a line, which spans no plane")
    axes = []
    for coordinates, length in zip(found.coordinates.T, extent, strict=True):
        low, high = coordinates.min() - MARGIN * length, coordinates.max() + MARGIN * length
        below = min(max(round(-low / (high - low) * (resolution - 1)), 1), resolution - 2)
        above = resolution - 1 - below
        axes.append(max(-low / below, high / above) * np.arange(-below, above + 1))
    shares = " and ".join(f"{share:.1%}" for share in found.explained)
    said = f"principal axes of {len(steps)} checkpoints, {shares} of their variation"
    return Plane(found.axes, (axes[0], axes[1]), said, path=found, steps=steps)
