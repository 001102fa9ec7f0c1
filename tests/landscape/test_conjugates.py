"""The Gauss-Newton matrix, its conjugate and its layers: against matrices and closed forms."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from landscape import costs
from landscape.conjugates import conjugate, conjugate_terms, layer_shares, residual_loss
from landscape.costs import CROSS_ENTROPY, SQUARED, Cost, from_hessian
from landscape.jacobians import jacobian_norms
from landscape.layerwise import composed
from landscape.products import GaussNewton, product_with
from landscape.vectors import Layout, layout_of, to_direction
from tests.landscape.problems import assert_close, init_relu, rounding

PyTree = Any


def tanh_network(params: PyTree, x: Array) -> Array:
    for i in range(len(params)):
        layer = params[f"dense_{i}"]
        x = x @ layer["kernel"] + layer["bias"][None]
        x = jnp.tanh(x) if i < len(params) - 1 else x
    return x


def shaped(seed: int = 0) -> tuple[PyTree, dict[str, Array]]:
    """Returns weights, and seven samples whose targets are probabilities, none of them 0."""
    random = np.random.default_rng(seed)
    targets = random.dirichlet(np.ones(3), size=7)
    batch = {"x": jnp.asarray(random.normal(size=(7, 4))), "y": jnp.asarray(targets)}
    return init_relu(seed, (4, 5, 4, 3), has_bias=True), batch


def loss_of(predict: Any, cost: Cost) -> GaussNewton:
    outputs = lambda params, batch: predict(params, batch["x"])
    return GaussNewton(outputs, lambda outputs, batch: jnp.mean(cost.value(outputs, batch["y"])))


@partial(jax.jit, static_argnames=("predict", "cost", "layout"))
def matrices(
    params: PyTree, batch: PyTree, predict: Any, cost: Cost, layout: Layout
) -> dict[str, Any]:
    """Returns H, G and R, the terms of the conjugate, and the Jacobian in the parameters."""
    function = loss_of(predict, cost)
    units = jnp.eye(layout.size)
    column = lambda f: jax.vmap(lambda v: product_with(f, layout, params, batch, v))(units)
    jacobian = jax.jacrev(lambda p: predict(p, batch["x"]))(params)
    rows = [x.reshape(*x.shape[:2], -1) for x in jax.tree.leaves(jacobian)]
    return {
        "hessian": column(function.value),
        "gauss_newton": column(function),
        "residual": column(residual_loss(function)),
        "terms": conjugate_terms(predict, cost, params, batch["x"], batch["y"]),
        "jacobian": jnp.concatenate(rows, axis=-1),  # [n, k, p]
        "roots": costs.roots(cost, predict(params, batch["x"]), batch["y"]),
    }


def at(predict: Any, cost: Cost, params: PyTree, batch: PyTree) -> dict[str, Any]:
    return jax.device_get(matrices(params, batch, predict, cost, layout_of(params)))


def test_gauss_newton_its_conjugate_and_its_layers_agree() -> None:
    with jax.enable_x64(True):
        params, batch = shaped()
        found = at(tanh_network, CROSS_ENTROPY, params, batch)
        jacobian, roots = found["jacobian"], found["roots"]
        conjugated = sum(found["terms"].values())
        spectrum, others = (
            np.linalg.eigvalsh(x)[::-1] for x in (found["gauss_newton"], conjugated)
        )

        # G = DF^T C^T C DF by definition, of 21 rows; sums in another order.
        rows = np.einsum("nij,njp->nip", roots, jacobian).reshape(21, -1) / np.sqrt(7)
        assert_close(found["gauss_newton"], rows.T @ rows, 1e-12)
        assert_close(conjugated, rows @ rows.T, 1e-12)
        # All nonzero eigenvalues; C has a zero in each sample: 14 are left of 21.
        assert_close(others[:21], spectrum[:21], 1e-12)
        assert spectrum[13] > 1e-6 * spectrum[0] > 1e6 * abs(spectrum[14])
        assert list(found["terms"]) == [f"params/dense_{i}" for i in range(3)]
        # What is left of the Hessian.
        assert np.abs(found["residual"]).max() > 1e-2 * np.abs(found["hessian"]).max()
        difference = found["hessian"] - found["gauss_newton"]
        least = rounding(np.abs(found["hessian"]).max(), 21)
        np.testing.assert_allclose(found["residual"], difference, rtol=0, atol=least)


def test_terms_are_layer_jacobians_around_inner_products_of_activations() -> None:
    with jax.enable_x64(True):
        params, batch = shaped()
        found = at(tanh_network, CROSS_ENTROPY, params, batch)
        h, hidden, slopes = np.asarray(batch["x"]), [], []
        for i in range(3):
            kernel, bias = (np.asarray(params[f"dense_{i}"][x]) for x in ("kernel", "bias"))
            hidden.append(h)
            h = np.tanh(h @ kernel + bias) if i < 2 else h @ kernel + bias
            slopes.append(1 - h**2 if i < 2 else np.ones_like(h))
        after = found["roots"]  # C J_L ... J_{l+1}, [n, k, d]
        for i in (2, 1, 0):
            # D_l(i) D_l(j)^T = (<h_i, h_j> + 1) diag(slope_i) diag(slope_j), over n = 7.
            block = after * slopes[i][:, None]
            inner = hidden[i] @ hidden[i].T + 1
            wanted = np.einsum("nm,nid,mjd->nimj", inner, block, block).reshape(21, 21) / 7
            assert_close(found["terms"][f"params/dense_{i}"], wanted, 1e-12)
            after = block @ np.asarray(params[f"dense_{i}"]["kernel"]).T


def test_shares_of_layers_at_the_top_eigenvector_are_those_of_the_terms() -> None:
    with jax.enable_x64(True):
        params, batch = shaped()
        found, layout = at(tanh_network, CROSS_ENTROPY, params, batch), layout_of(params)
        values, vectors = np.linalg.eigh(found["gauss_newton"])
        share_layers = jax.jit(lambda vector: layer_shares(to_direction(layout, vector)))
        shares = share_layers(3 * vectors[:, -1])
        top = np.linalg.eigh(sum(found["terms"].values()))[1][:, -1]

        assert list(shares) == list(found["terms"])
        for layer, term in found["terms"].items():
            np.testing.assert_allclose(shares[layer], top @ term @ top / values[-1], rtol=1e-10)
        assert min(shares.values()) > 0.01


def test_without_residual_or_with_linear_weights_the_hessian_is_gauss_newton() -> None:
    with jax.enable_x64(True):
        params, batch = shaped()
        outputs = np.asarray(jax.jit(tanh_network)(params, batch["x"]))
        fitted = np.exp(outputs) / np.sum(np.exp(outputs), axis=1, keepdims=True)
        found = at(tanh_network, CROSS_ENTROPY, params, {**batch, "y": jnp.asarray(fitted)})
        # Another program may round outputs another way.
        assert np.abs(found["residual"]).max() < rounding(np.abs(found["hessian"]).max(), 21)
        assert_close(found["hessian"], found["gauss_newton"], 1e-12)

        linear = {"dense_0": init_relu(1, (4, 3), has_bias=True)["dense_0"]}
        found = at(tanh_network, CROSS_ENTROPY, linear, batch)
        assert not np.any(found["residual"])
        assert_close(found["hessian"], found["gauss_newton"], 1e-12)


@pytest.mark.parametrize("depth", [2, 4])
def test_a_deep_linear_network_has_the_sharpness_of_its_jacobian(depth: int) -> None:
    # lambda = L ||J||^(2 - 2/L) where inputs are white and factors balanced, and the whole
    # spectrum: sum_l s_i^(2(L-l)/L) s_j^(2(l-1)/L).
    values, random = np.array([2.0, 1.3, 0.4]), np.random.default_rng(0)
    left, right, mixed = (np.linalg.qr(random.normal(size=(3, 3)))[0] for _ in range(3))
    white = np.sqrt(7) * np.linalg.qr(random.normal(size=(7, 3)))[0]  # X^T X / n = I
    root = np.diag(values ** (1 / depth))
    # x -> x W_1 ... W_L; a rotation between two factors leaves them balanced.
    factors = [right @ root @ mixed, mixed.T @ root, *[root] * (depth - 2)]
    factors[-1] = factors[-1] @ left.T
    predict = composed((lambda w, h: h @ w,) * depth)
    function = loss_of(predict, SQUARED)

    @jax.jit
    def all_of(params: PyTree, batch: PyTree) -> tuple[Array, Array, Array]:
        layout = layout_of(params)
        product = lambda v: product_with(function.value, layout, params, batch, v)
        conjugated = conjugate(predict, SQUARED, params, batch["x"], batch["y"])
        norms = jacobian_norms(predict, params, batch["x"][:1]).spectral
        return jax.vmap(product)(jnp.eye(layout.size)), conjugated, norms

    with jax.enable_x64(True):
        fitted = {"x": jnp.asarray(white), "y": jnp.asarray(white @ np.linalg.multi_dot(factors))}
        hessian, conjugated, norms = all_of([jnp.asarray(factor) for factor in factors], fitted)

    powers = [(2 * (depth - i) / depth, 2 * (i - 1) / depth) for i in range(1, depth + 1)]
    whole = sum(np.multiply.outer(values**a, values**b) for a, b in powers)
    wanted = np.sort(np.r_[np.ravel(whole), np.zeros(9 * depth - 9)])
    top = depth * float(norms[0]) ** (2 - 2 / depth)
    np.testing.assert_allclose(norms[0], 2.0, rtol=1e-12)
    np.testing.assert_allclose(np.linalg.eigvalsh(hessian)[-1], top, rtol=1e-10)
    assert_close(np.linalg.eigvalsh(hessian), wanted, 1e-10)
    assert_close(np.linalg.eigvalsh(conjugated)[-9:], wanted[-9:], 1e-10)


def test_roots_of_the_softmax_are_those_of_its_hessian() -> None:
    @jax.jit
    def all_of(outputs: Array, targets: Array) -> tuple:
        one = lambda f, t: CROSS_ENTROPY.value(f[None], t[None])[0]
        by_eigenvalues = from_hessian(CROSS_ENTROPY.value)
        return (
            costs.roots(CROSS_ENTROPY, outputs, targets),
            costs.roots(by_eigenvalues, outputs, targets),
            jax.vmap(jax.hessian(one))(outputs, targets),
            costs.curvatures(CROSS_ENTROPY, outputs, targets),
        )

    with jax.enable_x64(True):
        random = np.random.default_rng(0)
        outputs = random.normal(size=(6, 4)) * np.array([0.0, 0.1, 1, 2, 5, 20])[:, None]
        outputs[1] = [50, 50, -50, -50]  # two sure classes: the largest eigenvalue there is
        targets = random.dirichlet(np.ones(4), size=6)
        root, other, hessian, largest = jax.device_get(
            all_of(jnp.asarray(outputs), jnp.asarray(targets))
        )

        least = rounding(1, 4)  # probabilities, sums of four
        np.testing.assert_allclose(np.swapaxes(root, 1, 2) @ root, hessian, rtol=0, atol=least)
        np.testing.assert_allclose(np.swapaxes(other, 1, 2) @ other, hessian, rtol=0, atol=least)
        np.testing.assert_allclose(root @ np.ones(4), 0, atol=least)  # along the ones
        np.testing.assert_allclose(largest, np.linalg.eigvalsh(hessian)[:, -1], rtol=0, atol=least)
        np.testing.assert_allclose(largest[:2], [1 / 4, 1 / 2], rtol=1e-12)
        assert np.all(largest <= 0.5 + least) and largest[-1] < 1e-6  # saturated


def test_costs_without_a_root_or_not_convex_are_refused() -> None:
    outputs, targets = jnp.array([[0.1, 0.2], [2.0, 0.3]]), jnp.zeros((2, 2))
    assert costs.cost_named("squared") is SQUARED
    with pytest.raises(ValueError, match="cost='hinge': no square root of its Hessian is known"):
        costs.cost_named("hinge")
    quartic = Cost(lambda f, y: jnp.sum((f - y) ** 4, axis=1))
    with pytest.raises(ValueError, match="no square root of its Hessian: expected one of squared"):
        costs.roots(quartic, outputs, targets)
    find = jax.jit(costs.roots, static_argnums=0)
    root = np.asarray(find(from_hessian(quartic.value), outputs, targets))
    np.testing.assert_allclose(np.sum(root**2, axis=1)[1], [12 * 4, 12 * 0.09], rtol=1e-5)
    costs.check_convex(quartic, outputs, targets)

    waves = from_hessian(lambda f, y: jnp.sum(jnp.cos(f - y) + f**2 / 4, axis=1))
    with pytest.raises(ValueError, match="not convex .* at sample 0 has the eigenvalue -0.495"):
        costs.check_convex(waves, outputs, targets)
    assert np.all(np.isnan(find(waves, outputs, targets)).any(axis=(1, 2)))
    with pytest.raises(ValueError, match=r"targets have shape \(2,\): expected \(2, 2\)"):
        costs.roots(SQUARED, outputs, jnp.zeros(2))
