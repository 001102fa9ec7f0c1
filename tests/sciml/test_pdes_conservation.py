"""The conservation laws: equations, jumps, masses by quadrature, limits, and finite derivatives."""

import functools
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special

from sciml.pdes.conservation import LAWS, check_law
from sciml.pdes.stefan import stefan_root
from tests.sciml.laws import (
    integrals,
    residual_of,
    smooth_points,
    times,
    value,
    values_and_slopes,
)

# Parameters inside and outside of the training ranges; Stefan's 0.05 has a front that leaves.
PARAMS = {
    "diffusion": [1.0, 2.7, 5.0],
    "pme": [0.7, 1.0, 3.0, 6.0],
    "stefan": [0.05, 0.5, 0.6, 0.9],
    "advection": [1.0, 3.0],
    "burgers_shock": [1.0, 2.5, 4.0],
}
CASES = [(name, param) for name, params in PARAMS.items() for param in params]
FRONTS = [(name, param) for name, param in CASES if name != "diffusion"]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("name", "param"), CASES)
def test_the_equation_holds_away_from_fronts_and_not_for_a_perturbed_field(
    name: str, param: float
) -> None:
    t, x = smooth_points(name, param)
    exact = residual_of(name, (1.0, 0.0, 0.0), param, t, x)
    perturbed = residual_of(name, (1.0, 0.01, 0.0), param, t, x)

    chex.assert_trees_all_close(exact, np.zeros(100), atol=1e-9)
    assert np.abs(perturbed).max() > 0.01


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("name", "param"), CASES)
def test_the_residual_is_the_equation_by_finite_differences(name: str, param: float) -> None:
    def field(t: np.ndarray, x: np.ndarray) -> np.ndarray:
        return 0.6 + 0.3 * np.sin(2 * x + 3 * t)

    t, x = np.random.default_rng(1).uniform(0, 1, (2, 40))
    h = 1e-4
    coefficient = {
        "diffusion": lambda u: param + 0 * u,
        "pme": lambda u: u**param,
        "stefan": lambda u: (u >= param) * 1.0,
    }

    def flux(x: np.ndarray) -> np.ndarray:
        u = field(t, x)
        if name == "advection":
            return param * u
        if name == "burgers_shock":
            return u**2 / 2
        return -coefficient[name](u) * (field(t, x + h / 2) - field(t, x - h / 2)) / h

    u_t = (field(t + h, x) - field(t - h, x)) / (2 * h)
    wanted = u_t + (flux(x + h / 2) - flux(x - h / 2)) / h
    got = residual_of(name, (0.0, 0.3, 0.6), param, t, x)
    off = np.abs(field(t, x) - param) > 1e-3 if name == "stefan" else np.ones(40, bool)
    chex.assert_trees_all_close(got[off], wanted[off], atol=1e-5)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("name", "param"), CASES)
def test_fluxes_are_those_of_the_solution(name: str, param: float) -> None:
    t, x = smooth_points(name, param)
    u, (_, _, u_x) = values_and_slopes(name, "solution", param, t, x)
    wanted = {
        "diffusion": -param * u_x,
        "pme": -(u**param) * u_x,
        "stefan": -u_x,
        "advection": param * u,
        "burgers_shock": u**2 / 2,
    }

    got = value(name, "flux", param, t, x)
    chex.assert_trees_all_close(got, wanted[name], atol=1e-12)
    assert np.abs(got).max() > 0.1
    low, high = LAWS[name].domain
    moments = times(name)
    for field, end in (("flux_in", low), ("flux_out", high)):
        at_end = value(name, "flux", param, moments, end)
        chex.assert_trees_all_close(value(name, field, param, moments), at_end, rtol=1e-14)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("name", "param"), FRONTS)
def test_a_jump_moves_with_the_jump_of_the_flux_over_that_of_the_solution(
    name: str, param: float
) -> None:
    t = times(name)
    t = t[t * param > 1.02] if name == "burgers_shock" else t  # there is a shock
    front = value(name, "front", param, t)
    _, (_, speed, _) = values_and_slopes(name, "front", param, t)
    gap = 1e-7

    def jump(field: str) -> np.ndarray:
        return value(name, field, param, t, front - gap) - value(name, field, param, t, front + gap)

    assert not np.any(value(name, "solution", param, t, front + gap))
    assert np.all(value(name, "solution", param, t, front - gap) > 0)
    chex.assert_trees_all_close(jump("flux"), speed * jump("solution"), rtol=1e-5)
    heights = {"stefan": param, "advection": 1.0, "burgers_shock": param, "pme": 0.0}
    wanted = np.full(len(t), heights[name])
    if name != "pme":
        chex.assert_trees_all_close(jump("solution"), wanted, atol=1e-5)
    else:  # continuous, and the slope of u^m jumps by -m
        chex.assert_trees_all_close(jump("solution") ** param / gap, wanted + param, rtol=1e-6)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("name", "param"), CASES)
def test_masses_are_integrals_of_the_solution(name: str, param: float) -> None:
    low, high = LAWS[name].domain
    t, x = (a.ravel() for a in np.meshgrid(times(name), np.linspace(low, high, 8)))

    got = value(name, "window_mass", param, t, x)
    chex.assert_trees_all_close(got, integrals(name, param, t, x), atol=1e-12)
    total = value(name, "mass", param, times(name))
    chex.assert_trees_all_close(total, got[-5:], rtol=1e-14)  # x is the high end


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("name", "param"), CASES)
def test_windows_gain_what_flows_in_and_lose_what_flows_out(name: str, param: float) -> None:
    t, x = smooth_points(name, param)
    _, (_, gain, density) = values_and_slopes(name, "window_mass", param, t, x)
    fluxes = value(name, "flux_in", param, t) - value(name, "flux", param, t, x)

    chex.assert_trees_all_close(gain, fluxes, atol=1e-11)
    chex.assert_trees_all_close(density, value(name, "solution", param, t, x), atol=1e-11)
    moments = times(name)
    _, (_, total, _) = values_and_slopes(name, "mass", param, moments)
    through = value(name, "flux_in", param, moments) - value(name, "flux_out", param, moments)
    chex.assert_trees_all_close(total, through, atol=1e-11)


@pytest.mark.usefixtures("float64")
def test_masses_are_those_of_the_paper_and_saturate() -> None:
    t = np.linspace(0, 1, 21)

    def near(name: str, param: float, wanted: np.ndarray, t: np.ndarray = t) -> None:
        chex.assert_trees_all_close(value(name, "mass", param, t), wanted, atol=1e-14)

    near("diffusion", 2.0, np.zeros(21))
    near("pme", 3.0, 3 ** (4 / 3) / 4 * t ** (4 / 3))
    z = optimize.brentq(
        lambda z: 0.6 * special.erf(z) * z * np.exp(z**2) - 0.4 / np.sqrt(np.pi), 1e-9, 10
    )
    near("stefan", 0.6, 2 * 0.4 / special.erf(z) * np.sqrt(t / 10 / np.pi), t / 10)
    near("advection", 3.0, np.minimum(0.5 + 3 * t, 1))
    near("burgers_shock", 3.0, 1.5 * (1 + 3 * t))
    near("burgers_shock", 4.0, np.minimum(2 * (1 + 4 * t), 8))
    late = value("burgers_shock", "mass", 4.0, np.array([0.76, 0.9, 1.0]))
    chex.assert_trees_all_equal(late, np.full(3, 8.0))


@pytest.mark.usefixtures("float64")
def test_porous_medium_with_m_1_is_linear() -> None:
    t, x = np.random.default_rng(2).uniform(0, 1, (2, 100))

    got = value("pme", "solution", 1.0, t, x)
    chex.assert_trees_all_close(got, np.maximum(t - x, 0), atol=1e-15)


@pytest.mark.usefixtures("float64")
def test_the_burgers_ramp_becomes_the_shock_without_a_gap() -> None:
    x = np.linspace(-1, 1, 101)
    for a in (1.0, 3.0, 3.7):
        at = value("burgers_shock", "solution", a, 1 / a, x)
        before = value("burgers_shock", "solution", a, 1 / a - 1e-9, x)
        initial = value("burgers_shock", "solution", a, 0.0, x)

        away = np.abs(x) > 1e-6  # x = 0 is the shock at t = 1/a
        chex.assert_trees_all_close(at[away], np.where(x < 0, a, 0.0)[away], atol=1e-12)
        chex.assert_trees_all_close(before[away], at[away], atol=1e-6)
        chex.assert_trees_all_close(initial, a * np.maximum(-x, 0), atol=1e-15)


@pytest.mark.usefixtures("float64")
def test_the_root_of_stefan_satisfies_its_equation_with_derivatives() -> None:
    h = 1e-4
    # To both ends of what float64 has between 0 and 1.
    u = np.array([1e-100, 0.01, 0.1, 0.5, 0.6, 0.9, 1 - 1e-8, 1 - 2**-52])
    around = np.array([0.05, 0.6, 0.95]) + h * np.array([[-1], [0], [1]])
    slope = jax.grad(stefan_root)
    roots = jax.jit(jax.vmap(lambda u: (stefan_root(u), slope(u), jax.grad(slope)(u))))
    z, slopes, curvatures = (np.asarray(a) for a in roots(jnp.append(u, around)))
    left = u * special.erf(z[:8]) * z[:8] * np.exp(z[:8] ** 2)

    chex.assert_trees_all_close(left, (1 - u) / np.sqrt(np.pi), rtol=1e-12)
    assert z[7] == pytest.approx(2**-26.5, rel=1e-12)  # u* z² = (1 - u*) / 2 for a small z
    below, middle, above = z[8:].reshape(3, 3)
    chex.assert_trees_all_close(slopes[11:14], (above - below) / (2 * h), rtol=1e-4)
    chex.assert_trees_all_close(curvatures[11:14], (above - 2 * middle + below) / h**2, rtol=1e-4)
    front = value("stefan", "front", 0.6, 0.05)
    chex.assert_trees_all_close(front, np.array([0.235087]), atol=1e-6)


# Its programs are compiled for this test alone, in seconds for each law.
@pytest.mark.parametrize(
    ("name", "param"),
    [pytest.param(*case, marks=[pytest.mark.slow] * (case[0] != "stefan")) for case in CASES],
)
def test_values_and_derivatives_are_finite_in_float32_also_at_corners(
    name: str, param: float
) -> None:
    law = LAWS[name]
    low, high = law.domain
    corners = [0.0, law.report_time, law.final_time, min(1 / param, law.final_time)]
    t, x = np.meshgrid(corners, [low, *np.linspace(low, high, 41), 0.5, high])
    t, x = (a.ravel().astype(np.float32) for a in (t, x))
    for field in ("solution", "window_mass", "flux", "front", "mass"):
        if getattr(law, field) is None:
            continue
        found = values_and_slopes(name, field, param, t, x, dtype=np.float32)
        u, (by_param, *others) = found
        chex.assert_type(u, np.float32)
        # The flux of Stefan starts infinite at x = 0, its mass and front as sqrt(t).
        keep = (t > 0) | (x > low) if field == "flux" else np.ones(t.shape, bool)
        chex.assert_tree_all_finite((u[keep], by_param[keep]))
        chex.assert_tree_all_finite([slope[t > 0] for slope in others])
    if name == "stefan":
        start = np.zeros(1)
        assert values_and_slopes(name, "flux_in", param, start, dtype=np.float32)[0] == np.inf


@pytest.mark.parametrize("name", ["advection", "burgers_shock", "stefan"])
def test_a_front_belongs_to_its_left_side_also_if_another_program_found_it(name: str) -> None:
    law, random = LAWS[name], np.random.default_rng(0)
    low, high = (0.05, 0.95) if name == "stefan" else (1.1, 5.0)
    param = random.uniform(low, high, 20).astype(np.float32)
    late = random.uniform(0, 1, (20, 100)).astype(np.float32)
    # Burgers' shock from the moment that it forms on.
    t = (1 + 2 * late) / param[:, None] if name == "burgers_shock" else late
    assert law.front is not None

    front = law.front(param, t)  # a program of its own
    on, flux, beyond = law.solution(param, t, front), law.flux(param, t, front), front + 1e-5
    inside = np.asarray(front) < np.inf

    heights = param[:, None] if name != "advection" else np.ones((20, 1))
    np.testing.assert_allclose(on, np.broadcast_to(heights, on.shape), rtol=1e-5)
    assert np.all(np.asarray(flux)[inside] > 0)
    assert not np.any(law.solution(param, t, beyond * (1 + 1e-6)))


@functools.cache
def penalty(name: str) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Returns (weights, params [n], t, x) -> mean squared residual of a network, and slope."""

    def loss(weights: jax.Array, params: jax.Array, t: jax.Array, x: jax.Array) -> jax.Array:
        def one(p: jax.Array, t: jax.Array, x: jax.Array) -> jax.Array:
            def fn(t: jax.Array, x: jax.Array) -> jax.Array:  # crosses 0
                return jnp.tanh(weights[0] * x + weights[1] * t) * weights[2]

            return LAWS[name].residual(fn, p, t, x)

        over_points = jax.vmap(one, (None, 0, 0))
        return jnp.mean(jax.vmap(over_points)(params, t, x) ** 2)

    return jax.jit(jax.value_and_grad(loss))


@pytest.mark.parametrize(("name", "param"), CASES)
def test_a_penalty_of_the_residual_trains_what_the_field_closes_over(
    name: str, param: float
) -> None:
    t, x = np.random.default_rng(3).uniform(0, 1, (2, 2, 30))
    t, x = (jnp.asarray(a.astype(np.float32)).at[0, 0].set(0.0) for a in (t, x))
    weights = jnp.asarray([1.3, -0.8, 1.1], jnp.float32)
    params = jnp.asarray([param, param * 1.05], jnp.float32)
    grads = np.asarray(penalty(name)(weights, params, t, x)[1])

    assert np.all(np.isfinite(grads))
    for i in range(3):
        step = jnp.zeros(3).at[i].set(1e-2)
        high, low = (penalty(name)(weights + s * step, params, t, x)[0] for s in (1, -1))
        if name not in ("pme", "stefan"):  # their residuals jump with the sign of u and u - u*
            assert grads[i] == pytest.approx(float(high - low) / 2e-2, rel=0.02, abs=2e-3)
    assert np.abs(grads).max() > 1e-3


@pytest.mark.slow  # three programs for each law
@pytest.mark.usefixtures("float64")
def test_every_function_has_its_own_parameter() -> None:
    t, x = np.random.default_rng(4).uniform(0.01, 1, (2, 2, 7))
    for name, law in LAWS.items():
        params = (0.55, 0.7) if name == "stefan" else (1.5, 4.0)
        args = jnp.asarray(params), jnp.asarray(t * law.final_time), jnp.asarray(x)
        functions = {field: getattr(law, field) for field in ("solution", "window_mass", "flux")}
        batches = jax.jit(lambda *a, f=functions: {k: v(*a) for k, v in f.items()})(*args)
        for field, batch in batches.items():
            for i, param in enumerate(params):
                alone = value(name, field, param, t[i] * law.final_time, x[i])
                chex.assert_trees_all_close(np.asarray(batch[i]), alone, atol=1e-14)
            assert not np.allclose(batch[0], batch[1])


def test_the_numbers_of_the_registry_are_sound() -> None:
    assert set(LAWS) == {"diffusion", "pme", "stefan", "advection", "burgers_shock"}
    for name, law in LAWS.items():
        assert 0 < law.report_time < law.final_time
        assert check_law(name, (0.3, 0.9)) is law
        assert (law.front is None) == (name == "diffusion")


@pytest.mark.parametrize(
    ("name", "param", "message"),
    [
        ("heat", 1.0, "law 'heat': expected one of diffusion, pme"),
        ("diffusion", -1.0, "k=-1 of the law 'diffusion': expected 0 < k < inf"),
        ("pme", 0.0, "m=0"),
        ("stefan", 1.0, r"u\*=1 of the law 'stefan': expected 0 < u\* < 1"),
        ("stefan", (0.5, -0.1), r"u\*=-0.1"),
        ("advection", float("nan"), "a=nan"),
        ("burgers_shock", float("inf"), "a=inf"),
    ],
)
def test_parameters_without_a_solution_are_refused(
    name: str, param: float | tuple[float, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_law(name, param)
