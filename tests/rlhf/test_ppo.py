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


def test_a_seed_of_many_learns_to_walk_right_and_evaluating_changes_nothing() -> None:
    """Under `vmap` over seeds, on a reward that is an argument and not a part of the rollout."""
    env = chain(horizon=8, goal=8)
    networks = perceptrons(env, hidden=(8,), activation="relu")
    algorithm = ppo(networks, PPOSettings(learning_rate=3e-2, epochs=4, steps=8))
    blind = env._replace(reward=lambda state, action, after: jnp.nan * state.place)

    def run(task, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        learner, metrics = train(
            task, algorithm, true_reward(env), key, num_envs=16, num_steps=8, iterations=15
        )
        return learner.agent.params["value"][0].kernel, metrics["mean_reward"]

    both = jax.jit(jax.vmap(lambda key: (run(env, key), run(blind, jax.random.clone(key)))))
    (kernel, scores), (other, none) = both(jax.random.split(jax.random.key(2), 3))

    best = np.arange(8).mean() / 8
    assert scores.shape == (3, 15)
    assert (scores[:, -3:].mean(1) > 0.9 * best).all()
    assert (np.abs(scores[:, 0]) < 0.15).all()
    # A true reward that is no number reaches the score alone.
    assert jnp.isnan(none).all()
    np.testing.assert_array_equal(kernel, other)
