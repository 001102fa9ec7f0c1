"""What all algorithms are: act, and learn from a rollout and the rewards that it is given."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt

from rlhf.gae import gae
from rlhf.moments import Moments, merged, moments_of, no_moments, standardize
from rlhf.policies import Networks, Params
from rlhf.rollouts import Rollout

OBSERVATION_LIMIT = 10.0  # standard deviations
PyTree = Any
Number = float | Float[Array, ""]
Metrics = dict[str, jax.Array]


class Agent(NamedTuple):
    """Everything an algorithm remembers.

    Attributes:
        params: Of policy and value function.
        opt_state: Of the optimizer.
        observations: Moments of all observations so far, by which they are standardized.
        returns: Moments of all returns so far: values are learned in their units.
        steps: Environment steps learned from, on all devices.
    """

    params: Params
    opt_state: Any
    observations: Moments
    returns: Moments
    steps: UInt[Array, ""]


class Algorithm(NamedTuple):
    """Reinforcement learning as pure functions, whatever the rewards are.

    Attributes:
        init: key -> Agent.
        act: (agent, observations, noise) -> actions; what `rollouts.collect` takes, with the agent
            filled in. Noise of zeros gives the likeliest actions.
        update: (agent, rollout, rewards [steps, envs], key) -> (agent, metrics).
    """

    init: Callable[[PRNGKeyArray], Agent]
    act: Callable[[Agent, jax.Array, jax.Array], jax.Array]
    update: Callable[[Agent, Rollout, jax.Array, PRNGKeyArray], tuple[Agent, Metrics]]


@runtime_checkable
class Returns(Protocol):
    """What settings of every algorithm say of returns: γ, λ, and the units of values."""

    @property
    def discount(self) -> Number:
        """γ."""
        ...

    @property
    def decay(self) -> Number:
        """λ of the advantages."""
        ...

    @property
    def has_units(self) -> bool:
        """Whether values are learned in units of the returns so far."""
        ...


class Lesson(NamedTuple):
    """What a rollout and its rewards teach: leaves [steps, envs, ...].

    Attributes:
        observations: Standardized.
        actions: What was done.
        advantages: How much better each was than what the value function expected.
        targets: Returns to fit values to, in the units of the agent.
    """

    observations: Array
    actions: Array
    advantages: Float[Array, "steps envs"]
    targets: Float[Array, "steps envs"]


def init_agent(networks: Networks, opt_state: Callable[[Params], Any], key: PRNGKeyArray) -> Agent:
    """Returns an agent that has seen nothing."""
    params = networks.init(key)
    shape = networks.observation_shape if networks.standardizes else ()
    steps = jnp.zeros((), jnp.uint32)
    return Agent(params, opt_state(params), no_moments(shape), no_moments(), steps)


def act(networks: Networks, agent: Agent, observations: jax.Array, noise: jax.Array) -> jax.Array:
    """Returns an action for each observation."""
    inputs = standardized_observations(networks, agent, observations)
    return networks.distribution.sample(networks.policy(agent.params, inputs), noise)


def standardized_observations(
    networks: Networks, agent: Agent, observations: jax.Array
) -> jax.Array:
    """Returns observations as the networks take them, within ±10 standard deviations."""
    if not networks.standardizes:
        return observations
    return standardize(agent.observations, observations, limit=OBSERVATION_LIMIT)


def lesson_of(
    networks: Networks,
    settings: Returns,
    agent: Agent,
    rollout: Rollout,
    rewards: Float[Array, "steps envs"],
    *,
    axis: str | None,
) -> tuple[Agent, Lesson]:
    """Returns advantages and targets of a rollout, and the agent with its moments renewed.

    Observations are those that the policy acted on; the new moments hold from the next rollout.
    """
    inputs = standardized_observations(networks, agent, rollout.observations)
    after = standardized_observations(networks, agent, rollout.next_observations)
    scale = jnp.sqrt(agent.returns.variance + 1e-8)
    values, next_values = (
        agent.returns.mean + scale * networks.value(agent.params, x) for x in (inputs, after)
    )
    ends = (rollout.terminated, rollout.ended)
    discounts = dict(discount=settings.discount, decay=settings.decay)
    advantages = gae(rewards, values, next_values, *ends, **discounts)
    returns = agent.returns
    if settings.has_units:
        returns = merged(returns, moments_of(advantages + values, axis=axis))
    new = agent._replace(returns=returns, steps=agent.steps + _count(rewards, axis))
    if networks.standardizes:
        seen = moments_of(rollout.observations, len(networks.observation_shape), axis=axis)
        new = new._replace(observations=merged(agent.observations, seen))
    targets = (advantages + values - returns.mean) * jax.lax.rsqrt(returns.variance + 1e-8)
    return new, Lesson(inputs, rollout.actions, advantages, targets)


def minibatches(
    key: PRNGKeyArray, num_steps: int, *, epochs: int, size: int
) -> Int[Array, "batches size"]:
    """Returns which steps of a rollout are in which minibatch; each has all environments.

    Every epoch deals all steps anew; what does not fill a minibatch is left out of it. Steps and
    not single transitions are dealt, so that batches are the same on any number of devices.
    """
    size = min(size, num_steps)
    count = num_steps // size
    order = jax.vmap(lambda k: jax.random.permutation(k, num_steps))(jax.random.split(key, epochs))
    return order[:, : count * size].reshape(epochs * count, size)


def descended(
    optimizer: optax.GradientTransformation,
    gradient: PyTree,
    opt_state: Any,
    params: PyTree,
    rate: Number,
) -> tuple[PyTree, Any]:
    """Returns parameters and state of the optimizer after one step against its direction."""
    updates, opt_state = optimizer.update(gradient, opt_state, params)
    return jax.tree.map(lambda w, u: w - rate * u, params, updates), opt_state


def _count(rewards: jax.Array, axis: str | None) -> int:
    return rewards.size * (1 if axis is None else jax.lax.axis_size(axis))
