"""What the experiments of this paper share: an MLP, and permuting every network of a batch."""

import jax
from flax import linen as nn
from jaxtyping import Array, Float, PRNGKeyArray

from nfn import features
from nfn.weights import WeightSpace


class MLP(nn.Module):
    """ReLU layers of the given widths with dropout, then a linear layer."""

    widths: tuple[int, ...]
    num_outputs: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "*b n"], *, train: bool = False) -> Float[Array, "*b m"]:
        """Returns the outputs; `train` needs an RNG named "dropout" if the rate is positive."""
        for width in self.widths:
            x = nn.relu(nn.Dense(width)(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_outputs)(x)


def permute_each(key: PRNGKeyArray, space: WeightSpace, x: features.Features) -> features.Features:
    """Returns every network of a batch under its own random permutation of `space`."""
    batch = jax.tree.leaves(x)[0].shape[0]

    def one(key: PRNGKeyArray, single: features.Features) -> features.Features:
        permutations = features.random_permutation(key, space)
        return features.permute_features(space, single, permutations)

    return jax.vmap(one)(jax.random.split(key, batch), x)
