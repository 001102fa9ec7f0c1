"""Seven numbers per tensor that tell how its weights are distributed: the features of STATNN."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from nfn.features import Features, num_channels
from nfn.weights import WeightSpace

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
PER_TENSOR = 2 + len(QUANTILES)


def tensor_statistics(features: Features, *, space: WeightSpace) -> Float[Array, "batch k"]:
    """Returns mean, unbiased variance and five quantiles of every tensor, tensor by tensor.

    Source: Unterthiner et al. (2020), Sec. 4, and Zhou et al. (2023a), released code. Invariant
    under every permutation of the weights within a tensor.

    Raises:
        ValueError: If there is more than one channel per weight, or features are of another space.
    """
    channels = num_channels(space, features)
    if channels != 1:
        raise ValueError(f"statistics are taken of weights, got {channels} channels per weight")
    parts = []
    for spec in space.tensors:
        x = features[spec.path].reshape(-1, math.prod(spec.shape))
        # A tensor of one weight has no spread.
        variance = jnp.var(x, axis=1, ddof=min(1, x.shape[1] - 1))
        quantiles = jnp.quantile(x, jnp.asarray(QUANTILES), axis=1)
        parts += [jnp.mean(x, axis=1), variance, *quantiles]
    return jnp.stack(parts, axis=1)
