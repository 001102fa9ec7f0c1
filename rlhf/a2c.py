"""Synchronous advantage actor-critic: one gradient step for every few steps of the environments."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from rlhf.algorithms import (
    Agent,
    Algorithm,
    Lesson,
    Metrics,
    Number,
    act,
    descended,
    init_agent,
    lesson_of,
)
from rlhf.devices import mean_over
from rlhf.policies import Networks, Params
from rlhf.rollouts import Rollout

OPTIMIZERS = ("rmsprop", "adam")


class A2CSettings(NamedTuple):
    """Numbers of the algorithm; rates and weights may be arrays, one for each seed under `vmap`.

    Attributes:
        discount: γ.
        decay: λ of the advantages; 1 gives returns of as many steps as the rollout has.
        entropy: Weight of the mean entropy.
        value: Weight of the loss of values.
        learning_rate: In the beginning; it falls linearly to 0.
        decay_steps: Environment steps after which it is 0, whether or not a run gets there.
        optimizer: "rmsprop" or "adam".
        square_decay: Memory of the squares of gradients: α of RMSProp, β₂ of Adam.
        epsilon: Added to them: under the root by RMSProp, after it by Adam.
        clip_norm: Largest norm of a gradient.
        has_units: Whether values are learned in units of the returns so far.
    """

    discount: Number = 0.99
    decay: Number = 1.0
    entropy: Number = 0.01
    value: Number = 0.5
    learning_rate: Number = 7e-4
    decay_steps: Number = 80e6
    optimizer: str = "rmsprop"
    square_decay: float = 0.99
    epsilon: float = 1e-5
    clip_norm: float = 0.5
    has_units: bool = False


def a2c(networks: Networks, settings: A2CSettings, *, axis: str | None = None) -> Algorithm:
    """Returns the algorithm; under `shard_map` environments are split over the mesh axis `axis`.

    Source: Christiano et al. (2017), App. A.2, with 16 workers, rollouts of 5 steps, and the
    numbers that are the defaults; Mnih et al. (2016), Sec. 4, here with all workers in step.

    Raises:
        ValueError: For another optimizer.
    """
    optimizer = _optimizer(settings)

    def init(key: PRNGKeyArray) -> Agent:
        return init_agent(networks, optimizer.init, key)

    def update(
        agent: Agent, rollout: Rollout, rewards: Float[Array, "steps envs"], key: PRNGKeyArray
    ) -> tuple[Agent, Metrics]:
        del key  # one step on all of the rollout
        rate = learning_rate(settings, agent.steps)
        agent, lesson = lesson_of(networks, settings, agent, rollout, rewards, axis=axis)
        gradient = jax.grad(partial(_loss, networks, settings, lesson), has_aux=True)
        gradient, metrics = mean_over(axis, gradient(agent.params))
        params, opt_state = descended(optimizer, gradient, agent.opt_state, agent.params, rate)
        return agent._replace(params=params, opt_state=opt_state), metrics

    return Algorithm(init, partial(act, networks), update)


def learning_rate(settings: A2CSettings, steps: jax.Array) -> Float[Array, ""]:
    """Returns the rate after so many environment steps.

    Source: Christiano et al. (2017), App. A.2: 7e-4, decayed linearly to 0 at 80 million steps.
    """
    share = steps.astype(jnp.float32) / settings.decay_steps
    return settings.learning_rate * jnp.maximum(1 - share, 0)


def _optimizer(settings: A2CSettings) -> optax.GradientTransformation:
    if settings.optimizer not in OPTIMIZERS:
        raise ValueError(f"a2c: optimizer={settings.optimizer!r}; allowed: {', '.join(OPTIMIZERS)}")
    decay, epsilon = settings.square_decay, settings.epsilon
    if settings.optimizer == "adam":
        scale = optax.scale_by_adam(b2=decay, eps=epsilon)
    else:
        scale = optax.scale_by_rms(decay=decay, eps=epsilon)
    return optax.chain(optax.clip_by_global_norm(settings.clip_norm), scale)


def _loss(
    networks: Networks, settings: A2CSettings, lesson: Lesson, params: Params
) -> tuple[jax.Array, Metrics]:
    law = networks.distribution
    distribution, values = networks.both(params, lesson.observations)
    gain = jnp.mean(law.log_prob(distribution, lesson.actions) * lesson.advantages)
    value_loss = jnp.mean((values - lesson.targets) ** 2)
    entropy = jnp.mean(law.entropy(distribution))
    loss = settings.value * value_loss - gain - settings.entropy * entropy
    return loss, {"entropy": entropy, "value_loss": value_loss}
