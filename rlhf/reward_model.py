"""Reward models: networks from what is seen in one step to one number."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from common.nets.batch_norm import moments, normalized
from common.nets.dense import DenseParams, dense, init_dense
from common.nets.dropout import dropout
from common.nets.mlp import MLPParams, init_mlp
from rlhf.observations import as_numbers
from rlhf.patches import convolved

SLOPE = 0.01  # of the leaky ReLU
HIDDEN = (64, 64)
ATARI_LAYERS = ((16, 7, 3), (16, 5, 2), (16, 3, 1), (16, 3, 1))  # channels, kernel, stride
NORMS = ("none", "batch", "group")
MOMENTUM, EPSILON = 0.9, 1e-5  # of running statistics, and added to variances
GROUPS = 4  # of channels
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
        norms: Scale and shift of every channel behind each; () without normalization.
        hidden: The dense layer behind them.
        out: The last layer.
    """

    kernels: tuple[tuple[Array, Array], ...]
    norms: tuple[tuple[Array, Array], ...]
    hidden: DenseParams
    out: DenseParams


Statistics = tuple[tuple[Array, Array], ...]  # running mean and variance behind every convolution


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
    norm: str = "none",
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
    norms = () if norm == "none" else tuple((jnp.ones(c), jnp.zeros(c)) for c, *_ in layers)
    features = map_sizes(side, layers)[-1] ** 2 * c_in
    dense_layers = init_dense(key_hidden, features, hidden), init_dense(key_out, hidden, 1)
    return ImageReward(tuple(kernels), norms, *dense_layers)


def init_statistics(layers: Sequence[tuple[int, int, int]], norm: str) -> Statistics:
    """Returns running statistics before the first batch; () unless batches are normalized.

    Raises:
        ValueError: For another normalization.
    """
    if norm not in NORMS:
        raise ValueError(f"norm={norm!r}: no such normalization; allowed: {', '.join(NORMS)}")
    if norm != "batch":
        return ()
    return tuple((jnp.zeros(channels), jnp.ones(channels)) for channels, *_ in layers)


def image_reward(
    params: ImageReward,
    statistics: Statistics,
    images: Shaped[Array, "*batch side side channels"],
    *,
    strides: Sequence[int],
    norm: str = "none",
    key: PRNGKeyArray | None = None,
    rate: float = 0.0,
) -> tuple[Float[Array, "*batch"], Statistics]:
    """Returns the reward of every image, and the statistics with this batch; actions are not seen.

    Source: Christiano et al. (2017), App. A.2 and footnote 1.

    Args:
        params: Four convolutions without padding and a dense layer of 64 units in the paper.
        statistics: Running ones of batch normalization.
        images: Frames, the last ones as channels; bytes are divided by 255.
        strides: Of the convolutions.
        norm: "batch" normalizes every channel before its activation as the paper does, in training
            over the batch, both clips of all pairs together, else by running statistics; "group"
            normalizes groups of channels of each image, always the same way.
        key: Of training: draws what is dropped; None: nothing is, and statistics stay.
        rate: Share of what the convolutions put out that is dropped in training.
    """
    batch = images.shape[:-3]
    x = as_numbers(images).reshape(-1, *images.shape[-3:])
    renewed = []
    for number, ((kernel, bias), stride) in enumerate(zip(params.kernels, strides, strict=True)):
        x = convolved(x, kernel, bias, stride)
        if norm == "group":
            scale, shift = (jnp.expand_dims(p, (0, 1, 2)) for p in params.norms[number])
            x = _by_groups(x) * scale + shift
        elif norm == "batch":
            of_batch = moments(x) if key is not None else statistics[number]
            x = normalized(x, *of_batch, *params.norms[number], epsilon=EPSILON)
            renewed.append(_faded(statistics[number], of_batch))
        x = leaky(x)
        if key is not None and rate > 0:
            x = dropout(jax.random.fold_in(key, number), x, rate=rate)
    x = leaky(dense(params.hidden, x.reshape(len(x), -1)))
    rewards = dense(params.out, x)[..., 0].reshape(batch)
    return rewards, statistics if key is None else tuple(renewed)


def _by_groups(x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Returns images of mean 0 and variance 1 in every group of their channels."""
    groups = min(GROUPS, x.shape[-1])
    grouped = x.reshape(*x.shape[:-1], groups, -1)
    return jax.nn.standardize(grouped, axis=(1, 2, 4), epsilon=EPSILON).reshape(x.shape)


def _faded(old: tuple[Array, Array], new: tuple[Array, Array]) -> tuple[Array, Array]:
    """Returns running statistics with those of one batch more, which nothing is learned through."""
    mean, variance = (
        MOMENTUM * a + (1 - MOMENTUM) * jax.lax.stop_gradient(b)
        for a, b in zip(old, new, strict=True)
    )
    return mean, variance


def size_of(params: PyTree) -> int:
    """Returns the number of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def squared_weights(params: PyTree) -> Float[Array, ""]:
    """Returns the sum of squares of all kernels: what l2 regularization keeps small, not biases."""
    kernels = [x for x in jax.tree.leaves(params) if x.ndim > 1]
    return sum((jnp.sum(x**2) for x in kernels), jnp.zeros(()))
