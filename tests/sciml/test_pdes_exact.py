"""The closed forms satisfy their equations, initial data and boundary data, also in float32."""

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.pdes.burgers import front_velocity, step_velocity
from sciml.pdes.problems import PROBLEMS
from sciml.pdes.solution import Solution, dirichlet_solution, frame_times, uniform_grid
from sciml.pdes.stokes import stokes_velocity
from sciml.pdes.wave import solve_wave, wave_height

NU = 0.02


def derivatives(u: Callable, parameter: float) -> dict[str, np.ndarray]:
    """Returns u and its derivatives at 200 random points of (0, 1)² by automatic derivatives."""
    x, t = np.random.default_rng(0).uniform(0.05, 1, (2, 200))
    u = partial(u, jnp.asarray(parameter))
    wanted = {
        "u": u,
        "u_x": jax.grad(u, 0),
        "u_xx": jax.grad(jax.grad(u, 0), 0),
        "u_t": jax.grad(u, 1),
    }
    at = jax.jit(jax.vmap(lambda x, t: {k: f(x, t) for k, f in wanted.items()}))
    return jax.tree.map(np.asarray, at(jnp.asarray(x), jnp.asarray(t)))


@pytest.mark.usefixtures("float64")
def test_stokes_flow_diffuses() -> None:
    d = derivatives(partial(stokes_velocity, nu=NU, amplitude=2.0), 3.3)

    assert np.abs(d["u_t"]).max() > 1
    chex.assert_trees_all_close(d["u_t"], NU * d["u_xx"], atol=1e-11)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("velocity", [front_velocity, step_velocity])
@pytest.mark.parametrize("u_right", [0.0, -0.4])
def test_shocks_satisfy_the_burgers_equation(velocity: Callable, u_right: float) -> None:
    d = derivatives(partial(velocity, nu=NU, u_right=u_right), 0.8)

    assert np.abs(d["u_t"]).max() > 1
    # 1e-9: log_ndtr is good to 1e-13, two derivatives of a front of width 0.1 cost three digits.
    chex.assert_trees_all_close(d["u_t"] + d["u"] * d["u_x"], NU * d["u_xx"], atol=1e-9)


@pytest.mark.usefixtures("float64")
def test_the_wave_equation_holds_without_slope_at_the_walls() -> None:
    x, y, t = np.random.default_rng(0).uniform(0, 1, (3, 50))
    u = partial(wave_height, jnp.asarray(3.5), speed=0.7)

    @jax.jit
    @jax.vmap
    def derivatives(x, y, t):
        wall = jnp.round(x)  # 0 or 1
        second = [jax.grad(jax.grad(u, axis), axis)(x, y, t) for axis in range(3)]
        return second, [jax.grad(u, 0)(wall, y, t), jax.grad(u, 1)(x, wall, t)]

    second, slopes = derivatives(*(jnp.asarray(a) for a in (x, y, t)))

    assert np.abs(second[2]).max() > 1
    chex.assert_trees_all_close(second[2], 0.7**2 * (second[0] + second[1]), atol=1e-11)
    chex.assert_trees_all_close(slopes, [jnp.zeros(50)] * 2, atol=1e-13)


def test_the_wave_keeps_its_energy() -> None:
    times = frame_times(1.0, stored=401, kept=401)
    solve = jax.jit(partial(solve_wave, speed=1.0), static_argnums=1)
    u = np.asarray(solve(jnp.asarray([3.1, 3.8]), 41, times).frames, np.float64)
    weight = np.ones(41)
    weight[[0, -1]] = 0.5
    square = lambda f: np.einsum("bxyt,x,y->bt", f**2, weight, weight) / 40**2
    slope = lambda f, axis: (np.take(f, range(1, 41), axis) - np.take(f, range(40), axis)) * 40
    potential = (slope(u, 1) ** 2 * weight[None, None, :, None]).sum((1, 2)) / 40**2
    potential += (slope(u, 2) ** 2 * weight[None, :, None, None]).sum((1, 2)) / 40**2
    kinetic = square(np.gradient(u, np.asarray(times, np.float64), axis=-1))
    energy = (kinetic + potential)[:, 1:-1]

    assert np.ptp(potential[:, 1:-1]) > 10
    # Central differences lose (sqrt(2) pi / 400)² / 6 in time and (pi / 40)² / 12 in space.
    chex.assert_trees_all_close(energy, energy[:, :1].repeat(399, 1), rtol=1e-3)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("nu", "t"), [(0.1, 0.3), (0.02, 0.8), (0.001, 0.1), (0.001, 1.0)])
def test_the_step_solution_is_the_integral_of_cole_and_hopf(nu: float, t: float) -> None:
    # An average of the initial velocity with weights exp(-(x - y)²/(4 nu t) - Ψ(y)/(2 nu)).
    u_left, u_right = 0.8, -0.1
    h = 0.01 * nu  # the narrowest weights are 2 nu / jump wide
    far = round(4 / h) if nu > 0.01 else round(1.5 / h)
    y = np.arange(-far, far + 1) * h
    start = np.where(y < 0, u_left, u_right)
    start[far] = (u_left + u_right) / 2  # the trapezoidal rule on both sides of the step
    x = 0.5 + (u_left + u_right) / 2 * t + nu * np.array([-20, -3, -1, 0, 0.5, 2, 10])
    wanted = []
    for z in x - 0.5:
        exponent = -((z - y) ** 2) / (4 * nu * t) - y * np.where(y < 0, u_left, u_right) / (2 * nu)
        weight = np.exp(exponent - exponent.max())
        wanted.append((weight * start).sum() / weight.sum())
    velocity = jax.jit(jax.vmap(partial(step_velocity, nu=nu, u_right=u_right), (None, 0, None)))
    got = velocity(jnp.asarray(u_left), jnp.asarray(x), jnp.asarray(t))

    assert np.ptp(wanted) > 0.3
    # (0.01 nu / (2 nu / 0.9))² / 12 = 2e-6 for the rule.
    chex.assert_trees_all_close(np.asarray(got), np.array(wanted), atol=1e-5)


@pytest.mark.parametrize("nu", [0.1, 0.001])
def test_float32_keeps_the_digits_of_a_shock(nu: float) -> None:
    u_left = jnp.asarray([0.76, 0.8, 0.83])
    times = jnp.asarray([0.0, 1e-30, 1e-6, 1e-3, 0.1, 0.5, 1.0], jnp.float32)

    @jax.jit
    def solve(u_left, times):
        velocities = (partial(f, nu=nu) for f in (step_velocity, front_velocity))
        return [dirichlet_solution(f, u_left, 65, times).frames for f in velocities]

    single = solve(u_left, times)
    with jax.enable_x64(True):
        exact = jnp.asarray(np.asarray(u_left, np.float64))
        double = solve(exact, jnp.asarray(np.asarray(times, np.float64)))

    for ours, wanted in zip(single, double, strict=True):
        assert ours.dtype == jnp.float32 and wanted.dtype == jnp.float64 and np.ptp(wanted) > 0.6
        # Rounding x - s t by 6e-8 in an exponent jump (x - s t) / (2 nu) with slope 1/4: 6e-6.
        chex.assert_trees_all_close(np.asarray(ours), np.asarray(wanted), atol=1e-5)


def solved(
    name: str, params: list[float], points: int, times: jax.Array, **numbers: Any
) -> Solution:
    """Returns the solution of a problem with numbers of its own."""
    spec = PROBLEMS[name].default._replace(**numbers)
    solve = jax.jit(PROBLEMS[name].solve, static_argnums=(1, 3))
    return solve(jnp.asarray(params), points, times, spec)


def test_the_step_solution_starts_as_a_step() -> None:
    solution = solved("burgers", [0.8], 5, jnp.asarray([0.0, 1e-8, 0.5]), nu=0.01)
    step = jnp.asarray([0.8, 0.8, 0.4, 0, 0])

    chex.assert_trees_all_close(solution.initial[0], step, atol=1e-7)
    chex.assert_trees_all_close(solution.frames[0, :, 1], step, atol=1e-3)
    assert solution.frames[0, 3, 2] < 0.1 < solution.frames[0, 2, 2]  # it moved by 0.2


def test_stokes_boundary_data_are_the_oscillation_of_the_wall() -> None:
    times = frame_times(2.0, stored=9, kept=8)
    solution = solved("stokes", [3.0, 4.0], 11, times, nu=NU)
    (ends,) = solution.boundary
    t, x = np.asarray(times, np.float64), np.asarray(uniform_grid(11), np.float64)
    depth = x * np.sqrt(3 / (2 * NU))

    chex.assert_trees_all_close(ends.low, 2 * np.cos(np.outer([3, 4], t)), atol=2e-6)
    chex.assert_trees_all_equal(ends.high, solution.frames[:, -1])
    chex.assert_trees_all_close(solution.initial[0], 2 * np.exp(-depth) * np.cos(depth), atol=2e-6)
