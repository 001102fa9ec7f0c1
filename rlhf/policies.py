"""Policies and value functions: perceptrons for numbers, convolutions for images."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from common.nets.dense import DenseParams, dense
from common.nets.mlp import MLPParams, mlp
from rlhf.distributions import CATEGORICAL, GAUSSIAN, Distribution, Gaussian
from rlhf.envs.environment import Environment
from rlhf.observations import as_numbers
from rlhf.patches import convolved

Params = dict[str, Any]
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"tanh": jnp.tanh, "relu": jax.nn.relu}


class Networks(NamedTuple):
    """A policy and a value function of one parameter tree.

    Attributes:
        init: key -> {"policy": ..., "value": ...}, with "trunk" if both share layers.
        policy: (params, observations) -> parameters of `distribution`.
        value: (params, observations) -> one number each.
        both: (params, observations) -> (those of policy, those of value), shared layers once.
        distribution: Of actions.
        observation_shape: Of one observation.
        standardizes: Whether observations are to be standardized first; images are not.
    """

    init: Callable[[PRNGKeyArray], Params]
    policy: Callable[[Params, jax.Array], Any]
    value: Callable[[Params, jax.Array], jax.Array]
    both: Callable[[Params, jax.Array], tuple[Any, jax.Array]]
    distribution: Distribution
    observation_shape: tuple[int, ...]
    standardizes: bool


class GaussianHead(NamedTuple):
    """A perceptron for means, and deviations that depend on no state."""

    mean: MLPParams
    log_std: Float[Array, " size"]


def perceptrons(
    env: Environment,
    *,
    hidden: Sequence[int] = (64, 64),
    activation: str = "tanh",
    log_std: float = -0.5,
) -> Networks:
    """Returns a policy and a value function that share nothing, for observations of numbers.

    The last layer of the policy begins a hundredth of its size: near a mean of 0, or uniform.

    Source: Christiano et al. (2017), App. A.1, has networks of two hidden layers of 64 units.

    Args:
        env: What they are for; its observations are flattened.
        hidden: Widths of the hidden layers.
        activation: "tanh" or "relu".
        log_std: Of continuous actions in the beginning.

    Raises:
        ValueError: For another activation.
    """
    if activation not in ACTIVATIONS:
        allowed = ", ".join(ACTIVATIONS)
        raise ValueError(f"activation={activation!r}: no such activation; allowed: {allowed}")
    between = ACTIVATIONS[activation]
    shared = (math.prod(env.observation_shape), *hidden)
    policy_widths, value_widths = (*shared, env.action_size), (*shared, 1)

    def init(key: PRNGKeyArray) -> Params:
        drawn = _draw(key, [*pairwise(policy_widths), *pairwise(value_widths)])
        policy, value = (
            tuple(part) for part in (drawn[: len(drawn) // 2], drawn[len(drawn) // 2 :])
        )
        return {"policy": _head(policy, env, log_std), "value": value}

    def policy(params: Params, observations: jax.Array) -> Any:
        x = _flat(observations, env)
        return _distribution_of(params["policy"], x, between)

    def value(params: Params, observations: jax.Array) -> jax.Array:
        return mlp(params["value"], _flat(observations, env), activation=between)[..., 0]

    def both(params: Params, observations: jax.Array) -> tuple[Any, jax.Array]:
        return policy(params, observations), value(params, observations)

    distribution = CATEGORICAL if env.is_discrete else GAUSSIAN
    return Networks(init, policy, value, both, distribution, env.observation_shape, True)


def convolutional(
    env: Environment,
    *,
    layers: Sequence[tuple[int, int, int]] = ((16, 3, 1), (16, 3, 2)),
    hidden: int = 64,
    log_std: float = -0.5,
) -> Networks:
    """Returns a policy and a value function on one trunk of convolutions, for images [h, w, c].

    Source: Mnih et al. (2015), whose network for 84 x 84 x 4 is layers=((32, 8, 4), (64, 4, 2),
    (64, 3, 1)) and hidden=512; the default is for boards. Nothing is padded.

    Args:
        env: What they are for; bytes are divided by 255, booleans are 0 and 1.
        layers: Channels, width and stride of each convolution.
        hidden: Units of the layer after them.
        log_std: Of continuous actions in the beginning.

    Raises:
        ValueError: If observations are no images, or too small for the layers.
    """
    shape = env.observation_shape
    if len(shape) != 3:
        raise ValueError(f"convolutional: observations of {env.name} have shape {shape}, not h w c")
    windows, (height, width, channels) = [], shape
    for c_out, k, stride in layers:
        windows.append((k * k * channels, c_out))
        height, width, channels = (height - k) // stride + 1, (width - k) // stride + 1, c_out
    if min(height, width) < 1:
        raise ValueError(f"convolutional: images of {shape} are too small for layers={layers}")
    sizes = [*windows, (height * width * channels, hidden), (hidden, env.action_size), (hidden, 1)]

    def init(key: PRNGKeyArray) -> Params:
        *trunk, policy, value = _draw(key, sizes)
        return {"trunk": tuple(trunk), "policy": _head((policy,), env, log_std), "value": value}

    def features(params: Params, images: jax.Array) -> jax.Array:
        lead = images.shape[:-3]
        x = as_numbers(images).reshape(-1, *shape)
        for (kernel, bias), (_, k, stride) in zip(params["trunk"], layers, strict=False):
            kernel = kernel.reshape(k, k, -1, kernel.shape[-1])
            x = jax.nn.relu(convolved(x, kernel, bias, stride))
        x = jax.nn.relu(dense(params["trunk"][-1], x.reshape(x.shape[0], -1)))
        return x.reshape(*lead, hidden)

    def both(params: Params, observations: jax.Array) -> tuple[Any, jax.Array]:
        x = features(params, observations)
        return _distribution_of(params["policy"], x, jax.nn.relu), dense(params["value"], x)[..., 0]

    return Networks(
        init,
        lambda params, observations: both(params, observations)[0],
        lambda params, observations: both(params, observations)[1],
        both,
        CATEGORICAL if env.is_discrete else GAUSSIAN,
        shape,
        standardizes=False,
    )


def _draw(key: PRNGKeyArray, sizes: Sequence[tuple[int, int]]) -> list[DenseParams]:
    """Draws layers as `common.nets.dense` does, but all from one array of numbers.

    Every draw of its own is a program of its own: they take longer to compile than all the rest.
    """
    ends = np.cumsum([(n + 1) * m for n, m in sizes]).tolist()
    numbers = jax.random.uniform(key, (ends[-1],), minval=-1.0)
    blocks = [
        n**-0.5 * numbers[end - (n + 1) * m : end].reshape(n + 1, m)
        for (n, m), end in zip(sizes, ends, strict=True)
    ]
    return [DenseParams(block[:-1], block[-1]) for block in blocks]


def _flat(observations: jax.Array, env: Environment) -> jax.Array:
    lead = observations.shape[: observations.ndim - len(env.observation_shape)]
    return as_numbers(observations).reshape(*lead, -1)


def _head(layers: MLPParams, env: Environment, log_std: float) -> Any:
    layers = (*layers[:-1], jax.tree.map(lambda w: 0.01 * w, layers[-1]))
    if env.is_discrete:
        return layers
    return GaussianHead(layers, jnp.zeros(env.action_size) + log_std)


def _distribution_of(head: Any, x: jax.Array, between: Callable[[Array], Array]) -> Any:
    if not isinstance(head, GaussianHead):
        return mlp(head, x, activation=between)
    mean = mlp(head.mean, x, activation=between)
    return Gaussian(mean, jnp.broadcast_to(head.log_std, mean.shape))
