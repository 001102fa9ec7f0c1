"""The driven cavity: orders of convergence, circulation, symmetries, and published extrema."""

from functools import cache, partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.pdes.cavity import (
    poisson_solver,
    solve_cavity,
    stable_step,
    streamfunction,
)

# As in BOON, on a coarser grid.
NUMBERS: dict[str, Any] = {"nu": 0.01, "solver_points": 49, "max_speed": 1.5}


def vorticity(
    points: int, times: list[float], lid: list[float], **options: float | int
) -> np.ndarray:
    """Returns frames [batch, x, y, time] in the precision in force."""
    solve = jax.jit(partial(solve_cavity, **(NUMBERS | options)), static_argnums=1)
    return np.asarray(solve(jnp.asarray(lid), points, jnp.asarray(times)).frames)


def ratio(coarse: np.ndarray, middle: np.ndarray, fine: np.ndarray) -> float:
    """Returns by what halving the step divides the error: 2^order (Richardson)."""
    size = lambda a: float(np.sqrt(np.mean(a**2)))
    return size(coarse - middle) / size(middle - fine)


LIDS, TIMES = [1.0, 1.4, -1.4], [0.0, 0.1, 0.7]


@cache
def flows_once() -> np.ndarray:
    with jax.enable_x64(True):
        return vorticity(17, TIMES, LIDS, nu=0.02, solver_points=17)


@pytest.fixture
def flows() -> np.ndarray:
    """Returns the flow [lid, x, y, time] of the lids on all points of a small solver."""
    return flows_once()


@pytest.mark.usefixtures("float64")
def test_time_steps_are_of_second_order() -> None:
    # Steps no longer than the gap of two frames: one for each. Times that repeat take none.
    numbers = NUMBERS | {"solver_points": 17, "max_speed": 1.0}
    solve = jax.jit(partial(solve_cavity, **numbers), static_argnums=1)
    runs = []
    for steps in (32, 64, 128):
        times = jnp.minimum(jnp.arange(1, 129) / steps, 1) / 2
        runs.append(solve(jnp.ones(1), 17, times).frames[..., -1])

    assert 3.7 < ratio(*(np.asarray(run) for run in runs)) < 4.5


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_space_differences_are_of_second_order_away_from_the_lid() -> None:
    # At Re = 20 on the common points of the lower half: vorticity is infinite in the lid's corners,
    # and what diffuses from there is smooth after half a time unit. The time step is the same.
    runs = [
        vorticity(9, [0.5], [1.0], nu=0.05, solver_points=n, max_speed=1.0, time_step=1 / 1024)
        for n in (17, 33, 65)
    ]
    lower = [w[:, 1:-1, 1:5] for w in runs]

    assert np.abs(lower[-1]).max() > 0.3
    assert 3.4 < ratio(*lower) < 4.5


def test_the_circulation_is_that_of_the_lid(flows: np.ndarray) -> None:
    weight = np.full(17, 1 / 16)
    weight[[0, -1]] /= 2
    circulation = np.einsum("bxyt,x,y->bt", flows, weight, weight)

    assert np.abs(flows[..., 2] - flows[..., 0]).max() > 1
    # Stokes: the integral of the vorticity is that of the velocity along the walls, clockwise.
    # Each of 289 terms is up to 2 lid / h = 45 times h^2, rounded.
    chex.assert_trees_all_close(circulation, -np.array(LIDS)[:, None].repeat(3, 1), atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_only_the_reynolds_number_matters(flows: np.ndarray) -> None:
    # w(x, t; lid, nu) = lid w(x, lid t; 1, nu / lid), step for step: of one sample among several,
    # and of one alone on every second point.
    times = [t / 1.5 for t in TIMES]
    fast = vorticity(9, times, [1.5], nu=0.03, solver_points=17, max_speed=2.25)

    size = np.abs(fast).max()
    chex.assert_trees_all_close(fast[0], 1.5 * flows[0, ::2, ::2], atol=1e-12 * size)
    assert np.abs(fast[0, 1:-1, 1:-1, -1]).max() > 1 and np.ptp(fast[0, 1:-1, 4, -1]) > 0.1


def test_a_lid_that_moves_back_mirrors_the_flow(flows: np.ndarray) -> None:
    size = np.abs(flows).max()
    assert np.abs(flows[1] - flows[1, ::-1]).max() > 0.1
    chex.assert_trees_all_close(flows[2], -flows[1, ::-1], atol=1e-12 * size)


@pytest.mark.usefixtures("float64")
def test_the_streamfunction_solves_the_poisson_equation() -> None:
    w = np.random.default_rng(0).normal(size=(7, 7, 2))
    poisson = poisson_solver(7, jnp.dtype("float64"))
    psi = np.pad(streamfunction(jnp.asarray(w), poisson), ((1, 1), (1, 1), (0, 0)))
    neighbors = psi[2:, 1:-1] + psi[:-2, 1:-1] + psi[1:-1, 2:] + psi[1:-1, :-2]

    chex.assert_trees_all_close((4 * psi[1:-1, 1:-1] - neighbors) * 64, w, atol=1e-12)


def test_the_fluid_starts_at_rest_under_a_vortex_sheet() -> None:
    lids, solve = jnp.asarray([1.0, 1.2, 1.4]), partial(solve_cavity, **NUMBERS)
    solution = jax.jit(solve, static_argnums=1)(lids, 17, jnp.asarray([0.0, 0.2, 0.3]))
    left_right, bottom_top = solution.boundary

    chex.assert_trees_all_equal(solution.frames[..., 0], solution.initial)
    assert not np.any(solution.initial[:, :, :-1])
    sheet = np.asarray(-2 * 48 * lids)[:, None].repeat(17, 1)  # h = 1/48: solver_points=49
    chex.assert_trees_all_close(np.asarray(solution.initial[:, :, -1]), sheet, rtol=1e-6)
    for got, wanted in (
        (left_right.low, solution.frames[:, 0]),
        (left_right.high, solution.frames[:, -1]),
        (bottom_top.low, solution.frames[:, :, 0]),
        (bottom_top.high, solution.frames[:, :, -1]),
    ):
        chex.assert_trees_all_equal(got, wanted)


def test_the_longest_allowed_step_is_stable() -> None:
    nu, n = 0.1, 9
    limit = stable_step(n, nu=nu, max_speed=1.0)
    w = vorticity(n, [20.0], [1.0], nu=nu, solver_points=n, max_speed=1.0, time_step=limit)
    half = vorticity(n, [20.0], [1.0], nu=nu, solver_points=n, max_speed=1.0, time_step=limit / 2)

    # Both are at the same steady state, up to float32, whose vorticity is of size 2 / h = 16.
    assert np.ptp(w[0, 1:-1, 1:-1]) > 1 and np.abs(w[0, 1:-1, 4]).max() > 0.1
    chex.assert_trees_all_close(w, half, atol=1e-3)


@pytest.mark.parametrize(
    ("points", "options", "message"),
    [
        (25, dict(time_step=0.1), "time_step=0.1: .* at most 0.006944, the stability limit"),
        (25, dict(nu=0.001), "solver_points=49: max_speed h / nu is 31.2"),
        (20, {}, "points=20, solver_points=49: points - 1"),
        (2, dict(solver_points=3), "solver_points=3"),
        (25, dict(nu=-0.01), "nu=-0.01"),
    ],
)
def test_bad_grids_and_steps_are_refused(points: int, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        solve_cavity(jnp.ones(1), points, jnp.ones(1), **(NUMBERS | options))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("n", "error"), [(33, 0.08), pytest.param(65, 0.03, marks=pytest.mark.slow)]
)
def test_center_line_velocities_are_those_of_ghia_at_reynolds_100(n: int, error: float) -> None:
    w = vorticity(n, [25.0], [1.0], solver_points=n, max_speed=1.0)[..., 0]
    inside = jnp.asarray(np.moveaxis(w[:, 1:-1, 1:-1], 0, -1))
    psi = streamfunction(inside, poisson_solver(n - 2, inside.dtype))
    psi = np.pad(psi[..., 0], 1)
    u = np.gradient(psi[n // 2], 1 / (n - 1))
    v = -np.gradient(psi[:, n // 2], 1 / (n - 1))

    # Ghia, Ghia and Shin (1982), Tables I and II; of second order in 1 / n.
    extrema = np.array([u.min(), v.max(), v.min()])
    chex.assert_trees_all_close(extrema, np.array([-0.2109, 0.17527, -0.24533]), rtol=error)
