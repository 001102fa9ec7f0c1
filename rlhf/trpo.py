"""Trust-region policy optimization: a natural gradient as long as the trust region allows."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
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
from rlhf.policies import Networks
from rlhf.rollouts import Rollout

PyTree = Any
Vector = Float[Array, " n"]
Search = tuple[jax.Array, jax.Array, jax.Array, jax.Array]  # tries, share, divergence, is better


class TRPOSettings(NamedTuple):
    """Numbers of the algorithm; those marked so may be arrays, one for each seed under `vmap`.

    Attributes:
        discount: γ; may be an array, as may the next three and `value_rate`.
        decay: λ of the advantages.
        entropy: Weight of the mean entropy in what is maximized.
        kl_limit: δ, the mean divergence of the full step.
        damping: Added to the Fisher matrix.
        cg_iterations: Of conjugate gradients, each one product with the Fisher matrix.
        fisher_stride: The Fisher matrix is that of every n-th step of the rollout.
        backtracks: How often the step may be halved.
        slack: A step is taken whose divergence is up to this many times δ.
        value_rate: Learning rate of the value function (Adam).
        value_epochs: How often it sees the rollout.
        value_steps: Steps of the rollout in one of its minibatches; each has all environments.
        has_units: Whether values are learned in units of the returns so far.
    """

    discount: Number = 0.995
    decay: Number = 0.97
    entropy: Number = 0.01
    kl_limit: Number = 0.01
    damping: float = 0.1
    cg_iterations: int = 10
    fisher_stride: int = 4
    backtracks: int = 10
    slack: float = 1.5
    value_rate: Number = 1e-3
    value_epochs: int = 4
    value_steps: int = 16
    has_units: bool = True


def trpo(networks: Networks, settings: TRPOSettings, *, axis: str | None = None) -> Algorithm:
    """Returns the algorithm; under `shard_map` environments are split over the mesh axis `axis`.

    Source: Schulman et al. (2015), App. C; Christiano et al. (2017), App. A.1, add the entropy
    bonus and give γ = 0.995 and λ = 0.97.

    Raises:
        ValueError: If policy and value function share layers.
    """
    optimizer = optax.scale_by_adam()

    def init(key: PRNGKeyArray) -> Agent:
        agent = init_agent(networks, lambda params: optimizer.init(params["value"]), key)
        if "trunk" in agent.params:
            raise ValueError(
                "trpo: policy and value function share layers (params['trunk']); a trust region is "
                "of the policy alone, so it needs networks such as policies.perceptrons"
            )
        return agent

    def update(
        agent: Agent, rollout: Rollout, rewards: Float[Array, "steps envs"], key: PRNGKeyArray
    ) -> tuple[Agent, Metrics]:
        agent, lesson = lesson_of(networks, settings, agent, rollout, rewards, axis=axis)
        policy, metrics = policy_step(networks, settings, agent.params["policy"], lesson, axis=axis)
        fit = partial(_fit_values, networks, settings, optimizer, lesson, axis)
        value, opt_state, loss = fit(agent.params["value"], agent.opt_state, key)
        params = {"policy": policy, "value": value}
        return agent._replace(params=params, opt_state=opt_state), {**metrics, "value_loss": loss}

    return Algorithm(init, partial(act, networks), update)


def policy_step(
    networks: Networks,
    settings: TRPOSettings,
    policy: PyTree,
    lesson: Lesson,
    *,
    axis: str | None = None,
) -> tuple[PyTree, Metrics]:
    """Returns the policy after one step that stays inside the trust region, or as it was.

    Source: Schulman et al. (2015), App. C: s solves F s = g, the step is s sqrt(2 δ / s^T F s), and
    it is halved until the surrogate has grown and the mean divergence is allowed.
    """
    theta, as_params = ravel_pytree(policy)
    advantages = standardized(lesson.advantages, axis)
    law = networks.distribution

    def outputs(theta: Vector, observations: jax.Array = lesson.observations) -> Any:
        return networks.policy({"policy": as_params(theta)}, observations)

    old = outputs(theta)
    old_log_prob = law.log_prob(old, lesson.actions)

    def local(theta: Vector) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        new = outputs(theta)
        ratio = jnp.exp(law.log_prob(new, lesson.actions) - old_log_prob)
        entropy = jnp.mean(law.entropy(new))
        gain = jnp.mean(ratio * advantages) + settings.entropy * entropy
        return gain, (jnp.mean(law.divergence(old, new)), entropy)

    gradient, gain, entropy = mean_over(axis, _gradient(local, theta))
    some = lesson.observations[:: settings.fisher_stride]
    fisher = fisher_product(law.fisher, lambda t: outputs(t, some), theta, axis=axis)
    direction, length = conjugate_gradient(
        lambda v: fisher(v) + settings.damping * v, gradient, settings.cg_iterations
    )
    full = direction * jnp.sqrt(2 * settings.kl_limit / jnp.maximum(length, 1e-12))

    def measured(theta: Vector) -> tuple[jax.Array, jax.Array]:
        gain, (divergence, _) = local(theta)
        return mean_over(axis, (gain, divergence))

    new, share, divergence = line_search(measured, theta, full, gain, settings)
    metrics = {"kl": divergence, "entropy": entropy, "step_share": share}
    return as_params(new), metrics


def _gradient(
    local: Callable[[Vector], tuple[jax.Array, tuple[jax.Array, jax.Array]]], theta: Vector
) -> tuple[Vector, jax.Array, jax.Array]:
    (gain, (_, entropy)), gradient = jax.value_and_grad(local, has_aux=True)(theta)
    return gradient, gain, entropy


def fisher_product(
    fisher: Callable[[Any, Any], Any],
    outputs: Callable[[Vector], Any],
    theta: Vector,
    *,
    axis: str | None = None,
) -> Callable[[Vector], Vector]:
    """Returns v -> F v, F being the Hessian of the mean divergence from `theta`, at `theta`.

    Source: Schulman et al. (2015), App. C.1: F = mean of J^T M J, with the Jacobian J of what the
    policy puts out and the information M of its distribution in these numbers. J is linearized
    once; a product is one forward and one backward pass, and one mean over devices.
    """
    at, push = jax.linearize(outputs, theta)
    pull = jax.linear_transpose(push, theta)
    leaf = jax.tree.leaves(at)[0]
    count = leaf.size // leaf.shape[-1]

    def product(v: Vector) -> Vector:
        (pulled,) = pull(jax.tree.map(lambda x: x / count, fisher(at, push(v))))
        return mean_over(axis, pulled)

    return product


def conjugate_gradient(
    product: Callable[[Vector], Vector], b: Vector, iterations: int
) -> tuple[Vector, Float[Array, ""]]:
    """Returns x with product(x) = b, and x^T product(x), after so many steps from 0.

    Source: Hestenes and Stiefel (1952). A step after the residual is gone is none.
    """
    enough = 1e-10 * jnp.vdot(b, b)

    def step(carry: tuple[jax.Array, ...], _: None) -> tuple[tuple[jax.Array, ...], None]:
        x, r, p, square = carry
        z = product(p)
        is_done = square <= enough
        alpha = jnp.where(is_done, 0.0, square / jnp.where(is_done, 1.0, jnp.vdot(p, z)))
        x, r = x + alpha * p, r - alpha * z
        new_square = jnp.where(is_done, square, jnp.vdot(r, r))
        beta = new_square / jnp.where(is_done, 1.0, square)
        return (x, r, jnp.where(is_done, p, r + beta * p), new_square), None

    start = (jnp.zeros_like(b), b, b, jnp.vdot(b, b))
    (x, r, *_), _ = jax.lax.scan(step, start, length=iterations)
    return x, jnp.vdot(x, b - r)


def line_search(
    measured: Callable[[Vector], tuple[jax.Array, jax.Array]],
    theta: Vector,
    full: Vector,
    gain: Float[Array, ""],
    settings: TRPOSettings,
) -> tuple[Vector, Float[Array, ""], Float[Array, ""]]:
    """Returns the parameters, the share of the full step that was taken, and its divergence.

    Source: Schulman et al. (2015), App. C: halved until what is `measured`, surrogate and
    divergence, is better than `gain` and at most `slack` times δ; else nothing moves.
    """

    def fails(search: Search) -> jax.Array:
        tries, _, divergence, is_better = search
        is_inside = divergence <= settings.slack * settings.kl_limit
        return (tries <= settings.backtracks) & ~(is_better & is_inside)

    def halve(search: Search) -> Search:
        tries, *_ = search
        share = 0.5 ** tries.astype(theta.dtype)
        new_gain, divergence = measured(theta + share * full)
        return tries + 1, share, divergence, new_gain > gain

    zero = jnp.zeros((), theta.dtype)
    start = (jnp.zeros((), jnp.int32), zero, zero + jnp.inf, jnp.zeros((), bool))
    search = jax.lax.while_loop(fails, halve, start)
    has_failed = fails((jnp.zeros((), jnp.int32), *search[1:]))
    share, divergence = (jnp.where(has_failed, 0.0, x) for x in search[1:3])
    return theta + share * full, share, divergence


def _fit_values(
    networks: Networks,
    settings: TRPOSettings,
    optimizer: optax.GradientTransformation,
    lesson: Lesson,
    axis: str | None,
    value: PyTree,
    opt_state: Any,
    key: PRNGKeyArray,
) -> tuple[PyTree, Any, Float[Array, ""]]:
    """Returns value function and optimizer after its epochs, and the mean loss of the last."""

    def loss(value: PyTree, observations: jax.Array, targets: jax.Array) -> jax.Array:
        return jnp.mean((networks.value({"value": value}, observations) - targets) ** 2)

    def step(carry: tuple[PyTree, Any], steps: jax.Array) -> tuple[tuple[PyTree, Any], jax.Array]:
        value, opt_state = carry
        rows = lesson.observations[steps], lesson.targets[steps]
        mean, gradient = mean_over(axis, jax.value_and_grad(loss)(value, *rows))
        new = descended(optimizer, gradient, opt_state, value, settings.value_rate)
        return new, mean

    num_steps = lesson.targets.shape[0]
    batches = minibatches(key, num_steps, epochs=settings.value_epochs, size=settings.value_steps)
    (value, opt_state), losses = jax.lax.scan(step, (value, opt_state), batches)
    return value, opt_state, jnp.mean(losses[-(len(losses) // settings.value_epochs) :])
