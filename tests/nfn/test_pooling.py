"""Pooling by cross-attention: invariance, definition by loops, counts, the released pooling."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np

from nfn import features, pooling
from nfn.weights import hidden_only, mlp_space

SPACE = mlp_space((2, 5, 3, 1))
CHANNELS, WIDTH, LATENTS = 6, 8, 4


def networks(batch: int = 3) -> features.Features:
    shapes = features.feature_shapes(SPACE, CHANNELS)
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return {
        path: jax.random.normal(key, (batch, *shape))
        for key, (path, shape) in zip(keys, shapes.items(), strict=True)
    }


def softmax(x: np.ndarray) -> np.ndarray:
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def test_a_token_holds_the_channels_of_one_weight_in_any_layout() -> None:
    x = networks()
    hidden = features.refold(SPACE, hidden_only(SPACE), x)

    tokens = pooling.weight_tokens(SPACE, x)

    assert tokens.shape == (3, SPACE.size, CHANNELS)
    np.testing.assert_array_equal(tokens, pooling.weight_tokens(hidden_only(SPACE), hidden))
    np.testing.assert_array_equal(
        tokens[:, 0], features.unfold(SPACE.tensors[0], x[SPACE.tensors[0].path])[:, 0, 0]
    )


def test_permuted_networks_have_the_same_array() -> None:
    params = pooling.init_perceiver_pool(
        jax.random.key(1), num_latents=LATENTS, c_in=CHANNELS, width=WIDTH
    )

    @jax.jit
    def array(x: features.Features) -> jax.Array:
        return pooling.perceiver_pool(params, pooling.weight_tokens(SPACE, x))

    x = networks()
    moved = features.permute_features(
        SPACE, x, features.random_permutation(jax.random.key(3), SPACE)
    )
    before, after = array(x), array(moved)

    assert any(jnp.abs(moved[path] - leaf).max() > 1 for path, leaf in x.items())
    # Sums over tokens in another order: float32 rounding of values of order 1.
    chex.assert_trees_all_close(after, before, atol=1e-5)
    # Other networks have other arrays, in the row of every latent.
    assert np.std(before, axis=0).max(axis=-1).min() > 0.02


def test_the_pool_is_attention_with_keys_and_values_then_a_gated_layer() -> None:
    params = pooling.init_perceiver_pool(
        jax.random.key(1), num_latents=LATENTS, c_in=CHANNELS, width=WIDTH
    )
    tokens = pooling.weight_tokens(SPACE, networks())
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def norm(x: np.ndarray) -> np.ndarray:
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)

    def gelu(x: np.ndarray) -> np.ndarray:
        return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))

    def one(rows: np.ndarray) -> np.ndarray:
        query, read = norm(p.latents) @ p.query.kernel, norm(rows)
        keys, values = read @ p.key.kernel, read @ p.value.kernel
        found = softmax(query @ keys.T / math.sqrt(WIDTH)) @ values
        z = p.latents + found @ p.output.kernel + p.output.bias
        gate, inner = np.split(norm(z) @ p.gate_and_inner.kernel + p.gate_and_inner.bias, 2, -1)
        return z + (gelu(gate) * inner) @ p.ff_output.kernel + p.ff_output.bias

    expected = np.stack([one(rows) for rows in np.asarray(tokens, np.float64)])

    chex.assert_trees_all_close(
        jax.jit(pooling.perceiver_pool)(params, tokens), expected, atol=1e-5
    )


def test_the_pool_of_the_paper_has_its_number_of_parameters() -> None:
    params = jax.eval_shape(
        lambda: pooling.init_perceiver_pool(jax.random.key(0), num_latents=16, c_in=256, width=256)
    )

    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == 1_056_768
