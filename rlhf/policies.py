"""Policies and value functions: perceptrons for numbers, convolutions for images."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from common.nets.dense import DenseParams
from common.nets.mlp import MLPParams, mlp
from rlhf.distributions import CATEGORICAL, GAUSSIAN, Distribution, Gaussian
from rlhf.envs.environment import Environment

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
    num_inputs = math.prod(env.observation_shape)

    def init(key: PRNGKeyArray) -> Params:
        sizes = (num_inputs, *hidden, env.action_size), (num_inputs, *hidden, 1)
        layers, value = _init_mlps(key, sizes)
        return {"policy": _head(_shrunk(layers), env, log_std), "value": value}

    def policy(params: Params, observations: jax.Array) -> Any:
        x = _flat(observations, env)
        return _distribution_of(params["policy"], x, between)

    def value(params: Params, observations: jax.Array) -> jax.Array:
        return mlp(params["value"], _flat(observations, env), activation=between)[..., 0]

    def both(params: Params, observations: jax.Array) -> tuple[Any, jax.Array]:
        return policy(params, observations), value(params, observations)

    distribution = CATEGORICAL if env.is_discrete else GAUSSIAN
    return Networks(init, policy, value, both, distribution, env.observation_shape, True)


def _init_mlps(key: PRNGKeyArray, sizes: Sequence[Sequence[int]]) -> list[MLPParams]:
    """Draws perceptrons as `init_mlp` does, but from one array of numbers.

    Every draw of its own is a program of its own: they take longer to compile than all the rest.
    """
    layers = [list(zip(of_one[:-1], of_one[1:], strict=True)) for of_one in sizes]
    total = sum((n + 1) * m for of_one in layers for n, m in of_one)
    numbers = jax.random.uniform(key, (total,), minval=-1.0)
    params, start = [], 0
    for of_one in layers:
        drawn = []
        for n, m in of_one:
            block = n**-0.5 * numbers[start : start + (n + 1) * m].reshape(n + 1, m)
            drawn.append(DenseParams(block[:n], block[n]))
            start += (n + 1) * m
        params.append(tuple(drawn))
    return params


def _flat(observations: jax.Array, env: Environment) -> jax.Array:
    lead = observations.shape[: observations.ndim - len(env.observation_shape)]
    return observations.reshape(*lead, -1).astype(jnp.float32)


def _shrunk(layers: MLPParams) -> MLPParams:
    return *layers[:-1], jax.tree.map(lambda w: 0.01 * w, layers[-1])


def _head(layers: MLPParams, env: Environment, log_std: float) -> Any:
    if env.is_discrete:
        return layers
    return GaussianHead(layers, jnp.full(env.action_size, log_std, jnp.float32))


def _distribution_of(head: Any, x: jax.Array, between: Callable[[Array], Array]) -> Any:
    if not isinstance(head, GaussianHead):
        return mlp(head, x, activation=between)
    mean = mlp(head.mean, x, activation=between)
    return Gaussian(mean, jnp.broadcast_to(head.log_std, mean.shape))
