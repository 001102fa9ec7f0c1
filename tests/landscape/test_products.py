"""Products with Hessians and Gauss-Newton matrices against the matrices themselves."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from landscape import products
from landscape.curvature import eigenpairs, spectrum_ends
from landscape.products import GaussNewton, averaged, gauss_newton_product, hessian_product
from landscape.traces import trace
from landscape.vectors import layout_of, moved, to_direction, to_vector
from tests.landscape.problems import (
    VALUES,
    N,
    by_definition,
    classification,
    cross_entropy,
    dense,
    entry_paths,
    init_relu,
    labelled,
    params_of,
    predicted,
    quadratic,
    quadratic_without_count,
    rounding,
    symmetric,
)

CUTS = slice(0, 16), slice(16, 23)
GAUSS_NEWTON = GaussNewton(predicted, cross_entropy)


def product_of_two(params: Any, batch: Any) -> jax.Array:
    return (params["a"] * params["b"] - 1) ** 2 / 2 + 0 * jnp.sum(batch)


def test_the_hessian_of_a_product_of_two_numbers_is_the_one_by_hand() -> None:
    with jax.enable_x64(True):
        for a, b in ((2.0, 0.5), (1.5, -0.3)):
            params = {"a": jnp.asarray(np.asarray(a)), "b": jnp.asarray(np.asarray(b))}
            matrix = dense(product_of_two, params, [np.zeros(1)])
            np.testing.assert_allclose(matrix, [[b**2, 2 * a * b - 1], [2 * a * b - 1, a**2]])
        at_minimum = trace(
            product_of_two,
            {"a": 2.0, "b": 0.5},
            [np.zeros(1)],
            key=jax.random.key(0),
            num_products=9,
            method="hutch++",
        )
        np.testing.assert_allclose(at_minimum.value, 2.0**2 + 0.5**2)
        assert at_minimum.stderr == 0  # two dimensions, three vectors


@pytest.mark.slow
def test_averages_over_batches_of_any_sizes_are_those_of_all_rows() -> None:
    with jax.enable_x64(True):
        params, batch = init_relu(0, (4, 5, 3), has_bias=True), labelled(1, 23)
        batches = [jax.tree.map(lambda x, cut=cut: np.asarray(x)[cut], batch) for cut in CUTS]
        hessian = by_definition(classification, params, batch)
        rows = [i for i, path in enumerate(entry_paths(params)) if "dense_1" not in path]
        part = dense(classification, params, [batch], frozen="dense_1")

        # Sums over 23 rows in another order, relative to the largest entry.
        least = rounding(hessian, 23)
        np.testing.assert_allclose(dense(classification, params, batches), hessian, atol=least)
        np.testing.assert_allclose(part, hessian[np.ix_(rows, rows)], atol=least)
        ends = spectrum_ends(classification, params, batches, key=jax.random.key(0), tolerance=1e-8)
        wanted = np.linalg.eigvalsh(hessian)[[0, -1]]
        np.testing.assert_allclose([ends.smallest, ends.largest], wanted, rtol=1e-6)
        uneven = averaged(classification, params, batches, sizes=[1, 0])
        row = uneven.apply(jnp.asarray(np.eye(uneven.layout.size)[0]))
        alone = dense(classification, params, batches[:1])[0]
        np.testing.assert_allclose(row, alone, atol=least)


def test_the_gauss_newton_matrix_is_the_jacobians_around_the_softmax_hessian() -> None:
    with jax.enable_x64(True):
        params, batch = init_relu(0, (4, 5, 3), has_bias=True), labelled(1, 23)
        layout = layout_of(params)

        def both(vector: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            theta = to_direction(layout, vector)
            product = lambda d: gauss_newton_product(GAUSS_NEWTON, theta, batch, d)
            row = lambda unit: to_vector(layout, product(to_direction(layout, unit)))
            outputs = lambda v: predicted(to_direction(layout, v), batch)
            return jax.vmap(row)(jnp.eye(layout.size)), jax.jacfwd(outputs)(vector), outputs(vector)

        vector = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])
        found, jacobian, logits = jax.device_get(
            jax.jit(both)(vector)
        )  # [n, n], [23, 3, n], [23, 3]
        p = np.exp(logits) / np.sum(np.exp(logits), axis=1, keepdims=True)
        softmax = np.einsum("bi,ij->bij", p, np.eye(3)) - np.einsum("bi,bj->bij", p, p)
        wanted = np.einsum("bin,bij,bjm->nm", jacobian, softmax, jacobian) / 23

        # Sums over 23 rows of 3 outputs in another order.
        least = rounding(wanted, 23 * 3)
        np.testing.assert_allclose(found, wanted, atol=least)
        np.testing.assert_allclose(dense(GAUSS_NEWTON, params, [batch]), wanted, atol=least)
        assert np.max(np.abs(found - by_definition(classification, params, batch))) > 1e-3


def test_curvature_along_a_line_is_the_second_difference_of_the_loss() -> None:
    with jax.enable_x64(True):
        matrix, params = symmetric(VALUES), params_of()
        batch, layout = {"matrix": jnp.asarray(matrix)}, layout_of(params)
        d = to_direction(layout, jnp.asarray(np.cos(np.arange(N))))
        steps = np.array([0.0, -2.0, 0.5, 3.0])

        def along(d: Any) -> Any:
            loss = lambda a: quadratic_without_count(moved(params, [d], a[None]), batch)
            product = lambda c: hessian_product(
                quadratic_without_count, params, batch, jax.tree.map(lambda x: c * x, d)
            )
            return jax.vmap(loss)(jnp.asarray(steps)), jax.vmap(product)(jnp.arange(3.0))

        losses, products = jax.device_get(jax.jit(along)(d))
        flat = np.cos(np.arange(N))
        slope, bend = flat @ matrix @ np.ones(N), flat @ matrix @ flat
        # An exact parabola.
        wanted = losses[0] + slope * steps + bend * steps**2 / 2
        np.testing.assert_allclose(losses, wanted, rtol=1e-12)
        for c in range(3):
            row = np.r_[products["a"][c], products["b"][c]]
            np.testing.assert_allclose(row, c * matrix @ flat, atol=rounding(c * matrix, N))


def test_a_second_point_and_more_data_of_the_same_shape_compile_nothing() -> None:
    count = 0

    def counted(params: Any, batch: Any) -> jax.Array:
        nonlocal count
        count += 1
        return quadratic(params, batch)

    traced = []
    for seed in range(3):
        batches = [{"matrix": np.float32((seed + i) * np.eye(6))} for i in range(1, 4)]
        params = {"w": np.full(6, seed, np.float32)}
        eigenpairs(counted, params, batches, k=1, key=jax.random.key(seed))
        traced.append(count)

    assert 1 <= traced[0] <= 2 and traced[1:] == traced[:1] * 2


def test_products_with_a_kept_gradient_and_with_a_new_one_are_the_same(monkeypatch: Any) -> None:
    with jax.enable_x64(True):
        params, batch = init_relu(0, (4, 5, 3), has_bias=True), labelled(1, 23)
        batches = [jax.tree.map(lambda x, cut=cut: np.asarray(x)[cut], batch) for cut in CUTS]
        kept = dense(classification, params, batches)
        monkeypatch.setattr(products, "KEPT", -1)  # bytes: nothing may stay
        monkeypatch.setattr(products, "_add_linear", None)  # nor is it called
        anew = dense(classification, params, batches)

    np.testing.assert_allclose(kept, anew, rtol=0, atol=rounding(kept, 23))
    assert np.abs(kept).max() > 1e-3
