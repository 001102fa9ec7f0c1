"""Networks that read weights: what a trunk, its pool and its head do with dropout and channels."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nfn.features import Features, feature_shapes, refold
from nfn.layers import invariant_pool
from nfn.readers import invariant_reader
from nfn.stack import StackSpec, linear_trunk
from nfn.weights import hidden_only, mlp_space
from tests.small_runs import draws_like

SPACE = mlp_space([2, 4, 3])
SPEC = StackSpec("np", (4, 3), channel_dropout=0.5)


def networks() -> Features:
    generator = np.random.default_rng(0)
    shapes = feature_shapes(SPACE, 1).items()
    return {p: jnp.asarray(generator.normal(size=(5, *shape)), jnp.float32) for p, shape in shapes}


def test_a_reader_is_the_head_of_the_pooled_trunk_and_drops_channels_with_a_key_only() -> None:
    trunk = linear_trunk(SPACE, SPEC)
    reader = invariant_reader(trunk, head_widths=(6,), num_outputs=2, head_dropout=0.5)
    params = draws_like(jax.eval_shape(reader.init, jax.random.key(0)))

    @jax.jit
    def everything(x: Features) -> dict[str, jax.Array]:
        features = {"plain": trunk.apply(params.stack, x)}
        answers = {"plain": reader.apply(params, x)}

        @jax.vmap
        def keyed(seed: jax.Array) -> tuple[Features, jax.Array]:
            # The trunk gets the first of two keys, the head the second.
            key_trunk, _ = jax.random.split(jax.random.key(seed))
            y = trunk.apply(params.stack, x, None, key_trunk)
            return y, reader.apply(params, x, None, jax.random.key(seed))

        dropped, answered = keyed(jnp.array([1, 2]))
        for place, name in enumerate(("key 1", "key 2")):
            features[name] = {path: leaf[place] for path, leaf in dropped.items()}
            answers[name] = answered[place]
        pooled = {
            name: invariant_pool(refold(SPACE, hidden_only(SPACE), y), space=hidden_only(SPACE))
            for name, y in features.items()
        }
        return {f"pooled {k}": v for k, v in pooled.items()} | answers

    found: dict[str, Any] = jax.tree.map(np.asarray, everything(networks()))

    head = jax.tree.map(np.asarray, params.head)
    first, last = head["Dense_0"], head["Dense_1"]

    def hidden(pooled: np.ndarray) -> np.ndarray:
        return np.maximum(pooled @ first["kernel"] + first["bias"], 0)

    expected = hidden(found["pooled plain"]) @ last["kernel"] + last["bias"]
    np.testing.assert_allclose(found["plain"], expected, atol=1e-5 * np.abs(expected).max())
    assert np.std(found["plain"], axis=0).min() > 0.01  # networks differ
    for one, other in (("plain", "key 1"), ("key 1", "key 2")):
        change = np.abs(found[f"pooled {one}"] - found[f"pooled {other}"]).max()
        assert change > 0.01  # in the trunk
    dropped = hidden(found["pooled key 1"]) @ last["kernel"] + last["bias"]
    assert np.abs(found["key 1"] - dropped).max() > 0.01  # and in the head
