"""Norms of Jacobians: exact, by power iteration and by probes; of layers, and how these align."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from common.nets.batch_norm import BatchNorm
from common.nets.dense import DenseParams, dense
from common.nets.mlp import mlp
from landscape.jacobians import (
    check_independent,
    jacobian_norms,
    jacobians,
    power_norms,
    softmaxed,
    squared_frobenius,
)
from landscape.layerwise import (
    alignment_ratios,
    composed,
    layer_norms,
    parameter_norms,
    random_starts,
)
from tests.landscape.problems import assert_close

SIZES = (6, 5, 3)
network = partial(mlp, activation=jnp.tanh)


def hidden(params: DenseParams, h: Array) -> Array:
    return jnp.tanh(dense(params, h))


def reshaped(params: Any, h: Array) -> Array:
    """Returns images as vectors: a layer without parameters."""
    assert params == ()
    return h.reshape(len(h), -1)


LAYERS = (reshaped, hidden, dense)
deep = composed(LAYERS)


def drawn(n: int = 7) -> tuple[Any, Array]:
    """Returns parameters and images [n, 2, 3], in float64."""
    random = np.random.default_rng(0)
    layers = [
        DenseParams(jnp.asarray(random.normal(size=(c, d))), jnp.asarray(random.normal(size=d)))
        for c, d in zip(SIZES[:-1], SIZES[1:], strict=True)
    ]
    return tuple(layers), jnp.asarray(random.normal(size=(n, 2, 3)))


def of_images(params: Any, x: Array) -> Array:
    return network(params, x.reshape(len(x), -1))


def test_exact_norms_are_singular_values_of_finite_differences() -> None:
    step, predict = 1e-5, softmaxed(of_images)

    @jax.jit
    def all_of(params: Any, images: Array, units: Array) -> tuple:
        norms = jacobian_norms(predict, params, images, chunk=3)
        moved = jax.vmap(lambda u: jax.nn.softmax(of_images(params, images + u[None])))
        differences = (moved(units) - moved(-units)) / (2 * step)
        return norms, jacobians(predict, params, images), differences

    with jax.enable_x64(True):
        units = jnp.asarray(np.eye(6).reshape(6, 2, 3) * step)
        norms, found, differences = all_of(*drawn(), units)
        wanted = np.asarray(differences).transpose(1, 2, 0)  # [n, k, d]

        # Central differences: the square of the step, and rounding over the step.
        assert_close(found, wanted, 1e-8)
        assert_close(norms.spectral, np.linalg.norm(wanted, 2, axis=(1, 2)), 1e-8)
        assert_close(norms.frobenius, np.linalg.norm(wanted, axis=(1, 2)), 1e-8)


def test_power_iteration_finds_the_exact_norms_and_goes_on_from_vectors() -> None:
    @jax.jit
    def run(params: Any, images: Array, vectors: Array) -> Any:
        return power_norms(of_images, params, images, vectors, rounds=3, chunk=7)

    with jax.enable_x64(True):
        params, images = drawn()
        singular = np.linalg.svd(
            jax.jit(partial(jacobians, of_images))(params, images), compute_uv=False
        )
        rough = found = run(params, images, images[::-1])
        for _ in range(60):
            found = run(params, images, found.vectors)

        values = np.asarray(rough.values)
        assert np.all(values <= singular[:, 0] * (1 + 1e-12))
        assert np.max(1 - values / singular[:, 0]) > 1e-6  # not there yet
        assert_close(found.values, singular[:, 0], 1e-10)
        # Some singular value is as near as the residual says.
        nearest = np.min(np.abs(singular - values[:, None]), axis=1)
        assert np.all(nearest <= np.asarray(rough.residuals) + 1e-12)
        assert np.max(found.residuals) < 1e-3 * np.max(rough.residuals)


def test_probes_give_the_squared_frobenius_norm_with_honest_errors() -> None:
    @jax.jit
    def both(params: Any, images: Array, key: Array) -> tuple:
        probed = squared_frobenius(of_images, params, images, key=key, num_probes=64)
        return probed, jacobian_norms(of_images, params, images).frobenius ** 2

    with jax.enable_x64(True):
        params, images = drawn(40)
        found, exact = jax.device_get(both(params, images, jax.random.key(3)))

        off = (found.values - exact) / found.stderr
        # The probes of all samples are independent: 40 of Student's t, 63 degrees each.
        assert np.all(np.abs(off) < 5)
        assert 0.4 < np.mean(off**2) < 2
        with pytest.raises(ValueError, match="num_probes=1: a standard error needs at least 2"):
            squared_frobenius(of_images, params, images, key=jax.random.key(0), num_probes=1)


def test_small_jacobians_are_not_lost_to_their_squares() -> None:
    predict = lambda scale, x: scale * x @ jnp.diag(jnp.array([3.0, 4.0]))
    norms = jax.jit(lambda x: jacobian_norms(predict, 1e-30, x))(jnp.ones((1, 2)))

    # float32 has no squares of these.
    np.testing.assert_allclose(norms.spectral, 4e-30, rtol=1e-5)
    np.testing.assert_allclose(norms.frobenius, 5e-30, rtol=1e-5)


def test_batch_normalization_in_training_mode_is_refused() -> None:
    random = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(random.normal(size=shape).astype(np.float32))
    kernel, inputs = draw(5, 4), draw(6, 5)
    model = BatchNorm()
    ones, zeros = jnp.ones(4), jnp.zeros(4)
    variables = {"params": {"scale": ones, "bias": zeros}}
    variables["batch_stats"] = {"mean": zeros, "var": ones}

    def predict(variables: Any, x: Array, *, train: bool) -> Array:
        normalized = model.apply(variables, x @ kernel, train=train, mutable=["batch_stats"])[0]
        return jnp.tanh(normalized)

    frozen = partial(predict, train=False)
    check_independent(frozen, variables, inputs)
    with pytest.raises(ValueError, match=r"depend on other samples .*batch normalization") as error:
        check_independent(partial(predict, train=True), variables, inputs)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="inputs has 1 rows: expected at least 2"):
        check_independent(frozen, variables, inputs[:1])
    # By itself, a sample has the Jacobian that it has in the batch.
    of = lambda chunk: lambda x: jacobian_norms(frozen, variables, x, chunk=chunk).spectral
    alone, together = jax.jit(lambda x: (of(1)(x), of(None)(x)))(inputs)
    np.testing.assert_allclose(alone, together, rtol=1e-5)  # float32


def test_layers_have_the_norms_of_their_matrices() -> None:
    @partial(jax.jit, static_argnames="rounds")
    def all_of(params: Any, images: Array, key: Array, rounds: int) -> tuple:
        starts = random_starts(key, LAYERS, params, images)
        of_inputs = layer_norms(LAYERS, params, images, starts[:-1], rounds=rounds)
        of_params = parameter_norms(LAYERS, params, images, starts[1:], rounds=rounds)
        whole = jacobian_norms(deep, params, images).spectral
        return of_inputs, of_params, (whole, alignment_ratios(whole, of_inputs))

    with jax.enable_x64(True):
        weights, images = drawn()
        found = jax.device_get(all_of(((), *weights), images, jax.random.key(4), 1000))
        of_inputs, of_params, (whole, ratios) = found
        h, product = np.asarray(images).reshape(7, 6), np.ones(7)
        np.testing.assert_allclose(of_inputs[0].values, 1)
        assert not np.any(of_params[0].values)
        for i, layer in enumerate(weights, start=1):
            kernel, bias = np.asarray(layer.kernel), np.asarray(layer.bias)
            out = h @ kernel + bias
            slope = 1 - np.tanh(out) ** 2 if i < 2 else np.ones_like(out)
            wanted = np.linalg.norm(slope[:, :, None] * kernel.T[None], 2, axis=(1, 2))
            # D D^T = (||h||^2 + 1) diag(slope)^2. The iteration errs by the square of the ratio of
            # singular values, to the power of its rounds.
            longest = np.sqrt(np.sum(h**2, axis=1) + 1) * slope.max(axis=1)
            assert_close(of_inputs[i].values, wanted, 1e-6)
            assert_close(of_params[i].values, longest, 1e-6)
            h, product = np.tanh(out), product * wanted
        assert_close(ratios, whole / product, 1e-6)
        assert np.all(ratios < 1) and np.all(ratios > 0.01)


def test_aligned_layers_have_the_ratio_one_and_others_less() -> None:
    layers = (lambda w, h: h * w[None],) * 2

    @jax.jit
    def ratios(params: Any, inputs: Array, starts: Any) -> Array:
        norms = layer_norms(layers, params, inputs, starts, rounds=60)
        return alignment_ratios(jacobian_norms(composed(layers), params, inputs).spectral, norms)

    with jax.enable_x64(True):
        first, ones = jnp.array([3.0, 2.0, 1.0]), jnp.ones((2, 3))
        # Norms 3 and 3; of the products 9, and 6 where the second is largest elsewhere.
        for second, wanted in ((first, 1.0), (jnp.array([1.0, 3.0, 2.0]), 6 / 9)):
            found = ratios((first, second), ones, (ones, ones))
            np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_shapes_that_do_not_fit_are_named() -> None:
    params, x = drawn()[0], jnp.ones((4, 6))
    with pytest.raises(ValueError, match=r"start has shape \(4, 5\): expected .* \(4, 6\)"):
        power_norms(network, params, x, jnp.ones((4, 5)))
    with pytest.raises(ValueError, match=r"returned shape \(4,\) for 4 samples: expected \[n, k\]"):
        jacobian_norms(lambda params, x: jnp.sum(x, axis=1), params, x)
    with pytest.raises(ValueError, match="chunk=0: expected at least 1"):
        jacobian_norms(network, params, x, chunk=0)
    with pytest.raises(ValueError, match="params has 2 entries for 3 layers"):
        deep(params, x)
    with pytest.raises(ValueError, match="start has 2 entries for 3 layers"):
        layer_norms(LAYERS, params, x, (x, x))
