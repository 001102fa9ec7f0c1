"""Limits of stability against what the optimizers of optax do on quadratics and on one product."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from landscape.stability import check_start, edge_of_stability, largest_learning_rate, limit
from tests.landscape.problems import quadratic, symmetric

RULES: tuple[dict[str, Any], ...] = (
    {"momentum": 0.0},
    {"momentum": 0.5},
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.5, "nesterov": True, "weight_decay": 3.0},
    {"momentum": 0.0, "weight_decay": 3.0},
)
AROUND = np.array([0.99, 1.01])


def distances(curvatures: jax.Array, rule: dict, learning_rate: float) -> jax.Array:
    """Returns |theta_i| after 500 steps on sum_i c_i theta_i^2 / 2, of all optimizers alike."""
    optimizer = optax.chain(
        optax.add_decayed_weights(rule.get("weight_decay", 0.0)),
        optax.sgd(learning_rate, rule["momentum"], rule.get("nesterov", False)),
    )

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        theta, state = carry
        updates, state = optimizer.update(curvatures * theta, state, theta)
        return (theta + updates, state), None

    start = jnp.ones_like(curvatures)
    return jnp.abs(jax.lax.scan(step, (start, optimizer.init(start)), None, length=500)[0][0])


def test_optimizers_converge_just_below_their_limit_and_diverge_just_above() -> None:
    learning_rate, limits = 0.1, [limit(0.1, **rule) for rule in RULES]

    def of_all(curvatures: list[jax.Array]) -> list[jax.Array]:
        pairs = zip(curvatures, RULES, strict=True)
        return [distances(c, rule, learning_rate) for c, rule in pairs]

    found = jax.jit(of_all)([jnp.asarray(one * AROUND) for one in limits])
    for (below, above), rule in zip(found, RULES, strict=True):
        # Of gradient descent they shrink by 1 % to 2 % a step, of momentum faster.
        assert below < 0.1 < 10 < above, rule


def test_the_largest_learning_rate_is_the_one_with_that_limit() -> None:
    for rule in RULES:
        np.testing.assert_allclose(limit(largest_learning_rate(7.0, **rule), **rule), 7.0)
    assert largest_learning_rate(-1.0) == np.inf  # a saddle or a maximum has no limit


def test_descent_on_a_product_ends_only_in_minima_below_the_limit() -> None:
    """(a b - y)^2 / 2 has the sharpness a^2 + b^2 at its minima a b = y."""
    learning_rate, y = 0.2, 1.0

    def step(_: int, pair: jax.Array) -> jax.Array:
        a, b = pair
        return pair - learning_rate * (a * b - y) * jnp.stack([b, a])

    with jax.enable_x64(True):
        random = np.random.default_rng(0)
        a = random.uniform(0.2, 4.0, 200) * random.choice([-1, 1], 200)
        # Beside a minimum each: half of these are sharper than the limit.
        starts = jnp.asarray(np.stack([a, y / a + 1e-3], axis=1))
        run = jax.jit(jax.vmap(lambda pair: jax.lax.fori_loop(0, 3000, step, pair)))
        ends, sharpness = np.asarray(run(starts)), np.sum(np.asarray(starts) ** 2, axis=1)
    error = np.abs(ends[:, 0] * ends[:, 1] - y)
    converged, after = error < 1e-6, np.sum(ends**2, axis=1)
    allowed = limit(learning_rate)
    assert np.all(after[converged] <= allowed)
    assert np.all(converged[sharpness < 0.98 * allowed])
    sharp = sharpness > 1.02 * allowed
    assert sharp.sum() > 20 and np.sum(converged & sharp) > 10  # most move to flatter minima
    np.testing.assert_allclose(
        after[sharpness < 0.5 * allowed], sharpness[sharpness < 0.5 * allowed], rtol=0.01
    )


def test_the_edge_of_a_quadratic_is_that_of_its_matrix() -> None:
    batches = [{"matrix": symmetric([1.0, 2.0, 4.0, 10.0]).astype(np.float32)}]
    params = {"w": jnp.ones(4)}
    cases = ((0.05, "below", 0.25), (0.2, "at", 1.0), (0.4, "above", 2.0))
    for learning_rate, place, ratio in cases:
        edge = edge_of_stability(
            quadratic, params, batches, key=jax.random.key(0), learning_rate=learning_rate
        )
        # Products in float32: a few units in the last place.
        np.testing.assert_allclose(edge.sharpness, 10, rtol=1e-5)
        np.testing.assert_allclose([edge.limit, edge.ratio], [2 / learning_rate, ratio], rtol=1e-5)
        assert edge.place == place and edge.residual < 1e-4


def test_a_learning_rate_above_the_limit_is_refused_at_the_start() -> None:
    check_start(31.8, 0.06)
    check_start(31.8, 0.1, times=2)
    said = r"^learning_rate=0\.2: the loss has sharpness 31\.8 .* limit 10; .*at most 0\.06289$"
    with pytest.raises(ValueError, match=said):
        check_start(31.8, 0.2)
    with pytest.raises(ValueError, match=r"above 2 times the limit 10; expected at most 0\.1258"):
        check_start(31.8, 0.2, times=2)
    with pytest.raises(ValueError, match="sharpness nan"):
        check_start(float("nan"), 0.2)
    for values, field in (
        ((0.0, 0.0, 0.0), "learning_rate=0"),
        ((0.1, 1.0, 0.0), "momentum=1"),
        ((0.1, 0.0, -1.0), "weight_decay=-1"),
    ):
        with pytest.raises(ValueError, match=field):
            limit(values[0], momentum=values[1], weight_decay=values[2])
