"""Trust regions: Fisher products, conjugate gradients, and steps that keep their promise."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from rlhf.algorithms import Lesson
from rlhf.distributions import CATEGORICAL, GAUSSIAN, Gaussian
from rlhf.envs import make
from rlhf.policies import Networks, convolutional, perceptrons
from rlhf.trpo import TRPOSettings, conjugate_gradient, fisher_product, policy_step, trpo

STEPS, ENVS = 6, 5


def small(kind: str) -> Networks:
    """Returns networks whose policies have about 20 parameters: 3-3-1 and log σ, or 1-3-3."""
    env = make({"gaussian": "pendulum", "categorical": "chain"}[kind])
    return perceptrons(env, hidden=(3,))


def drawn(networks: Networks, key: jax.Array) -> tuple[Any, Lesson]:
    """Returns a policy away from its beginning, and a lesson of random numbers."""
    keys = jax.random.split(key, 5)
    theta, as_params = ravel_pytree(networks.init(keys[0])["policy"])
    policy = as_params(theta + 0.5 * jax.random.normal(keys[4], theta.shape))
    shape = (STEPS, ENVS, *networks.observation_shape)
    observations = jax.random.normal(keys[1], shape)
    outputs = networks.policy({"policy": policy}, observations)
    noise = jax.random.normal(keys[2], jax.tree.leaves(outputs)[0].shape)
    actions = networks.distribution.sample(outputs, noise)
    advantages = jax.random.normal(keys[3], (STEPS, ENVS))
    return policy, Lesson(observations, actions, advantages, advantages)


@pytest.mark.parametrize("kind", ["gaussian", pytest.param("categorical", marks=pytest.mark.slow)])
def test_fisher_products_are_those_of_the_hessian_of_the_divergence(
    kind: str, float64: None
) -> None:
    networks = small(kind)
    law = networks.distribution

    @jax.jit
    def matrices(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        policy, lesson = drawn(networks, key)
        theta, as_params = ravel_pytree(policy)

        def outputs(theta: jax.Array) -> Any:
            return networks.policy({"policy": as_params(theta)}, lesson.observations)

        old = outputs(theta)
        hessian = jax.hessian(lambda t: jnp.mean(law.divergence(old, outputs(t))))(theta)
        products = jax.vmap(fisher_product(law.fisher, outputs, theta))
        return hessian, products(jnp.eye(theta.size))

    hessian, products = matrices(jax.random.key(0))

    assert 16 <= len(hessian) <= 20
    assert np.linalg.matrix_rank(hessian) >= 5
    np.testing.assert_allclose(products, hessian, atol=1e-10 * float(jnp.abs(hessian).max()))


def test_information_of_a_normal_variable() -> None:
    """1/σ² of the mean and 2 of log σ: second derivatives of the divergence, by hand."""
    log_std = np.array([0.3, -0.7])
    old = Gaussian(jnp.array([1.0, 2.0]), jnp.asarray(log_std, jnp.float32))
    ones = Gaussian(jnp.ones(2), jnp.ones(2))

    information = GAUSSIAN.fisher(old, ones)

    np.testing.assert_allclose(information.mean, np.exp(-2 * log_std), rtol=1e-6)
    np.testing.assert_allclose(information.log_std, 2, rtol=1e-6)


def test_distributions_agree_with_sums_over_a_fine_grid(float64: None) -> None:
    old = Gaussian(jnp.array([0.3]), jnp.array([-0.2]))
    new = Gaussian(jnp.array([-0.5]), jnp.array([0.4]))
    x = jnp.linspace(-12, 12, 4001)
    width = float(x[1] - x[0])

    def at(law: Gaussian) -> np.ndarray:
        each = Gaussian(*(jnp.broadcast_to(part, (x.size, 1)) for part in law))
        return np.asarray(GAUSSIAN.log_prob(each, x.reshape(-1, 1)))

    p, q = at(old), at(new)

    np.testing.assert_allclose(np.exp(p).sum() * width, 1, rtol=1e-9)
    np.testing.assert_allclose(-(np.exp(p) * p).sum() * width, GAUSSIAN.entropy(old), rtol=1e-9)
    np.testing.assert_allclose(
        (np.exp(p) * (p - q)).sum() * width, GAUSSIAN.divergence(old, new), rtol=1e-9
    )

    a, b = jnp.array([0.2, -1.0, 0.5]), jnp.array([1.0, 0.0, -0.5])
    weights = np.exp(a) / np.exp(a).sum()
    logs = np.array([CATEGORICAL.log_prob(a, jnp.asarray(i)) for i in range(3)])
    np.testing.assert_allclose(np.exp(logs), weights, rtol=1e-12)
    np.testing.assert_allclose(CATEGORICAL.entropy(a), -(weights * logs).sum(), rtol=1e-12)
    other = np.log(np.exp(b) / np.exp(b).sum())
    divergence = (weights * (logs - other)).sum()
    np.testing.assert_allclose(CATEGORICAL.divergence(a, b), divergence, rtol=1e-12)
    assert CATEGORICAL.sample(a, jnp.zeros(3)) == 2  # without noise, the likeliest


def test_conjugate_gradients_solve_in_as_many_steps_as_there_are_unknowns(float64: None) -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    matrix, b = root @ root.T + np.eye(6), rng.normal(size=6)
    run = jax.jit(
        lambda matrix, b: conjugate_gradient(lambda v: matrix @ v, b, 8)  # two more than it needs
    )

    x, length = run(jnp.asarray(matrix), jnp.asarray(b))

    solution = np.linalg.solve(matrix, b)
    np.testing.assert_allclose(x, solution, rtol=1e-6)
    np.testing.assert_allclose(length, solution @ matrix @ solution, rtol=1e-6)
    nothing, _ = run(jnp.asarray(matrix), jnp.zeros(6))
    assert (nothing == 0).all()


@pytest.fixture(scope="module")
def step() -> Any:
    """(limit δ, weight of entropy, advantages times) -> what a step of the policy came to."""
    networks = small("categorical")
    law = networks.distribution

    @jax.jit
    def run(limit: jax.Array, entropy: jax.Array, times: jax.Array) -> dict[str, jax.Array]:
        settings = TRPOSettings(kl_limit=limit, entropy=entropy, damping=1e-5, fisher_stride=1)
        policy, lesson = drawn(networks, jax.random.key(1))
        lesson = lesson._replace(advantages=times * lesson.advantages)
        new, metrics = policy_step(networks, settings, policy, lesson)
        outputs = [networks.policy({"policy": p}, lesson.observations) for p in (policy, new)]
        old_log, new_log = (law.log_prob(o, lesson.actions) for o in outputs)
        return {
            **metrics,
            "divergence": jnp.mean(law.divergence(*outputs)),
            "gain": jnp.mean(jnp.exp(new_log - old_log) * lesson.advantages),
            "old_gain": jnp.mean(lesson.advantages),
            "entropies": jnp.stack([jnp.mean(law.entropy(o)) for o in outputs]),
            "moved": jnp.abs(ravel_pytree(new)[0] - ravel_pytree(policy)[0]).max(),
        }

    def of(*numbers: float) -> dict[str, np.ndarray]:
        return jax.device_get(run(*map(jnp.float32, numbers)))

    return of


def test_a_step_improves_and_stays_inside_the_trust_region(step: Any) -> None:
    tiny, large = step(1e-5, 0.0, 1.0), step(0.5, 0.0, 1.0)

    for limit, done in ((1e-5, tiny), (0.5, large)):
        assert done["gain"] > done["old_gain"]
        assert 0 < done["divergence"] <= 1.5 * limit
        np.testing.assert_allclose(done["kl"], done["divergence"], rtol=1e-3, atol=1e-7)
    # The full step is as long as ½ s^T F s = δ says, where the divergence is a parabola.
    assert tiny["step_share"] == 1
    np.testing.assert_allclose(tiny["divergence"], 1e-5, rtol=0.1)


def test_where_nothing_can_be_gained_nothing_moves(step: Any) -> None:
    done = step(0.01, 0.0, 0.0)

    assert done["moved"] == 0
    assert done["step_share"] == 0 and done["kl"] == 0


def test_the_bonus_alone_raises_entropy(step: Any) -> None:
    done = step(0.01, 1.0, 0.0)

    old, new = done["entropies"]
    assert new > old + 1e-3


def test_networks_that_share_layers_are_refused() -> None:
    algorithm = trpo(convolutional(make("bricks")), TRPOSettings())

    with pytest.raises(ValueError, match="share layers"):
        jax.eval_shape(algorithm.init, jax.random.key(0))
    with pytest.raises(ValueError, match="allowed: tanh, relu"):
        perceptrons(make("pendulum"), activation="sine")
