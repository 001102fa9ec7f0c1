"""Burgers on a circle: an independent solver, conservation, periodicity, and its random start."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.pdes.burgers_periodic import (
    PeriodicParams,
    heat_kernel,
    sample_burgers_periodic,
    solve_burgers_periodic,
)
from sciml.pdes.solution import Solution

NU = 0.05
solve = jax.jit(solve_burgers_periodic, static_argnums=1, static_argnames=("nu", "resolution"))


def waves(dtype: type = np.float64) -> PeriodicParams:
    cos, sin = np.random.default_rng(3).normal(size=(2, 2, 4)) / np.arange(1, 5)
    mean = np.array([0.7, -1.2])
    return PeriodicParams(*(jnp.asarray(a.astype(dtype)) for a in (mean, cos, sin)))


def runge_kutta(u: np.ndarray, final_time: float, steps: int) -> np.ndarray:
    """Returns u(., final_time) by Fourier derivatives and the classical Runge-Kutta method."""
    k = 2j * np.pi * np.fft.rfftfreq(u.shape[-1], 1 / u.shape[-1])
    dt = final_time / steps

    def rate(u: np.ndarray) -> np.ndarray:
        return np.fft.irfft(NU * k**2 * np.fft.rfft(u) - k * np.fft.rfft(u**2 / 2), u.shape[-1])

    for _ in range(steps):
        a = rate(u)
        b = rate(u + dt / 2 * a)
        c = rate(u + dt / 2 * b)
        u = u + dt / 6 * (a + 2 * b + 2 * c + rate(u + dt * c))
    return u


@pytest.mark.usefixtures("float64")
def test_it_agrees_with_a_pseudospectral_solver() -> None:
    solution = solve(waves(), 129, jnp.asarray([0.15, 0.6]), nu=NU)
    start = np.asarray(solution.initial)[:, :-1]
    middle = runge_kutta(start, 0.15, 500)  # stable up to steps of 3.4e-4
    last = runge_kutta(middle, 0.45, 1_500)

    assert np.abs(last - start).max() > 0.5
    wanted = np.stack([middle, last], axis=-1)
    # 64 Fourier modes of a shock of width 8 nu / jump: e^-24 or so; the time step is far below.
    chex.assert_trees_all_close(np.asarray(solution.frames)[:, :-1], wanted, atol=1e-8)


def test_mass_is_conserved_and_the_last_point_is_the_first() -> None:
    params = sample_burgers_periodic(jax.random.key(0), 8)
    times = jnp.asarray([0.0, 0.1, 0.5, 2.0])
    solution = solve(params, 129, times)
    (ends,) = solution.boundary

    assert np.ptp(solution.initial, axis=1).min() > 0.1
    chex.assert_trees_all_equal(solution.frames[:, 0], solution.frames[:, -1])
    chex.assert_trees_all_equal(solution.initial[:, 0], solution.initial[:, -1])
    chex.assert_trees_all_equal(solution.frames[..., 0], solution.initial)
    mass = np.asarray(solution.frames, np.float64)[:, :-1, 1:].mean(axis=1)
    chex.assert_trees_all_close(mass, np.asarray(params.mean)[:, None].repeat(3, 1), atol=1e-6)
    assert not np.any(ends.low) and not np.any(ends.high)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_the_resolution_inside_does_not_matter() -> None:
    params = sample_burgers_periodic(jax.random.key(1), 4)
    times = jnp.asarray([1e-3, 0.1, 1.0])
    coarse, fine = (solve(params, 17, times, nu=0.02, resolution=n).frames for n in (1024, 2048))

    assert np.ptp(coarse) > 1
    chex.assert_trees_all_close(coarse, fine, atol=1e-9)


@pytest.mark.usefixtures("float64")
def test_it_moves_with_the_mean_velocity() -> None:
    params, t = waves(), 0.5
    resting = params._replace(mean=jnp.zeros(2))
    moving = params._replace(mean=jnp.asarray([0.5, -0.5]))  # by a quarter of the circle
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), resting, moving)
    u, v = np.split(np.asarray(solve(both, 65, jnp.asarray([t]), nu=NU).frames)[:, :-1, 0], 2)

    assert np.ptp(u) > 1

    chex.assert_trees_all_close(v[0], 0.5 + np.roll(u[0], 16), atol=1e-12)
    chex.assert_trees_all_close(v[1], -0.5 + np.roll(u[1], -16), atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_early_times_continue_the_initial_data() -> None:
    times = jnp.asarray([1e-9, 1e-6, 1e-5])  # on both sides of 1 / (2 nu resolution²)
    solution = solve(waves(), 65, times, nu=NU)
    change = np.abs(solution.frames - solution.initial[..., None]).max(axis=(0, 1))

    # |u_t| = |nu u_xx - u u_x| is of size 100 for four modes.
    assert np.all(change < 300 * np.asarray(times)) and np.all(change > 3 * np.asarray(times))


def solve_hard(dtype: type) -> Solution:
    params = jax.tree.map(lambda a: 3 * a, waves(dtype))
    times = jnp.asarray(np.array([0.003, 0.01, 0.1, 1.0], dtype))
    return solve(params, 33, times, nu=0.006)


def test_values_out_of_range_are_nan_and_never_wrong() -> None:
    single = np.asarray(solve_hard(np.float32).frames)
    with jax.enable_x64(True):
        double = np.asarray(solve_hard(np.float64).frames)
    lost = np.isnan(single)

    assert 0 < lost.mean() < 1 and np.all(np.isfinite(double))
    # float32 rounds an exponent of size 200 by 2e-5; velocities have the size 10.
    chex.assert_trees_all_close(single[~lost], double[~lost], atol=2e-3)


@pytest.mark.usefixtures("float64")
def test_the_heat_kernel_has_unit_mass_and_damps_waves() -> None:
    spread = np.array([0.0, 0.002, 0.004, 0.03, 0.19, 0.21, 2.0])  # all three branches
    kernel = np.asarray(jax.jit(heat_kernel, static_argnums=(1, 2))(spread**2 / 2, 256, 1.0))
    damped = np.fft.rfft(kernel).real[:, :4] / 256

    wanted = np.exp(-np.outer(spread**2 / 2, (2 * np.pi * np.arange(4)) ** 2))
    chex.assert_trees_all_close(damped, wanted, atol=1e-8)


def test_the_amplitudes_have_the_distribution_of_the_benchmark() -> None:
    params = sample_burgers_periodic(jax.random.key(5), 20_000, modes=8)
    k = np.arange(1, 9)

    wanted = np.sqrt(2) * 25 / (4 * np.pi**2 * k**2 + 25)
    # A standard deviation of n numbers is known to 1 / sqrt(2 n) = 0.5 %.
    chex.assert_trees_all_close(np.std(params.cos, axis=0), wanted, rtol=0.02)
    chex.assert_trees_all_close(np.std(params.sin, axis=0), wanted, rtol=0.02)
    assert abs(np.std(params.mean) - 1) < 0.02
    assert abs(np.corrcoef(params.cos[:, 0], params.sin[:, 0])[0, 1]) < 0.03


def test_coarse_grids_are_refused() -> None:
    times = jnp.zeros(1)
    with pytest.raises(ValueError, match=r"resolution=8: 4 modes .* at least 16"):
        solve(waves(np.float32), 9, times, resolution=8)
    with pytest.raises(ValueError, match="points=1"):
        solve(waves(np.float32), 1, times)
    with pytest.raises(ValueError, match="modes=0"):
        sample_burgers_periodic(jax.random.key(0), 2, modes=0)
