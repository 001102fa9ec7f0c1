"""What the experiments of this paper share: the invariant reader, an MLP, permuting a batch."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, PRNGKeyArray

from common.networks import Network, from_linen
from nfn import features, layers
from nfn.couplings import num_constants
from nfn.equivariant.stack import StackParams, StackSpec, init_stack, stack, stack_space
from nfn.weights import Params, WeightSpace, hidden_only


class ReaderParams(NamedTuple):
    """Equivariant stack and head of `invariant_reader`."""

    stack: StackParams
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


def permute_each(key: PRNGKeyArray, space: WeightSpace, x: features.Features) -> features.Features:
    """Returns every network of a batch under its own random permutation of `space`."""
    batch = jax.tree.leaves(x)[0].shape[0]

    def one(key: PRNGKeyArray, single: features.Features) -> features.Features:
        permutations = features.random_permutation(key, space)
        return features.permute_features(space, single, permutations)

    return jax.vmap(one)(jax.random.split(key, batch), x)


def permute_networks(key: PRNGKeyArray, space: WeightSpace, weights: Params) -> dict[str, Any]:
    """Returns params [batch, ...], every network with its hidden neurons in an order of its own."""
    hidden = hidden_only(space)
    moved = permute_each(key, hidden, features.features_from_params(hidden, weights))
    return features.params_from_features(hidden, moved)


def invariant_reader(
    space: WeightSpace,
    spec: StackSpec,
    *,
    head_widths: tuple[int, ...],
    num_outputs: int,
    head_dropout: float = 0.0,
    c_in: int = 1,
    c_extra: int = 0,
) -> Network:
    """Returns a network of weights: `apply(params, x, extra=None, key=None) -> [batch, outputs]`.

    Source: Zhou et al. (2023), App. D: equivariant stack, pool P~ (also after NP, as in the
    released code), MLP. Invariant under permutations of hidden neurons. `x` and `extra` are
    features with a batch axis, as `stack` takes them; with a `key` dropout is on.

    Raises:
        ValueError: From `init`, if the sizes of `spec` do not go together.
    """
    inner, outer = stack_space(space, spec.kind), hidden_only(space)
    pooled = num_constants(outer, spec.widths[-1])
    head = from_linen(
        MLP(head_widths, num_outputs, head_dropout),
        jax.ShapeDtypeStruct((1, pooled), jnp.float32),
    )

    def init(key: PRNGKeyArray) -> ReaderParams:
        key_stack, key_head = jax.random.split(key)
        trunk = init_stack(key_stack, space=space, spec=spec, c_in=c_in, c_extra=c_extra)
        return ReaderParams(trunk, head.init(key_head))

    def apply(
        params: ReaderParams,
        x: features.Features,
        extra: features.Features | None = None,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "batch outputs"]:
        key_stack, key_head = (None, None) if key is None else jax.random.split(key)
        x = stack(params.stack, x, space=space, spec=spec, extra=extra, key=key_stack)
        pooled = layers.invariant_pool(features.refold(inner, outer, x), space=outer)
        dropout = {} if key is None else {"train": True, "rngs": {"dropout": key_head}}
        return head.apply(params.head, pooled, **dropout)

    return Network(init, apply)
