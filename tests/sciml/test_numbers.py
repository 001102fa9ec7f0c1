"""Integers, lists and Python's numbers are numbers; batches may be empty."""

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
from sciml.covariances import draw, marginal_variance, times
from sciml.metrics import coverage
from sciml.numbers import floating
from sciml.pdes.burgers import BurgersParams
from sciml.pdes.conservation import LAWS
from sciml.pdes.problems import PROBLEMS

Make = Callable[[Any], Any]  # from lists and numbers to what is passed
DIRICHLET, NEUMANN = (BoundaryCondition(kind, order=1) for kind in ("dirichlet", "neumann"))


def everything(n: Make) -> dict[str, Any]:
    """Returns what functions make of the same numbers, passed in one way or another."""
    pixels, x, u, field = n([0, 1, 2, 3, 4]), n([0, 1, 2, 4, 5]), n([3, 0, 1, 2, 7]), n([[[1]]] * 5)
    variance, key = n([1, 2, 1, 3, 1]), jax.random.key(0)
    ends = FaceData(*(floating(n([[2]])) / 4 for _ in range(2)))
    burgers = PROBLEMS["burgers"]
    noisy = mass_constraint(x, n(4), sigma=0.9)
    rows = LinearConstraint(n([[1, 2, 0, 0, 1]]), n([9]), n([[1]]))
    after = condition(rows, Gaussian(u, variance))
    return {
        "noisy": condition(noisy, Gaussian(u, variance)).mean,
        "uniform": mass_constraint(pixels, n(4), rule="uniform", sigma=0.3),
        "right": right_riemann_weights(x),
        "cells": project(cell_constraint(x, [0, 2, 4], n([1, 2])), u),
        "rows": (after.mean, marginal_variance(after.covariance), violation_loss(rows, u)),
        "samples": condition_samples(noisy, Gaussian(u, variance), u, noise=jnp.ones(1)),
        "shape": shape_correction(Gaussian(u, variance), x=x).mean,
        "covariance": (times(variance, jnp.ones((5, 1))), draw(key, variance, (2,))),
        "ends": [impose(field, c, ends) for c in (DIRICHLET, NEUMANN)],
        "violation": [violation(field, c, ends) for c in (DIRICHLET, NEUMANN)],
        "modes": dft.forward(field, (2,)),
        "refined": refined(lambda v: v / 3, DIRICHLET)(n([[[1]] * 5]), ends),
        "law": LAWS["diffusion"].window_mass(n([1]), n([[1, 2]]), n([[1, 2]])),
        "mass": LAWS["diffusion"].mass(n([1]), n([[1, 2]])),
        "equation": burgers.solve(BurgersParams(jnp.ones(1)), 5, n([0, 1]), burgers.default),
        "coverage": coverage(n([[0, 3]]), *jnp.ones((2, 1, 2))),
    }


def test_whole_numbers_are_numbers_whatever_they_are_passed_in() -> None:
    wanted = jax.jit(lambda: everything(lambda x: jnp.asarray(x, float)))()
    for make in (lambda x: x, lambda x: jnp.asarray(x)):
        found = jax.jit(lambda make=make: everything(make))()
        for got, right in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
            assert got.dtype == right.dtype == jnp.float32
            np.testing.assert_allclose(got, right, rtol=1e-6, atol=1e-6)
    # By hand, of the issue: Σ g u = 4 with noise 0.9, from 0 and variances of 1.
    flat = condition(
        mass_constraint(jnp.arange(5), 4.0, sigma=0.9), Gaussian(jnp.arange(5) * 0, [1] * 5)
    )
    assert flat.mean[1] == pytest.approx(4 / (3.5 + 0.81), rel=1e-5)


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
