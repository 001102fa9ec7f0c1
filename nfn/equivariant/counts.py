"""Counts the parameters of equivariant layers in their pytrees, and predicts their number."""

import math

import jax
from ml_collections import ConfigDict

from nfn import weights
from nfn.couplings import num_constants, num_linear_parameters
from nfn.layers import init_equivariant_linear

# The rows of `tables.counts.ROWS`.
SPACES = {
    "MLP 2-3-2": weights.mlp_space((2, 3, 2)),
    "MLP 2-3-3-2": weights.mlp_space((2, 3, 3, 2)),
    "MLP 2-2-3-2-2": weights.mlp_space((2, 2, 3, 2, 2)),
    "MLP 784-128-128-10": weights.mlp_space((784, 128, 128, 10)),
    "SIREN 2-32-32-1": weights.mlp_space((2, 32, 32, 1)),
    "SIREN 2-32-32-3": weights.mlp_space((2, 32, 32, 3)),
    "CNN 1-16-16-16-10": weights.cnn_space(
        channels=(1, 16, 16, 16), filters=((3, 3), (3, 3), (3, 3)), dense=(10,)
    ),
    "RNN 8-16-4": weights.rnn_space((8, 16, 4)),
    "residual MLP 8-16-4, 2 blocks": weights.residual_mlp_space(
        inputs=8, width=16, blocks=2, outputs=4, inner=32
    ),
}


def layer_parameters(config: ConfigDict) -> dict[str, float]:
    """Returns {"row: column": count} of layers from one channel to one, with their biases.

    NP and HNP are counted in the pytrees that `init_equivariant_linear` makes; "predicted" is the
    dimension of the space of affine equivariant maps; the last column is that of all affine maps.
    """
    del config  # no training: the spaces are those of this file
    counts: dict[str, float] = {}
    for row, space in SPACES.items():
        for column, group in (("NP", space), ("HNP", weights.hidden_only(space))):
            counts[f"{row}: {column}"] = _stored(group)
            counts[f"{row}: {column}, predicted"] = num_linear_parameters(group) + num_constants(
                group
            )
        counts[f"{row}: any linear map"] = space.size**2 + space.size
    return counts


def _stored(space: weights.WeightSpace) -> int:
    params = jax.eval_shape(
        lambda key: init_equivariant_linear(key, space=space, c_in=1, c_out=1), jax.random.key(0)
    )
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
