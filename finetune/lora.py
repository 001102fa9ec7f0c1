"""Low-rank changes of chosen matrices: W + (alpha / r) A B, of which only A and B are tuned.

    factors = init_lora(key, params, tuned_mask(params, blocks, "block2"), rank=4)
    params = merged(factors, params)           # equal to params until B has moved

A kernel [h, w, c_in, c_out] is the matrix [h w c_in, c_out]. The tree of factors has the shape of
the parameters, with None at leaves that stay as they are.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from finetune.blocks import check_mask

PyTree = Any


class Factors(NamedTuple):
    """A change of low rank: `down` @ `up`, in the shape of a leaf."""

    down: Float[Array, "inputs rank"]
    up: Float[Array, "rank outputs"]


def init_lora(key: PRNGKeyArray, params: PyTree, mask: PyTree, *, rank: int) -> PyTree:
    """Returns factors for the chosen matrices: `down` is Gaussian of variance 1 / inputs, `up` 0.

    Source: Hu et al. (2021): low-rank adaptation; one factor starts at zero.

    Args:
        key: Of `down`.
        params: The network.
        mask: True where a leaf is tuned; leaves with one axis at most get no factors.
        rank: At most; matrices that have a smaller side get that.

    Raises:
        ValueError: If the rank is under 1, or no matrix is chosen.
    """
    check_mask(mask, params)
    if rank < 1:
        raise ValueError(f"rank={rank}; expected at least 1")
    leaves, flags = jax.tree.leaves(params), jax.tree.leaves(mask)
    if not any(flag and np.ndim(leaf) > 1 for leaf, flag in zip(leaves, flags, strict=True)):
        raise ValueError("mask: chooses no matrix; expected a leaf with two axes or more")
    keys = jax.random.split(key, len(leaves))

    def one(leaf: Any, flag: bool, key: PRNGKeyArray) -> Factors | None:
        if not flag or np.ndim(leaf) < 2:
            return None
        outputs = leaf.shape[-1]
        inputs = leaf.size // outputs
        size = min(rank, inputs, outputs)
        down = jax.random.normal(key, (inputs, size), leaf.dtype) * inputs**-0.5
        return Factors(down, jnp.zeros((size, outputs), leaf.dtype))

    found = [one(*entry) for entry in zip(leaves, flags, keys, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(params), found)


def merged(factors: PyTree, params: PyTree, *, alpha: float = 1.0) -> PyTree:
    """Returns the network with its changes added: W + (alpha / rank) down up.

    Source: Hu et al. (2021): W_0 + (alpha / r) B A.

    Args:
        factors: Of `init_lora`.
        params: The network as it was.
        alpha: Of the scale, which changes of all ranks share.
    """

    def one(change: Factors | None, leaf: Any) -> Any:
        if change is None:
            return leaf
        scale = alpha / change.down.shape[-1]
        return leaf + scale * (change.down @ change.up).reshape(leaf.shape)

    return jax.tree.map(one, factors, params, is_leaf=is_factors)


def is_factors(node: Any) -> bool:
    """Returns whether a node of a tree is a change, or a gap."""
    return node is None or isinstance(node, Factors)
