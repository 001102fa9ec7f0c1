"""The conservation laws: equations, jumps, masses by quadrature, limits, and finite derivatives."""

import functools
from collections.abc import Callable, Iterator

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special

from sciml.pdes.conservation import LAWS, check_law
from sciml.pdes.stefan import stefan_root

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


@pytest.fixture
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def value(
    name: str, field: str, param: float, *points: float | np.ndarray | jax.Array
) -> np.ndarray:
    """Returns one batched function of a law for one parameter at paired points [p]."""
    t, *x = np.broadcast_arrays(*(np.atleast_1d(np.asarray(p, float)) for p in points))
    arrays = [jnp.asarray(p)[None, :] for p in (t, *x)]
    return np.asarray(getattr(LAWS[name], field)(jnp.asarray([param]), *arrays)[0])


def point_function(name: str, field: str):
    """Returns a batched function of a law as a function of scalars, for derivatives."""
    batched = getattr(LAWS[name], field)

    def point(param: jax.Array, *points: jax.Array) -> jax.Array:
        return batched(param[None], *(p[None, None] for p in points))[0, 0]

    return point


@functools.cache
def compiled(name: str, field: str) -> Callable[..., tuple[jax.Array, tuple[jax.Array, ...]]]:
    """Returns (param, *points [p]) -> values [p] and their derivatives by param, t and x."""
    num = 2 if field in ("front", "mass") else 3
    slopes = jax.value_and_grad(point_function(name, field), tuple(range(num)))
    return jax.jit(jax.vmap(slopes, (None,) + (0,) * (num - 1)))


@functools.cache
def residuals(name: str) -> Callable[..., jax.Array]:
    """Returns (size, param, t [p], x [p]) -> residuals of the solution and a wave of that size."""
    u = point_function(name, "solution")

    def residual(size: jax.Array, p: jax.Array, t: jax.Array, x: jax.Array) -> jax.Array:
        def field(t: jax.Array, x: jax.Array) -> jax.Array:
            return u(p, t, x) + size * jnp.cos(3 * x + 5 * t)

        return LAWS[name].residual(field, p, t, x)

    return jax.jit(jax.vmap(residual, (None, None, 0, 0)))


def kinks(name: str, param: float, t: np.ndarray) -> list[np.ndarray]:
    """Returns the places where the solution is not smooth, at every time."""
    if name == "diffusion":
        return []
    front = value(name, "front", param, t)
    return [param * t - 1, front] if name == "burgers_shock" else [front]


def smooth_points(name: str, param: float) -> tuple[jax.Array, jax.Array]:
    """Returns random points t, x of the domain, none of them near a kink."""
    law = LAWS[name]
    random = np.random.default_rng(0)
    t = random.uniform(0.1, 1, 200) * law.final_time
    x = random.uniform(*law.domain, 200)
    far = np.ones(200, bool)
    for kink in kinks(name, param, t):
        far &= np.abs(x - kink) > 0.01
    return jnp.asarray(t[far][:100]), jnp.asarray(x[far][:100])


def times(name: str) -> np.ndarray:
    return np.array([0.05, 0.31, 0.52, 0.77, 0.98]) * LAWS[name].final_time


def quadrature(name: str, param: float, t: float, high: float) -> float:
    """Returns the integral of the solution from the low end to `high`, piece by piece."""
    low = LAWS[name].domain[0]
    inner = sorted(float(k[0]) for k in kinks(name, param, np.array([t])) if low < k[0] < high)
    ends = [low, *inner, high]
    total = 0.0
    for left, right in zip(ends[:-1], ends[1:], strict=True):
        # s = right - width r^8 takes the root singularity of the PME at a front away.
        nodes, weights = np.polynomial.legendre.leggauss(60)
        r, width = (nodes + 1) / 2, right - left
        u = value(name, "solution", param, t, right - width * r**8)
        total += width * float(np.sum(weights / 2 * 8 * r**7 * u))
    return total


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("name", "param"), CASES)
def test_the_equation_holds_away_from_fronts_and_not_for_a_perturbed_field(
    name: str, param: float
) -> None:
    args = jnp.asarray(param), *smooth_points(name, param)
    exact, perturbed = (np.asarray(residuals(name)(jnp.asarray(s), *args)) for s in (0.0, 0.01))

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
    residual = jax.jit(
        jax.vmap(
            lambda t, x: LAWS[name].residual(
                lambda t, x: 0.6 + 0.3 * jnp.sin(2 * x + 3 * t), jnp.asarray(param), t, x
            )
        )
    )

    got = np.asarray(residual(jnp.asarray(t), jnp.asarray(x)))
    off = np.abs(field(t, x) - param) > 1e-3 if name == "stefan" else np.ones(40, bool)
    chex.assert_trees_all_close(got[off], wanted[off], atol=1e-5)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("name", "param"), CASES)
def test_fluxes_are_those_of_the_solution(name: str, param: float) -> None:
    t, x = smooth_points(name, param)
    u, (_, _, u_x) = compiled(name, "solution")(jnp.asarray(param), t, x)
    wanted = {
        "diffusion": -param * u_x,
        "pme": -(u**param) * u_x,
        "stefan": -u_x,
        "advection": param * u,
        "burgers_shock": u**2 / 2,
    }

    got = value(name, "flux", param, np.asarray(t), np.asarray(x))
    chex.assert_trees_all_close(got, np.asarray(wanted[name]), atol=1e-12)
    assert np.abs(got).max() > 0.1
    low, high = LAWS[name].domain
    moments = times(name)
    for field, end in (("flux_in", low), ("flux_out", high)):
        chex.assert_trees_all_equal(
            value(name, field, param, moments), value(name, "flux", param, moments, end)
        )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("name", "param"), FRONTS)
def test_a_jump_moves_with_the_jump_of_the_flux_over_that_of_the_solution(
    name: str, param: float
) -> None:
    t = times(name)
    t = t[t * param > 1.02] if name == "burgers_shock" else t  # there is a shock
    front = value(name, "front", param, t)
    _, (_, speed) = compiled(name, "front")(jnp.asarray(param), jnp.asarray(t))
    gap = 1e-7

    def jump(field: str) -> np.ndarray:
        return value(name, field, param, t, front - gap) - value(name, field, param, t, front + gap)

    assert not np.any(value(name, "solution", param, t, front + gap))
    assert np.all(value(name, "solution", param, t, front - gap) > 0)
    chex.assert_trees_all_close(jump("flux"), np.asarray(speed) * jump("solution"), rtol=1e-5)
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
    for t in times(name):
        for x in np.linspace(low, high, 8):
            wanted = np.array([quadrature(name, param, t, x)]) if x > low else np.zeros(1)
            got = value(name, "window_mass", param, t, x)
            chex.assert_trees_all_close(got, wanted, atol=1e-12)
        total = value(name, "mass", param, t)
        chex.assert_trees_all_equal(total, value(name, "window_mass", param, t, high))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("name", "param"), CASES)
def test_windows_gain_what_flows_in_and_lose_what_flows_out(name: str, param: float) -> None:
    p, t, x = jnp.asarray(param), *smooth_points(name, param)
    _, (_, gain, density) = compiled(name, "window_mass")(p, t, x)
    fluxes = value(name, "flux_in", param, t) - value(name, "flux", param, t, x)

    chex.assert_trees_all_close(np.asarray(gain), fluxes, atol=1e-11)
    chex.assert_trees_all_close(
        np.asarray(density), value(name, "solution", param, t, x), atol=1e-11
    )
    moments = times(name)
    _, (_, total) = compiled(name, "mass")(p, jnp.asarray(moments))
    through = value(name, "flux_in", param, moments) - value(name, "flux_out", param, moments)
    chex.assert_trees_all_close(np.asarray(total), through, atol=1e-11)


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
    u = jnp.asarray([1e-6, 0.01, 0.1, 0.5, 0.6, 0.9, 0.99, 1 - 1e-8])
    z = np.asarray(jax.jit(jax.vmap(stefan_root))(u))
    left = np.asarray(u) * special.erf(z) * z * np.exp(z**2)
    right = (1 - np.asarray(u)) / np.sqrt(np.pi)

    chex.assert_trees_all_close(left, right, rtol=1e-12)
    h, u = 1e-4, jnp.asarray([0.05, 0.6, 0.95])
    over = lambda f, u: np.asarray(jax.jit(jax.vmap(f))(u))
    order = [stefan_root, jax.grad(stefan_root), jax.grad(jax.grad(stefan_root))]
    below, middle, above = (over(stefan_root, u + s * h) for s in (-1, 0, 1))
    slope, curvature = (over(f, u) for f in order[1:])
    chex.assert_trees_all_close(slope, (above - below) / (2 * h), rtol=1e-4)
    chex.assert_trees_all_close(curvature, (above - 2 * middle + below) / h**2, rtol=1e-4)
    front = value("stefan", "front", 0.6, 0.05)
    chex.assert_trees_all_close(front, np.array([0.235087]), atol=1e-6)


@pytest.mark.parametrize(("name", "param"), CASES)
def test_values_and_derivatives_are_finite_in_float32_also_at_corners(
    name: str, param: float
) -> None:
    law, p = LAWS[name], jnp.float32(param)
    low, high = law.domain
    corners = [0.0, law.report_time, law.final_time, min(1 / param, law.final_time)]
    t, x = np.meshgrid(corners, [low, *np.linspace(low, high, 41), 0.5, high])
    t, x = (a.ravel().astype(np.float32) for a in (t, x))
    for field in ("solution", "window_mass", "flux", "front", "mass"):
        if getattr(law, field) is None:
            continue
        points = (t,) if field in ("front", "mass") else (t, x)
        u, (by_param, *others) = compiled(name, field)(p, *(jnp.asarray(a) for a in points))
        chex.assert_type(u, jnp.float32)
        # The flux of Stefan starts infinite at x = 0, its mass and front as sqrt(t).
        keep = (t > 0) | (x > low) if field == "flux" else np.ones(t.shape, bool)
        chex.assert_tree_all_finite((u[keep], by_param[keep]))
        chex.assert_tree_all_finite([slope[t > 0] for slope in others])
    if name == "stefan":
        assert value(name, "flux_in", param, 0.0) == np.inf


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


@pytest.mark.usefixtures("float64")
def test_every_function_has_its_own_parameter() -> None:
    t, x = np.random.default_rng(4).uniform(0.01, 1, (2, 2, 7))
    for name, law in LAWS.items():
        params = (0.55, 0.7) if name == "stefan" else (1.5, 4.0)
        args = jnp.asarray(params), jnp.asarray(t * law.final_time), jnp.asarray(x)
        for field in ("solution", "window_mass", "flux"):
            batch = getattr(law, field)(*args)
            for i, param in enumerate(params):
                alone = value(name, field, param, t[i] * law.final_time, x[i])
                chex.assert_trees_all_close(np.asarray(batch[i]), alone, atol=1e-14)
        assert not np.allclose(law.window_mass(*args)[0], law.window_mass(*args)[1])


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
