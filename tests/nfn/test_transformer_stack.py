"""Transformers on weight spaces: a block by its formula, what they tell apart, variants, sizes."""

import math
from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfn import attention, features, layers, transformer_stack
from nfn.features import Features, feature_shapes
from nfn.transformer_stack import TransformerSpec, attention_trunk
from nfn.weights import INPUT, OUTPUT, WeightSpace, hidden_only, mlp_space
from tests.small_runs import draws_like

SPACE = mlp_space([2, 3, 4, 2])
C, BATCH = 4, 3


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def random_features(c: int) -> Features:
    generator = np.random.default_rng(0)
    shapes = feature_shapes(SPACE, c)
    return {p: jnp.asarray(generator.normal(size=(BATCH, *shape))) for p, shape in shapes.items()}


def difference(a: Features, b: Features) -> float:
    """Returns the largest absolute difference."""
    assert a.keys() == b.keys()
    return max(float(np.abs(np.asarray(a[path]) - np.asarray(b[path])).max()) for path in a)


def shifted(x: Features, *groups: str) -> Features:
    """Returns the networks after a cyclic shift of the neurons of these layers."""
    sizes = SPACE.group_sizes
    shifts = {group: jnp.asarray(np.roll(np.arange(sizes[group]), 1)) for group in groups}
    return features.permute_features(SPACE, x, shifts)


SPEC = TransformerSpec(
    channels=8, num_blocks=1, num_heads=2, ff_ratio=2, frequencies=3, linear_output=1
)


@pytest.mark.parametrize("share_ff", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_block_adds_attention_then_two_maps_of_every_weight_each_after_a_norm(
    share_ff: bool,
) -> None:
    spec = SPEC._replace(share_ff=share_ff, dtype="float64")
    init = partial(transformer_stack.init_transformer, space=SPACE, spec=spec)
    shapes = jax.eval_shape(init, jax.random.key(0)).blocks[0]
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), draws_like(shapes))
    x = random_features(8)

    @jax.jit
    def block_and_attention(x: Features) -> tuple[Features, Features]:
        read = layers.layer_norm(params.norm_attention, x)
        y = attention.attention(params.attention, read, space=SPACE, num_heads=2)
        return transformer_stack.block(params, x, space=SPACE, spec=spec), y

    actual, y = block_and_attention(x)
    p = jax.tree.map(np.asarray, params)

    gelu = lambda z: z * 0.5 * (1 + np.vectorize(math.erf)(z / math.sqrt(2)))
    for path, leaf in x.items():
        z = np.asarray(leaf) + np.asarray(y[path])
        name = attention.SHARED if share_ff else path
        centered = z - z.mean(-1, keepdims=True)
        read = centered / (z.std(-1, ddof=1, keepdims=True) + 1e-5)
        read = read * p.norm_ff.gamma[path] + p.norm_ff.beta[path]
        inner = gelu(read @ p.up.matrices[name] + p.up.biases[name])
        expected = z + inner @ p.down.matrices[name] + p.down.biases[name]
        np.testing.assert_allclose(actual[path], expected, rtol=0, atol=1e-12 * np.abs(z).max())
        assert np.abs(y[path]).max() > 0.1


@pytest.mark.parametrize("share_ff", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_transformer_tells_inputs_and_outputs_apart_but_not_hidden_neurons(
    share_ff: bool,
) -> None:
    trunk = attention_trunk(SPACE, SPEC._replace(share_ff=share_ff, dtype="float64"), c_extra=2)
    params = draws_like(jax.eval_shape(trunk.init, jax.random.key(0)))
    apply = jax.jit(lambda x: trunk.apply(params, x, {p: jnp.tile(y, 2) for p, y in x.items()}))
    x, hidden = random_features(1), hidden_only(SPACE).group_sizes
    y = apply(x)

    # The output is float32.
    assert difference(apply(shifted(x, *hidden)), shifted(y, *hidden)) < 1e-6
    for group in (INPUT, OUTPUT):
        assert difference(apply(shifted(x, group)), shifted(y, group)) > 0.01


@pytest.mark.slow
def test_blocks_recomputed_chunked_or_in_bfloat16_give_the_same_finite_features() -> None:
    trunk = attention_trunk(SPACE, SPEC)
    params, x = jax.jit(trunk.init)(jax.random.key(0)), random_features(1)
    x = {path: leaf.astype(jnp.float32) for path, leaf in x.items()}
    expected = jax.jit(trunk.apply)(params, x)

    for changed, tolerance in (
        (SPEC._replace(remat=True, network_chunk=2), 1e-5),
        (SPEC._replace(dtype="bfloat16"), 0.2),  # 8 bits, a block of size 1
    ):
        other = jax.jit(attention_trunk(SPACE, changed).apply)(params, x)
        assert all(leaf.dtype == jnp.float32 for leaf in other.values())
        assert difference(expected, other) < tolerance


def num_params(space: WeightSpace, spec: TransformerSpec) -> int:
    init = partial(transformer_stack.init_transformer, space=space, spec=spec)
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(init, jax.random.key(0))))


def test_the_number_of_parameters_is_that_of_the_authors_encoder() -> None:
    siren = mlp_space([2, 32, 32, 1])
    encoder = TransformerSpec(channels=256, num_blocks=6, num_heads=4, frequencies=128)
    block = num_params(siren, encoder) - num_params(siren, encoder._replace(num_blocks=5))

    assert block == 197_376 + 3_153_408 + 2 * 3_072
    shared = encoder._replace(share_ff=True)  # one pair of maps for all tensors
    one = num_params(siren, shared) - num_params(siren, shared._replace(num_blocks=5))
    assert one == 197_376 + 256 * 1_024 * 2 + 1_024 + 256 + 2 * 3_072
    # 21.20 M with the pooling of 1 056 768; of which 128 are fixed frequencies.
    assert num_params(siren, encoder) + 1_056_768 == 21_200_768
