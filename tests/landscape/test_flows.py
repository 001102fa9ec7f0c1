"""Flows against closed forms, and against gradient descent at the edge of stability."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from landscape.flows import central_flow, gradient_flow, least_covariance
from tests.landscape.problems import quadratic, rounding, symmetric

LEARNING_RATE, STEPS = 0.2, 400


def sharpening(params: Any, drift: Any) -> jax.Array:
    """Returns s x^2 / 2 - drift s: x = 0 is the minimum of curvature s, and s rises."""
    return params["s"] * params["x"] ** 2 / 2 - drift * params["s"]


def descended(params: Any, drift: Any) -> Any:
    """Returns the path of gradient descent."""

    def step(params: Any, _: None) -> tuple[Any, Any]:
        grads = jax.grad(sharpening)(params, drift)
        new = jax.tree.map(lambda x, g: x - LEARNING_RATE * g, params, grads)
        return new, new

    return jax.lax.scan(step, params, None, length=STEPS)[1]


def test_gradient_flow_of_a_quadratic_is_the_matrix_exponential() -> None:
    with jax.enable_x64(True):
        matrix, start = symmetric([0.5, 2.0, 5.0, 40.0]), np.ones(4)
        times = jnp.asarray(np.array([0.0, 0.1, 0.5, 2.0]))
        flow = jax.jit(
            lambda w: gradient_flow(quadratic, w, {"matrix": matrix}, times, rtol=1e-9, atol=1e-12)
        )
        found = flow({"w": jnp.asarray(start)})["w"]
        values, basis = np.linalg.eigh(matrix)
        wanted = np.stack([basis @ (np.exp(-values * float(t)) * (basis.T @ start)) for t in times])
        # The error of all steps: some hundreds of 1e-9.
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_the_central_flow_stays_at_the_edge_around_which_descent_oscillates() -> None:
    """Gradient flow goes on with s' = drift; at s = 2 / eta, x^2 = 2 drift keeps s where it is."""
    with jax.enable_x64(True):
        drift, limit = 0.05, 2 / LEARNING_RATE
        start = {"x": np.asarray(0.33), "s": np.asarray(9.9)}
        times = jnp.asarray(LEARNING_RATE * np.arange(STEPS + 1.0))
        options: Any = dict(
            learning_rate=LEARNING_RATE, num_steps=STEPS, key=jax.random.key(0), k=1
        )
        runs = jax.jit(
            lambda start: (
                descended(start, drift),
                gradient_flow(sharpening, start, drift, times, rtol=1e-8, atol=1e-10),
                central_flow(sharpening, start, drift, **options),
            )
        )
        descent, flow, central = jax.device_get(runs(start))
        late = slice(STEPS // 2, None)

        assert np.all(np.diff(sharpening(flow, drift)) < 0)
        assert np.sum(np.diff(sharpening(descent, drift)) > 0) > STEPS // 5
        np.testing.assert_allclose(flow["s"][-1], 9.9 + drift * times[-1], rtol=0.01)
        # Closed form, once x has died out.
        assert np.max(central.sharpness) <= limit * (1 + 1e-9)
        np.testing.assert_allclose(central.params["s"][late], limit, rtol=1e-6)
        np.testing.assert_allclose(central.variance[late], 2 * drift, rtol=1e-6)
        # Averages of descent over its turns around that point; gradient flow is far away.
        error = abs(np.mean(descent["s"][late]) - limit)
        assert error < 0.1 * abs(np.mean(flow["s"][1:][late]) - limit)
        np.testing.assert_allclose(np.mean(descent["x"][late] ** 2), 2 * drift, rtol=0.1)


def test_the_covariance_solves_its_complementarity_problem() -> None:
    with jax.enable_x64(True):
        random = np.random.default_rng(0)
        solve = jax.jit(least_covariance)
        for k in (1, 3):
            slopes = random.normal(size=(k, k, 12))
            slopes = slopes + slopes.transpose(1, 0, 2)
            gram = np.einsum("ijn,kln->ijkl", slopes, slopes)
            room = symmetric(np.linspace(-2, 1, k) if k > 1 else [-2.0])
            x = np.asarray(solve(room, gram))
            y = room + np.einsum("ijkl,kl->ij", gram, x)
            size = np.linalg.norm(room)
            assert np.linalg.eigvalsh(x)[0] >= -rounding(1, k)
            # As far as 300 steps go, relative to what had to be made up for.
            assert np.linalg.eigvalsh(y)[0] >= -1e-4 * size
            assert abs(np.sum(x * y)) <= 1e-4 * size * np.trace(x) and np.trace(x) > 0
            if k == 1:
                np.testing.assert_allclose(x, 2 / gram[0, 0], rtol=1e-10)
            assert not np.any(solve(np.eye(k), gram))  # there is room already


def test_flows_refuse_what_makes_no_sense() -> None:
    options: dict[str, Any] = dict(learning_rate=0.1, key=jax.random.key(0))
    start = {"x": jnp.ones(()), "s": jnp.ones(())}
    with pytest.raises(ValueError, match="num_steps=5: expected a multiple of every=2"):
        central_flow(sharpening, start, 1.0, num_steps=5, every=2, **options)
    with pytest.raises(ValueError, match="substeps=1: expected at least 2"):
        central_flow(sharpening, start, 1.0, num_steps=4, substeps=1, **options)
