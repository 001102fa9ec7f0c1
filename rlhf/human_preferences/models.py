"""The networks of a config: policy with its algorithm, and the ensemble of reward models."""

from functools import partial
from typing import Any, NamedTuple

import jax
import optax
from jaxtyping import Array
from ml_collections import ConfigDict

from common.gradients import make_gradient
from rlhf import reward_model
from rlhf.a2c import A2CSettings, a2c
from rlhf.algorithms import Algorithm
from rlhf.ensemble import Apply, Fit, LabelLoss, preference_loss
from rlhf.envs.environment import Environment
from rlhf.human_preferences.sections import ALGORITHMS
from rlhf.human_preferences.tasks import steps_seen
from rlhf.policies import Networks, convolutional, perceptrons
from rlhf.ppo import PPOSettings, ppo
from rlhf.trpo import TRPOSettings, trpo

PyTree = Any


class RewardNetwork(NamedTuple):
    """A reward model: how it is drawn, what it sees, and what it says of that.

    Attributes:
        init: key -> parameters.
        model_state: Of a fresh one: running statistics of batch normalization.
        apply: See `rlhf.ensemble.Fit`.
        see: (observations, actions) -> what is seen.
        seen: Shape and dtype of what is seen of a step.
    """

    init: Any
    model_state: PyTree
    apply: Apply
    see: Any
    seen: jax.ShapeDtypeStruct


def reward_network(config: ConfigDict, env: Environment) -> RewardNetwork:
    """Returns the reward model of `config.reward` for an environment."""
    section = config.reward
    if len(env.observation_shape) == 3:
        return _of_images(section, env)
    shapes = jax.eval_shape(
        partial(steps_seen, env),
        jax.ShapeDtypeStruct((1, *env.observation_shape), "float32"),
        jax.ShapeDtypeStruct(
            *(((1,), "int32") if env.is_discrete else ((1, env.action_size), "f4"))
        ),
    )
    (inputs,) = shapes.shape[1:]

    def init(key: Array) -> PyTree:
        return reward_model.init_vector_reward(key, inputs=inputs, hidden=section.hidden)

    def apply(params: PyTree, _: PyTree, seen: Array, key: Array | None) -> tuple[Array, PyTree]:
        return reward_model.vector_reward(params, seen, key=key, rate=section.dropout), ()

    see = partial(steps_seen, env)
    return RewardNetwork(init, (), apply, see, jax.ShapeDtypeStruct((inputs,), "float32"))


def _of_images(section: ConfigDict, env: Environment) -> RewardNetwork:
    side, _, channels = env.observation_shape
    layers = tuple(tuple(layer) for layer in section.layers)
    strides = tuple(stride for _, _, stride in layers)
    sizes = dict(side=side, channels=channels, layers=layers, hidden=section.hidden[-1])

    def init(key: Array) -> PyTree:
        return reward_model.init_image_reward(key, **sizes, norm=section.norm)

    def apply(
        params: PyTree, model_state: PyTree, seen: Array, key: Array | None
    ) -> tuple[Array, PyTree]:
        return reward_model.image_reward(
            params,
            model_state,
            seen,
            strides=strides,
            norm=section.norm,
            key=key,
            rate=section.dropout,
        )

    model_state = reward_model.init_statistics(layers, section.norm)
    image = jax.eval_shape(lambda key: env.observe(env.reset(key)), jax.random.key(0))
    # Of the last frames; actions are not seen.
    return RewardNetwork(init, model_state, apply, lambda obs, act: obs, image)


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
        sample=section.get("sample", 0),
        gradient=make_gradient(config, num_steps=config.num_steps * section.rounds * section.steps),
        is_mapped=section.is_mapped,
    )


def policy_networks(config: ConfigDict, env: Environment) -> Networks:
    """Returns policy and value function of `config.learner` for an environment."""
    section = config.learner
    if section.get("layers", ()):
        layers = tuple(tuple(layer) for layer in section.layers)
        return convolutional(env, layers=layers, hidden=section.hidden[-1], log_std=section.log_std)
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
        limit, rate = numbers["kl_limit"], section.value_rate
        return trpo(networks, TRPOSettings(**common, kl_limit=limit, value_rate=rate))
    if section.algorithm == "a2c":
        return a2c(networks, A2CSettings(**common, **section.a2c))
    if section.algorithm == "ppo":
        return ppo(networks, PPOSettings(**common, **section.ppo))
    allowed = ", ".join(ALGORITHMS)
    raise ValueError(f"config.learner.algorithm={section.algorithm!r}: expected one of {allowed}")
