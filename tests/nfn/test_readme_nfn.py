"""The README of this topic does what it says: it reads a stranger's networks."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from nfn.features import permute_params, random_permutation
from nfn.weights import hidden_only, space_from_params
from tests.processes import REPOSITORY

(CODE,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "nfn/README.md").read_text(), re.DOTALL)
NUM_NETWORKS = 64


class StrangersCNN(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Conv(4, (3, 3))(x))
        x = nn.relu(nn.Conv(6, (3, 3), strides=2)(x)).mean((1, 2))
        return nn.Dense(3)(x)


@jax.jit
def networks(key: jax.Array) -> tuple[Any, jax.Array]:
    """Returns CNNs whose second convolution is scaled by a number, and the numbers."""
    key_params, key_scale = jax.random.split(key)
    model, image = StrangersCNN(), jnp.zeros((1, 8, 8, 1))
    init = jax.vmap(lambda k: model.init(k, image)["params"])
    params: Any = init(jax.random.split(key_params, NUM_NETWORKS))
    scale = jax.random.uniform(key_scale, (NUM_NETWORKS,), minval=0.5, maxval=1.5)
    kernel = params["Conv_1"]["kernel"] * scale[:, None, None, None, None]
    return {**params, "Conv_1": {**params["Conv_1"], "kernel": kernel}}, scale


def test_the_readme_predicts_from_the_weights_of_networks_it_has_not_seen() -> None:
    code = [line for line in CODE.splitlines() if line.strip()]
    imports = sum(line.startswith(("import", "from")) for line in code)
    assert len(code) - imports <= 20
    names: dict[str, Any] = {}
    exec(CODE, names)

    params, scale = networks(jax.random.key(0))
    apply = lambda params, x: StrangersCNN().apply({"params": params}, x)
    # A column of targets: [n] against [n, 1] would learn the mean.
    predict, losses = names["train"](apply, params, jnp.zeros((1, 8, 8, 1)), scale[:, None])
    new_params, new_scale = networks(jax.random.key(1))
    predicted = predict(new_params)
    assert predicted.shape == (NUM_NETWORKS, 1)
    predicted = predicted[:, 0]
    assert losses[-1] < 0.2 * jnp.var(scale)
    assert np.corrcoef(predicted, new_scale)[0, 1] > 0.8

    space = hidden_only(space_from_params(jax.tree.map(lambda leaf: leaf[0], params)))
    order = random_permutation(jax.random.key(2), space)
    moved = jax.jit(lambda params: permute_params(space, params, order))(new_params)
    assert jnp.abs(moved["Conv_1"]["kernel"] - new_params["Conv_1"]["kernel"]).max() > 0.1
    np.testing.assert_allclose(predict(moved)[:, 0], predicted, atol=1e-4)
