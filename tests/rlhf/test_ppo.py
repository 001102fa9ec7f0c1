"""Clipped ratios: gains by hand, minibatches that deal every step once, and a rise in reward."""

import jax
import jax.numpy as jnp
import numpy as np

from rlhf.algorithms import minibatches
from rlhf.envs.chain import chain
from rlhf.policies import perceptrons
from rlhf.ppo import PPOSettings, clipped_gain, ppo
from rlhf.training import train, true_reward


def test_gains_stop_where_the_ratio_is_clipped() -> None:
    ratio = jnp.array([0.5, 0.9, 1.0, 1.1, 1.5] * 2)
    advantage = jnp.array([2.0] * 5 + [-2.0] * 5)

    gain, slope = jax.vmap(jax.value_and_grad(lambda r, a: clipped_gain(r, a, 0.2)))(
        ratio, advantage
    )

    np.testing.assert_allclose(gain[:5], [1.0, 1.8, 2.0, 2.2, 2.4], rtol=1e-6)
    np.testing.assert_allclose(gain[5:], [-1.6, -1.8, -2.0, -2.2, -3.0], rtol=1e-6)
    # A ratio that has gone too far the right way has no slope; the wrong way, all of it.
    assert slope.tolist() == [2, 2, 2, 2, 0, 0, -2, -2, -2, -2]


def test_every_epoch_deals_every_step_once() -> None:
    rows = np.asarray(
        jax.jit(lambda key: minibatches(key, 12, epochs=3, size=4))(jax.random.key(0))
    )

    assert rows.shape == (9, 4)
    epochs = rows.reshape(3, 12)
    assert (np.sort(epochs, axis=1) == np.arange(12)).all()
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert minibatches(jax.random.key(1), 3, epochs=1, size=8).shape == (1, 3)


def test_seeds_learn_to_walk_right_from_a_reward_that_the_environment_does_not_have() -> None:
    """Under `vmap`, with a true reward that is no number: it reaches the score alone."""
    env = chain(horizon=8, goal=8)
    networks = perceptrons(env, hidden=(8,), activation="relu")
    algorithm = ppo(networks, PPOSettings(learning_rate=3e-2, epochs=4, steps=8))
    blind = env._replace(reward=lambda state, action, after: jnp.nan * state.place)
    places = jnp.arange(8.0).reshape(8, 1) / 8

    def run(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        learner, metrics = train(
            blind, algorithm, true_reward(env), key, num_envs=16, num_steps=8, iterations=15
        )
        return algorithm.act(learner.agent, places, jnp.zeros((8, 3))), metrics["mean_reward"]

    actions, scores = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(2), 3))

    assert scores.shape == (3, 15)
    assert np.isnan(scores).all()
    assert (np.asarray(actions) == 2).all()  # to the right, wherever it is
