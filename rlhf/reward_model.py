"""Reward models: networks from what is seen in one step to one number."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from common.nets.convolution import conv_general_dilated
from common.nets.dense import DenseParams, dense, init_dense
from common.nets.dropout import dropout
from common.nets.mlp import MLPParams, init_mlp

SLOPE = 0.01  # of the leaky ReLU
HIDDEN = (64, 64)
ATARI_LAYERS = ((16, 7, 3), (16, 5, 2), (16, 3, 1), (16, 3, 1))  # channels, kernel, stride
PyTree = Any


def leaky(x: Array) -> Array:
    """Returns the leaky ReLU of reward models."""
    return jax.nn.leaky_relu(x, SLOPE)


def init_vector_reward(
    key: PRNGKeyArray, *, inputs: int, hidden: Sequence[int] = HIDDEN
) -> MLPParams:
    """Draws a reward model of observations and actions."""
    return init_mlp(key, (inputs, *hidden, 1))


def vector_reward(
    params: MLPParams,
    inputs: Float[Array, "*batch inputs"],
    *,
    key: PRNGKeyArray | None = None,
    rate: float = 0.0,
) -> Float[Array, "*batch"]:
    """Returns the reward of every step, from its observation and action side by side.

    Source: Christiano et al. (2017), App. A.1; rl-teacher, released code, for the dropout.

    Args:
        params: Of two hidden layers of 64 units in the paper.
        inputs: [observation, action].
        key: Draws what is dropped; None: nothing is.
        rate: Share of hidden units that are dropped in training.
    """
    x = inputs
    for number, layer in enumerate(params[:-1]):
        x = leaky(dense(layer, x))
        if key is not None and rate > 0:
            x = dropout(jax.random.fold_in(key, number), x, rate=rate)
    return dense(params[-1], x)[..., 0]


class ImageReward(NamedTuple):
    """Parameters of a reward model of images.

    Attributes:
        kernels: Filters of every convolution, and their biases.
        hidden: The dense layer behind them.
        out: The last layer.
    """

    kernels: tuple[tuple[Array, Array], ...]
    hidden: DenseParams
    out: DenseParams


def map_sizes(side: int, layers: Sequence[tuple[int, int, int]] = ATARI_LAYERS) -> tuple[int, ...]:
    """Returns the sides of the maps behind every convolution without padding.

    Raises:
        ValueError: If the images are too small for them.
    """
    sizes = [side]
    for _, kernel, stride in layers:
        sizes.append((sizes[-1] - kernel) // stride + 1)
        if sizes[-1] < 1:
            raise ValueError(f"images of {side} x {side} are too small for convolutions {layers}")
    return tuple(sizes[1:])


def init_image_reward(
    key: PRNGKeyArray,
    *,
    side: int,
    channels: int,
    layers: Sequence[tuple[int, int, int]] = ATARI_LAYERS,
    hidden: int = 64,
) -> ImageReward:
    """Draws a reward model of square images; layers are (channels, kernel, stride)."""
    *keys, key_hidden, key_out = jax.random.split(key, len(layers) + 2)
    kernels, c_in = [], channels
    for key_layer, (c_out, width, _) in zip(keys, layers, strict=True):
        fan_in = width * width * c_in
        layer = init_dense(key_layer, fan_in, c_out)
        assert layer.bias is not None
        kernels.append((layer.kernel.reshape(width, width, c_in, c_out), layer.bias))
        c_in = c_out
    features = map_sizes(side, layers)[-1] ** 2 * c_in
    return ImageReward(
        tuple(kernels), init_dense(key_hidden, features, hidden), init_dense(key_out, hidden, 1)
    )


def image_reward(
    params: ImageReward,
    images: Float[Array, "*batch side side channels"],
    *,
    strides: Sequence[int],
    key: PRNGKeyArray | None = None,
    rate: float = 0.0,
    has_norm: bool = False,
) -> Float[Array, "*batch"]:
    """Returns the reward of every image; actions are not seen.

    Source: Christiano et al. (2017), App. A.2 and footnote 1.

    Args:
        params: Four convolutions without padding and a dense layer of 64 units in the paper.
        images: Frames as floats, the last ones as channels.
        strides: Of the convolutions.
        key: Draws what is dropped; None: nothing is.
        rate: Share of the channels' entries that are dropped in training, before every activation.
        has_norm: Whether each image is normalized over its maps before the activations. The paper
            normalizes over batches, which makes the reward of a clip depend on its neighbors.
    """
    batch = images.shape[:-3]
    x = images.reshape(-1, *images.shape[-3:])
    order = ("NHWC", "HWIO", "NHWC")
    for number, ((kernel, bias), stride) in enumerate(zip(params.kernels, strides, strict=True)):
        strided = (stride, stride)
        x = conv_general_dilated(x, kernel, strided, "VALID", dimension_numbers=order)
        x = x + jnp.expand_dims(bias, (0, 1, 2))
        if has_norm:
            x = jax.nn.standardize(x, axis=(1, 2, 3), epsilon=1e-5)
        x = leaky(x)
        if key is not None and rate > 0:
            x = dropout(jax.random.fold_in(key, number), x, rate=rate)
    x = leaky(dense(params.hidden, x.reshape(len(x), -1)))
    return dense(params.out, x)[..., 0].reshape(batch)


def size_of(params: PyTree) -> int:
    """Returns the number of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def squared_weights(params: PyTree) -> Float[Array, ""]:
    """Returns the sum of squares of all kernels: what l2 regularization keeps small, not biases."""
    kernels = [x for x in jax.tree.leaves(params) if x.ndim > 1]
    return sum((jnp.sum(x**2) for x in kernels), jnp.zeros(()))
