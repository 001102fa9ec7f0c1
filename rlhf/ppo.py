"""Proximal policy optimization: several passes over a rollout, with clipped ratios."""

from functools import partial
from typing import Any, NamedTuple

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
    minibatches,
)
from rlhf.devices import mean_over, standardized
from rlhf.policies import Networks, Params
from rlhf.rollouts import Rollout


class PPOSettings(NamedTuple):
    """Numbers of the algorithm; rates and weights may be arrays, one for each seed under `vmap`.

    Attributes:
        discount: γ.
        decay: λ of the advantages.
        entropy: Weight of the mean entropy.
        value: Weight of the loss of values.
        clip: ε: ratios beyond 1 ± ε gain nothing more.
        learning_rate: Of Adam.
        epsilon: Of Adam.
        clip_norm: Largest norm of a gradient.
        epochs: Passes over a rollout.
        steps: Steps of the rollout in a minibatch; each has all environments.
        has_units: Whether values are learned in units of the returns so far.
    """

    discount: Number = 0.99
    decay: Number = 0.95
    entropy: Number = 0.0
    value: Number = 0.5
    clip: Number = 0.2
    learning_rate: Number = 3e-4
    epsilon: float = 1e-5
    clip_norm: float = 0.5
    epochs: int = 10
    steps: int = 16
    has_units: bool = True


def ppo(networks: Networks, settings: PPOSettings, *, axis: str | None = None) -> Algorithm:
    """Returns the algorithm; under `shard_map` environments are split over the mesh axis `axis`.

    Source: Schulman et al. (2017), Eq. 9 and Algorithm 1.
    """
    optimizer = optax.chain(
        optax.clip_by_global_norm(settings.clip_norm), optax.scale_by_adam(eps=settings.epsilon)
    )

    def init(key: PRNGKeyArray) -> Agent:
        return init_agent(networks, optimizer.init, key)

    def update(
        agent: Agent, rollout: Rollout, rewards: Float[Array, "steps envs"], key: PRNGKeyArray
    ) -> tuple[Agent, Metrics]:
        agent, lesson = lesson_of(networks, settings, agent, rollout, rewards, axis=axis)
        lesson = lesson._replace(advantages=standardized(lesson.advantages, axis))
        law = networks.distribution
        old = law.log_prob(networks.policy(agent.params, lesson.observations), lesson.actions)

        def step(carry: tuple[Params, Any], rows: jax.Array) -> tuple[tuple[Params, Any], Metrics]:
            params, opt_state = carry
            batch, old_log_prob = jax.tree.map(lambda x: x[rows], (lesson, old))
            gradient = jax.grad(
                partial(_loss, networks, settings, batch, old_log_prob), has_aux=True
            )
            gradient, metrics = mean_over(axis, gradient(params))
            rate = settings.learning_rate
            return descended(optimizer, gradient, opt_state, params, rate), metrics

        rows = minibatches(key, rewards.shape[0], epochs=settings.epochs, size=settings.steps)
        (params, opt_state), metrics = jax.lax.scan(step, (agent.params, agent.opt_state), rows)
        new = agent._replace(params=params, opt_state=opt_state)
        return new, jax.tree.map(jnp.mean, metrics)

    return Algorithm(init, partial(act, networks), update)


def clipped_gain(
    ratio: Float[Array, "*n"], advantage: Float[Array, "*n"], clip: Number
) -> Float[Array, "*n"]:
    """Returns min(r A, clip(r, 1 - ε, 1 + ε) A).

    Source: Schulman et al. (2017), Eq. 7.
    """
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)


def _loss(
    networks: Networks,
    settings: PPOSettings,
    lesson: Lesson,
    old_log_prob: Float[Array, "steps envs"],
    params: Params,
) -> tuple[jax.Array, Metrics]:
    law = networks.distribution
    distribution, values = networks.both(params, lesson.observations)
    log_ratio = law.log_prob(distribution, lesson.actions) - old_log_prob
    gain = jnp.mean(clipped_gain(jnp.exp(log_ratio), lesson.advantages, settings.clip))
    value_loss = jnp.mean((values - lesson.targets) ** 2)
    entropy = jnp.mean(law.entropy(distribution))
    loss = settings.value * value_loss - gain - settings.entropy * entropy
    # Schulman's estimate of the divergence: never negative.
    divergence = jnp.mean(jnp.expm1(log_ratio) - log_ratio)
    return loss, {"kl": divergence, "entropy": entropy, "value_loss": value_loss}
