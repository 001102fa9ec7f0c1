"""The heat series against Crank-Nicolson in NumPy, and its initial and boundary data."""

import itertools
from functools import cache, partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.pdes.heat import Heated, solve_heat, solve_heat_flux
from sciml.pdes.solution import Solution

NU, FLUX = 0.01, 5.0
OMEGA = 2.6
solve = jax.jit(partial(solve_heat, nu=NU, flux=FLUX), static_argnums=1, static_argnames="terms")


def crank_nicolson(cells: int, steps: int, final_time: float) -> np.ndarray:
    """Returns u(., final_time) by central differences with mirrored points beyond the ends.

    The first two steps are four implicit Euler half steps: the start does not have the right flux.
    """
    h, dt = 1 / cells, final_time / steps
    matrix = np.diag(np.ones(cells), 1) + np.diag(np.ones(cells), -1) - 2 * np.eye(cells + 1)
    matrix[0, 1] = matrix[-1, -2] = 2
    matrix *= NU / h**2
    source = np.zeros(cells + 1)
    source[-1] = 2 * NU / h
    flux = lambda t: FLUX * np.sin(np.pi * t)
    eye = np.eye(cells + 1)
    implicit = np.linalg.inv(eye - dt / 2 * matrix)
    explicit = eye + dt / 2 * matrix
    u = np.cos(np.pi * OMEGA * np.linspace(0, 1, cells + 1))
    for step in range(steps):
        t = step * dt
        if step < 2:
            for stop in (t + dt / 2, t + dt):
                u = implicit @ (u + dt / 2 * flux(stop) * source)
        else:
            u = implicit @ (explicit @ u + dt / 2 * (flux(t) + flux(t + dt)) * source)
    return u


TIMES = [0.0, 0.01, 0.25, 0.7, 1.5, 2.0]
OMEGAS = [OMEGA, 2.2, 3.0, 3.7]


@cache
def solved(points: int, *, is_double: bool) -> Solution:
    with jax.enable_x64(is_double):
        found = solve(jnp.asarray(OMEGAS), points, jnp.asarray(TIMES))
        return jax.tree.map(np.asarray, found)


@pytest.fixture
def coarse() -> Solution:
    """Returns solutions of all wave numbers in float32."""
    return solved(51, is_double=False)


@pytest.fixture
def fine() -> Solution:
    """Returns the same on a fine grid in float64."""
    return solved(401, is_double=True)


def test_the_series_is_what_crank_nicolson_converges_to(coarse: Solution) -> None:
    series = np.asarray(coarse.frames[0, :, TIMES.index(0.7)])
    errors = [
        np.abs(crank_nicolson(cells, cells, 0.7)[:: cells // 50] - series).max()
        for cells in (50, 100, 200, 400)
    ]

    assert np.ptp(series) > 0.5
    assert errors[-1] < 1e-4
    # Second order: every halving of both steps divides the error by 4.
    ratios = [a / b for a, b in itertools.pairwise(errors)]
    assert all(3.5 < ratio < 4.5 for ratio in ratios), (errors, ratios)


@pytest.mark.parametrize("terms", [256, 1024])
def test_the_number_of_terms_does_not_matter(coarse: Solution, terms: int) -> None:
    other = solve(jnp.asarray(OMEGAS), 51, jnp.asarray(TIMES), terms=terms)

    # Truncation at 256 terms 7e-7, and the sum in float32 6e-6.
    chex.assert_trees_all_close(other.frames, coarse.frames, atol=1e-5)


def test_boundary_data_are_the_slopes(fine: Solution) -> None:
    u = fine.frames[..., 2:]  # times at which the start is smoothed enough for differences
    (ends,) = fine.boundary
    one_sided = np.array([-11 / 6, 3, -3 / 2, 1 / 3]) * 400  # third order

    wanted = FLUX * np.sin(np.pi * np.asarray(TIMES))[None].repeat(4, 0)
    chex.assert_trees_all_close(ends.high, wanted, atol=1e-12)
    chex.assert_trees_all_equal(ends.low, np.zeros((4, 6)))
    low = np.einsum("j,bjt->bt", one_sided, u[:, :4])
    high = -np.einsum("j,bjt->bt", one_sided, u[:, :-5:-1])
    # u h³ / 4 with u up to 4 (nu t)^-3/2 near the end, where the flux starts at t = 0.
    chex.assert_trees_all_close(low, np.zeros_like(low), atol=2e-3)
    chex.assert_trees_all_close(high, ends.high[:, 2:], atol=2e-3)


def test_the_mean_grows_by_the_flux(fine: Solution) -> None:
    mean = np.trapezoid(fine.frames, dx=1 / 400, axis=1)
    omega, t = np.asarray(OMEGAS), np.asarray(TIMES)

    # d/dt mean = nu flux sin(pi t).
    wanted = np.sinc(omega)[:, None] + NU * FLUX / np.pi * (1 - np.cos(np.pi * t))[None]
    # The trapezoidal rule: h² / 12 times slopes up to 4 pi at the ends.
    chex.assert_trees_all_close(mean, wanted, atol=1e-5)
    assert np.ptp(wanted, axis=1).min() > 0.02


def test_the_start_is_the_initial_data(coarse: Solution) -> None:
    wanted = np.cos(np.outer(OMEGAS, np.pi * np.linspace(0, 1, 51)))
    # Angles up to 12 in float32, rounded three times by half of 1e-6, and a cosine.
    chex.assert_trees_all_close(coarse.initial, wanted, atol=5e-6)
    chex.assert_trees_all_equal(coarse.frames[..., 0], coarse.initial)


def test_a_series_without_terms_is_refused() -> None:
    with pytest.raises(ValueError, match="terms=0"):
        solve(jnp.asarray([3.0]), 13, jnp.zeros(1), terms=0)


def test_a_flux_of_every_sample_gives_the_solution_of_that_flux(coarse: Solution) -> None:
    params = Heated(jnp.full(len(OMEGAS), FLUX).at[0].set(2.0), jnp.asarray(OMEGAS))
    found = jax.jit(partial(solve_heat_flux, nu=NU), static_argnums=1)(
        params, 51, jnp.asarray(TIMES)
    )
    frames, (ends,), (wanted,) = np.asarray(found.frames), found.boundary, coarse.boundary

    # float32 sums of a series, of size 1.
    np.testing.assert_allclose(frames[1:], coarse.frames[1:], atol=2e-5)
    np.testing.assert_allclose(ends.high[1:], wanted.high[1:], rtol=1e-6)
    np.testing.assert_allclose(ends.high[0] * FLUX / 2, wanted.high[0], rtol=1e-6)
    assert np.abs(frames[0] - coarse.frames[0])[-1].max() > 0.1  # at x = 1
    np.testing.assert_array_equal(found.initial, coarse.initial)
