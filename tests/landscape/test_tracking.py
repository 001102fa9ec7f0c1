"""Sharpness along a run: against matrices written down, and against the Hessian of small nets."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from common.gradients import sam
from common.steps import gradient_step, init_train_state, stateful_step
from landscape.products import GaussNewton
from landscape.tracking import (
    Top,
    init_tracked_state,
    start_vectors,
    top_pairs,
    track,
    tracked_step,
)
from tests.landscape.problems import (
    VALUES,
    N,
    assert_close,
    by_definition,
    classification,
    cross_entropy,
    init_relu,
    labelled,
    predicted,
    rounding,
    symmetric,
)

GAUSS_NEWTON = GaussNewton(predicted, cross_entropy)


@partial(jax.jit, static_argnames="tolerance")
def pairs_of(matrix: jax.Array, start: jax.Array, tolerance: float) -> Top:
    return top_pairs(lambda v: matrix @ v, start, tolerance=tolerance)


def test_pairs_of_a_matrix_are_those_of_its_krylov_space() -> None:
    """The Rayleigh-Ritz values over an orthonormal basis of (v, A v, A^2 v, A^3 v)."""
    with jax.enable_x64(True):
        matrix, start = symmetric(VALUES), np.random.default_rng(1).normal(size=(1, N))
        top = pairs_of(matrix, start, 0.0)
        powers = np.stack([np.linalg.matrix_power(matrix, i) @ start[0] for i in range(4)])
        basis = np.linalg.qr((powers / np.linalg.norm(powers, axis=1, keepdims=True)).T)[0]
        values, mix = np.linalg.eigh(basis.T @ matrix @ basis)
        vector = np.asarray(top.vectors[0])

        assert int(top.num_products) == 4
        np.testing.assert_allclose(top.values, values[-1:], rtol=1e-10)
        np.testing.assert_allclose(abs(vector @ basis @ mix[:, -1]), 1, rtol=1e-10)
        left = np.linalg.norm(matrix @ vector - values[-1] * vector)
        np.testing.assert_allclose(top.residuals[0], left, atol=rounding(VALUES, N))
        assert left > 0.1


def test_searches_that_follow_one_another_find_the_largest_and_then_take_one_product() -> None:
    with jax.enable_x64(True):
        matrix, vectors = symmetric(VALUES), np.random.default_rng(1).normal(size=(3, N))
        for _ in range(20):
            top = pairs_of(matrix, vectors, 1e-6)
            vectors = top.ahead
        top = jax.device_get(top)
        np.testing.assert_allclose(top.values, [20, 9, 8], rtol=1e-6)
        assert np.all(top.residuals <= 1e-6 * 20) and int(top.num_products) == 3
        inner = top.vectors @ top.vectors.T
        np.testing.assert_allclose(inner, np.eye(3), atol=rounding(1, N))


def test_an_exhausted_space_says_what_is_in_it_and_no_more() -> None:
    """All eigenvalues negative, and a start in a plane of two: rows of 0 are no eigenvalue 0."""
    with jax.enable_x64(True):
        start = np.eye(N)[[1]] + np.eye(N)[[4]]
        top = pairs_of(-np.diag(np.arange(1.0, N + 1)), start, 0.0)
        np.testing.assert_allclose(top.values, [-2], rtol=1e-12)
        np.testing.assert_allclose(top.residuals, [0], atol=rounding(5, 2))  # of two that are there


def by_hand(params: Any, batch: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns logits [n, 3] and their Jacobian [n, 3, p] of two layers, as one vector has them."""
    (first, last), x = jax.tree.map(np.asarray, ([*params.values()], batch["x"]))
    hidden = x @ first["kernel"] + first["bias"]
    slopes, hidden = (hidden > 0) * 1.0, np.maximum(hidden, 0)
    back = np.einsum("nj,jk->nkj", slopes, last["kernel"])
    one = np.broadcast_to(np.eye(3), (len(x), 3, 3))
    parts = (
        back,  # of the bias, then of the kernel
        np.einsum("ni,nkj->nkij", x, back),
        one,
        np.einsum("nj,nkl->nkjl", hidden, one),
    )
    jacobian = np.concatenate([part.reshape(len(x), 3, -1) for part in parts], axis=2)
    return hidden @ last["kernel"] + last["bias"], jacobian


@pytest.mark.parametrize("function", [classification, GAUSS_NEWTON], ids=["hessian", "G"])
def test_the_gradient_comes_with_eigenvalues_of_the_dense_matrix(function: Any) -> None:
    with jax.enable_x64(True):
        params, batch = init_relu(0, (4, 6, 3), has_bias=True), labelled(0, 20)
        vectors = start_vectors(jax.random.key(0), params)
        look = jax.jit(lambda v: track(function, params, batch, v, tolerance=1e-3))
        for _ in range(4):
            value, grads, top = look(vectors)
            vectors = top.ahead
        value, grads, top = jax.device_get((value, grads, top))
        logits, rows = by_hand(params, batch)
        p, labels = np.exp(logits) / np.sum(np.exp(logits), axis=1, keepdims=True), batch["y"]
        gradient = np.einsum("ia,iap->p", p - np.eye(3)[labels], rows) / 20
        matrix = by_definition(classification, params, batch)
        if function is GAUSS_NEWTON:  # J^T H_out J, of the outputs' own Hessian
            curve = np.einsum("ia,ab->iab", p, np.eye(3)) - np.einsum("ia,ib->iab", p, p)
            matrix = np.einsum("iap,iab,ibq->pq", rows, curve / 20, rows)
        top_value = np.linalg.eigvalsh(matrix)[-1]

        np.testing.assert_allclose(value, -np.mean(np.log(p)[range(20), labels]), rtol=1e-12)
        found = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(grads)])
        assert_close(found, gradient, 1e-12)
        assert abs(top.values[0] - top_value) <= top.residuals[0] + rounding(top_value, len(matrix))
        assert top.residuals[0] <= 1e-3 * top_value
        assert top.values[0] <= top_value * (1 + 1e-12)


def loss(params: Any, data: Any, batch: Any, key: Any) -> tuple[jax.Array, dict]:
    del batch
    noise = 0 * jax.random.normal(key)  # keys are used once each
    return classification(params, data) + noise, {"twice": 2 * classification(params, data)}


def stateful(params: Any, count: Any, data: Any, batch: Any, key: Any) -> tuple:
    value, metrics = loss(params, data, batch, key)
    return value, metrics, count + 1


def of_pair(params: Any, pair: Any) -> jax.Array:
    return predicted(params, pair[0])


OPTIMIZER = optax.sgd(0.3, 0.9, nesterov=True)
PAIRED = GaussNewton(of_pair, lambda outputs, pair: cross_entropy(outputs, pair[0]))


def test_a_tracked_step_makes_the_updates_of_as_many_steps() -> None:
    with jax.enable_x64(True):
        params, data = init_relu(0, (4, 6, 3), has_bias=True), labelled(0, 20)
        plain = init_train_state(params, OPTIMIZER, jnp.int32(0))
        step = tracked_step(
            stateful, OPTIMIZER, every=3, limit=5.0, make=stateful_step, gauss_newton=PAIRED
        )
        key = jax.random.key(1)
        state = init_tracked_state(jax.random.key(0), plain, gauss_newton=True)
        one = stateful_step(stateful, OPTIMIZER)

        @jax.jit
        def both(state: Any, plain: Any, i: jax.Array) -> tuple:
            at = jax.random.fold_in(key, i)
            again = lambda plain, key: one(plain, data, {}, key)
            plain, metrics = jax.lax.scan(again, plain, jax.random.split(at, 3))
            return step(state, data, {}, jax.random.clone(at)), plain, metrics["loss"]

        losses, sharpest = np.zeros(3), []
        for i in range(4):
            sharpest.append(
                np.linalg.eigvalsh(by_definition(classification, plain.params, data))[-1]
            )
            (state, metrics), plain, losses = jax.device_get(both(state, plain, i))

        jax.tree.map(lambda a, b: assert_close(a, b, 1e-9), state.train, plain)
        assert int(state.train.model_state) == 12
        np.testing.assert_allclose(metrics["loss"], np.mean(losses), rtol=1e-9)
        np.testing.assert_allclose(metrics["twice"], 2 * np.mean(losses), rtol=1e-9)
        # Within the residual of the last look, which was before its first update.
        gap = abs(float(metrics["sharpness"]) - sharpest[-1])
        assert gap <= float(metrics["sharpness_residual"]) < 0.05 * sharpest[-1]
        assert 1 <= metrics["sharpness_products"] <= 4 and metrics["limit"] == 5
        assert 0.2 < metrics["gauss_newton"] / metrics["sharpness"] < 5


@pytest.mark.slow
def test_another_gradient_is_followed_while_the_sharpness_is_that_of_the_loss() -> None:
    with jax.enable_x64(True):
        params, data = init_relu(0, (4, 6, 3), has_bias=True), labelled(0, 20)
        optimizer, key = optax.sgd(0.1), jax.random.key(1)
        gradient = sam(lambda step: 0.5 - 0.1 * step)  # which keeps the number of the step
        train = init_train_state(params, optimizer, gradient=gradient)
        state = init_tracked_state(jax.random.key(0), train)
        step = tracked_step(loss, optimizer, every=1, limit=5.0, gradient=gradient, max_rounds=1)
        sharp = gradient_step(loss, optimizer, gradient=gradient)

        @jax.jit
        def both(state: Any, key: jax.Array) -> tuple:
            (only,) = jax.random.split(key, 1)
            wanted, _ = sharp(state.train, data, {}, only)
            return step(state, data, {}, jax.random.clone(key)), wanted

        (found, metrics), wanted = jax.device_get(both(state, key))
        spectrum = np.linalg.eigvalsh(by_definition(classification, params, data))

        jax.tree.map(lambda a, b: assert_close(a, b, 1e-12), found.params, wanted.params)
        assert found.train.gradient_state.step == 1
        near = np.min(np.abs(spectrum - float(metrics["sharpness"])))
        assert near <= metrics["sharpness_residual"]
    with pytest.raises(ValueError, match="every=0: expected at least 1"):
        tracked_step(loss, optimizer, every=0, limit=5.0)
