"""Networks that read weights and answer with a vector: any trunk, an invariant pool, an MLP."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, PRNGKeyArray

from common.networks import Network, from_linen
from nfn import features, layers
from nfn.couplings import num_constants
from nfn.trunk import Trunk
from nfn.weights import Params, hidden_only

PyTree = Any


class ReaderParams(NamedTuple):
    """Trunk and head of `invariant_reader`."""

    stack: PyTree
    head: Params


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


def invariant_reader(
    trunk: Trunk, *, head_widths: tuple[int, ...], num_outputs: int, head_dropout: float = 0.0
) -> Network:
    """Returns a network of weights: `apply(params, x, extra=None, key=None) -> [batch, outputs]`.

    Source: Zhou et al. (2023a), App. D: equivariant layers, pool P~ (also after NP, as in the
    released code), MLP. Invariant under permutations of hidden neurons if the trunk commutes with
    them. `x` and `extra` are features with a batch axis in the layout of `trunk.space`; with a
    `key` dropout is on.
    """
    outer = hidden_only(trunk.space)
    pooled = num_constants(outer, trunk.channels)
    head = from_linen(
        MLP(head_widths, num_outputs, head_dropout),
        jax.ShapeDtypeStruct((1, pooled), jnp.float32),
    )

    def init(key: PRNGKeyArray) -> ReaderParams:
        key_trunk, key_head = jax.random.split(key)
        return ReaderParams(trunk.init(key_trunk), head.init(key_head))

    def apply(
        params: ReaderParams,
        x: features.Features,
        extra: features.Features | None = None,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "batch outputs"]:
        key_trunk, key_head = (None, None) if key is None else jax.random.split(key)
        x = trunk.apply(params.stack, x, extra, key_trunk)
        pooled = layers.invariant_pool(features.refold(trunk.space, outer, x), space=outer)
        dropout = {} if key is None else {"train": True, "rngs": {"dropout": key_head}}
        return head.apply(params.head, pooled, **dropout)

    return Network(init, apply)
