"""Integers, lists and Python's numbers are numbers; batches may be empty."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import dft
from sciml.boon.refinement import refined
from sciml.boundary import BoundaryCondition, FaceData, axis_length, impose, violation
from sciml.conservation import (
    cell_constraint,
    mass_constraint,
    right_riemann_weights,
    shape_correction,
)
from sciml.constraints import (
    Gaussian,
    LinearConstraint,
    condition,
    condition_samples,
    project,
    violation_loss,
)
from sciml.covariances import draw, times
from sciml.metrics import coverage
from sciml.pdes.conservation import LAWS
from sciml.pdes.problems import PROBLEMS

Make = Callable[[Any], Any]  # from lists and numbers to what is passed
DIRICHLET, NEUMANN = (BoundaryCondition(kind, order=1) for kind in ("dirichlet", "neumann"))


def seen(n: Make) -> dict[str, Any]:
    """Returns what functions make of the same numbers, passed in one way or another."""
    x, u, field = n([0, 1, 2, 4, 5]), n([3, 0, 1, 2, 7]), n([[[1]]] * 5)
    variance, ends = n([1, 2, 1, 3, 1]), FaceData(*jnp.full((2, 1, 1), 0.5))
    burgers = PROBLEMS["burgers"]
    return {
        "noisy": condition(mass_constraint(x, n(4), sigma=0.9), Gaussian(u, variance)).mean,
        "uniform": mass_constraint(n([0, 1, 2, 3, 4]), n(4), rule="uniform", sigma=0.3),
        "right": right_riemann_weights(x),
        "ends": [impose(field, c, ends) for c in (DIRICHLET, NEUMANN)],
        "violation": [violation(field, c, ends) for c in (DIRICHLET, NEUMANN)],
        "modes": dft.forward(field, (2,)),
        "mass": LAWS["diffusion"].mass(n([1]), n([[1, 2]])),
        "equation": burgers.solve(jnp.ones(1), 5, n([0, 1]), burgers.default),
        "coverage": coverage(n([[0, 3]]), *jnp.ones((2, 1, 2))),
    }


def unseen(n: Make) -> list[Any]:
    """Returns what is only looked at for its type."""
    x, u, variance, key = (
        n([0, 1, 2, 4, 5]),
        n([3, 0, 1, 2, 7]),
        n([1, 2, 1, 3, 1]),
        jax.random.key(0),
    )
    rows, prior = LinearConstraint(n([[1, 2, 0, 0, 1]]), n([9]), n([[1]])), Gaussian(u, variance)
    return [
        project(cell_constraint(x, [0, 2, 4], n([1, 2])), u),
        (condition(rows, prior).mean, violation_loss(rows, u)),
        condition_samples(rows, prior, u, noise=jnp.ones(1)),
        shape_correction(prior, x=x).mean,
        (times(variance, jnp.ones((5, 1))), draw(key, variance, (2,))),
        refined(lambda v: v / 3, DIRICHLET)(n([[[1]] * 5]), FaceData(*jnp.ones((2, 1, 1)))),
    ]


def test_whole_numbers_are_numbers_whatever_they_are_passed_in() -> None:
    forms = [lambda x: x, jnp.asarray]
    turns = itertools.cycle(forms)
    types = jax.tree.leaves(jax.eval_shape(lambda: unseen(lambda x: next(turns)(x))))
    assert {out.dtype for out in types} == {jnp.dtype("float32")}
    found = jax.jit(lambda: seen(lambda x: next(turns)(x)))()
    wanted = jax.jit(lambda: seen(lambda x: jnp.asarray(x, float)))()
    for got, right in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(got, right, rtol=1e-6, atol=1e-6)
    # By hand: u = σ²_x g (4 - 0) / (Σ g² + 0.9²) for a mean of 0.
    weights = np.array([0.5, 1, 1.5, 1.5, 0.5])
    variance, mean = np.array([1, 2, 1, 3, 1]), np.array([3, 0, 1, 2, 7])
    gain = variance * weights / (weights**2 @ variance + 0.81)
    np.testing.assert_allclose(wanted["noisy"], mean + gain * (4 - weights @ mean), rtol=1e-5)


def test_a_grid_of_whole_numbers_has_a_length() -> None:
    for x in (np.arange(64), [*range(64)], jnp.arange(64), np.arange(64, dtype=np.uint8)):
        assert axis_length(x) == 63
    with pytest.raises(ValueError, match="spacings from 1 to 2"):
        axis_length([0, 1, 3])


def test_a_batch_may_be_empty() -> None:
    none, x = jnp.zeros((0, 5)), jnp.arange(5.0)
    cells = cell_constraint(x, (0, 2, 4), jnp.ones(2))

    def run(none: jax.Array) -> Any:
        prior = Gaussian(none, x + 1)
        ends = FaceData(jnp.zeros((0, 1)), jnp.zeros((0, 1)))
        return [
            project(cells, none),
            condition(cells, prior).mean,
            condition_samples(cells, prior, none),
            shape_correction(prior).mean,
            draw(jax.random.key(0), shape_correction(prior).covariance, (0,)),
            refined(lambda v: v * 2, DIRICHLET)(none[..., None], ends)[..., 0],
            LAWS["stefan"].solution(none[:, 0], none, none),
        ]

    assert {out.shape for out in jax.eval_shape(run, none)} == {(0, 5)}
