"""The networks of a config: policy with its algorithm, and the ensemble of reward models."""

from typing import Any, NamedTuple

import jax
import optax
from jaxtyping import Array
from ml_collections import ConfigDict

from common.gradients import make_gradient
from rlhf import reward_model
from rlhf.algorithms import Algorithm
from rlhf.ensemble import Apply, Fit, LabelLoss, preference_loss
from rlhf.envs.environment import Environment
from rlhf.human_preferences.tasks import steps_seen
from rlhf.policies import Networks, perceptrons
from rlhf.trpo import TRPOSettings, trpo

PyTree = Any
ALGORITHMS = ("trpo",)


class RewardNetwork(NamedTuple):
    """A reward model: how it is drawn, what it sees, and what it says of that.

    Attributes:
        init: key -> parameters.
        apply: (parameters, what is seen, key of the dropout or None) -> rewards.
        see: (observations, actions) -> what is seen.
        shape: Of what is seen of a step.
    """

    init: Any
    apply: Apply
    see: Any
    shape: tuple[int, ...]


def reward_network(config: ConfigDict, env: Environment) -> RewardNetwork:
    """Returns the reward model of `config.reward` for an environment."""
    section = config.reward
    if len(env.observation_shape) == 3:
        return _of_images(section, env)
    shapes = jax.eval_shape(
        lambda obs, act: steps_seen(env, obs, act),
        jax.ShapeDtypeStruct((1, *env.observation_shape), "float32"),
        jax.ShapeDtypeStruct(
            *(((1,), "int32") if env.is_discrete else ((1, env.action_size), "f4"))
        ),
    )
    (inputs,) = shapes.shape[1:]

    def init(key: Array) -> PyTree:
        return reward_model.init_vector_reward(key, inputs=inputs, hidden=section.hidden)

    def apply(params: PyTree, seen: Array, key: Array | None) -> Array:
        return reward_model.vector_reward(params, seen, key=key, rate=section.dropout)

    return RewardNetwork(init, apply, lambda obs, act: steps_seen(env, obs, act), (inputs,))


def _of_images(section: ConfigDict, env: Environment) -> RewardNetwork:
    side, _, channels = env.observation_shape
    layers = tuple(tuple(layer) for layer in section.layers)
    strides = tuple(stride for _, _, stride in layers)

    def init(key: Array) -> PyTree:
        return reward_model.init_image_reward(
            key, side=side, channels=channels, layers=layers, hidden=section.hidden[-1]
        )

    def apply(params: PyTree, seen: Array, key: Array | None) -> Array:
        return reward_model.image_reward(
            params,
            seen,
            strides=strides,
            key=key,
            rate=section.dropout,
            has_norm=section.has_norm,
        )

    return RewardNetwork(init, apply, lambda obs, act: obs.astype("float32"), env.observation_shape)


def reward_fit(config: ConfigDict, network: RewardNetwork, loss: LabelLoss | None = None) -> Fit:
    """Returns how the ensemble is fitted; without a `loss` only to predict with it."""
    section = config.reward
    return Fit(
        apply=network.apply,
        loss=loss or preference_loss(section.error),
        optimizer=optax.adam(section.learning_rate),
        batch_size=section.batch_size,
        steps=section.steps,
        rounds=section.rounds,
        gradient=make_gradient(config, num_steps=config.num_steps * section.rounds * section.steps),
        is_mapped=section.is_mapped,
    )


def policy_networks(config: ConfigDict, env: Environment) -> Networks:
    """Returns policy and value function of `config.learner` for an environment."""
    section = config.learner
    return perceptrons(
        env, hidden=section.hidden, activation=section.activation, log_std=section.log_std
    )


def learner_of(config: ConfigDict, networks: Networks, numbers: dict[str, Any]) -> Algorithm:
    """Returns the algorithm of `config.learner`, with the numbers that are data.

    Raises:
        ValueError: If there is none of this name.
    """
    section = config.learner
    common = {name: numbers[name] for name in ("discount", "decay", "entropy")}
    if section.algorithm == "trpo":
        settings = TRPOSettings(
            **common, kl_limit=numbers["kl_limit"], value_rate=section.value_rate
        )
        return trpo(networks, settings)
    raise ValueError(
        f"config.learner.algorithm={section.algorithm!r}: expected one of {', '.join(ALGORITHMS)}"
    )
