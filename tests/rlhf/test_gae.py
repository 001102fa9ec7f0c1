"""Advantages against their definition, published by hand, and at both kinds of ends."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf.gae import gae

STEPS, ENVS = 5, 4


@pytest.fixture(scope="module")
def advantages() -> Any:
    """`gae` of [STEPS, ENVS], compiled once."""

    @jax.jit
    def run(rewards, values, next_values, terminated, ended, discount, decay):
        ends = (terminated, ended)
        return gae(rewards, values, next_values, *ends, discount=discount, decay=decay)

    def of(*arrays: Any, discount: float, decay: float) -> np.ndarray:
        scalars = (jnp.float32(discount), jnp.float32(decay))
        return np.asarray(run(*(jnp.asarray(x) for x in arrays), *scalars))

    return of


@pytest.mark.parametrize(
    ("discount", "decay", "expected"),
    [
        (0.995, 0.97, [4.663435, 3.795716, 2.896665, 1.965150, 1]),
        (0.99, 0.95, [4.439362, 3.656950, 2.825040, 1.940500, 1]),
        (0.99, 1.0, [4.900995, 3.940399, 2.970100, 1.99, 1]),
        (0.99, 0.0, [1, 1, 1, 1, 1]),
    ],
)
def test_of_rewards_of_one_and_values_of_zero(
    advantages: Any, discount: float, decay: float, expected: list[float]
) -> None:
    ones, zeros = np.ones((STEPS, ENVS), np.float32), np.zeros((STEPS, ENVS), np.float32)
    no = np.zeros((STEPS, ENVS), bool)

    found = advantages(ones, zeros, zeros, no, no, discount=discount, decay=decay)

    np.testing.assert_allclose(found, np.tile(np.array(expected)[:, None], ENVS), rtol=2e-6)


def test_is_the_sum_of_its_definition_up_to_the_next_end(advantages: Any) -> None:
    rng = np.random.default_rng(0)
    rewards, values, next_values = rng.normal(size=(3, STEPS, ENVS)).astype(np.float32)
    ended = np.zeros((STEPS, ENVS), bool)
    ended[1, 1] = ended[2, 2] = ended[0, 2] = ended[3, 3] = True
    terminated = ended & np.array([False, True, False, True])
    discount, decay = 0.9, 0.8

    found = advantages(
        rewards, values, next_values, terminated, ended, discount=discount, decay=decay
    )

    for e in range(ENVS):
        for t in range(STEPS):
            expected, weight = 0.0, 1.0
            for s in range(t, STEPS):
                bootstrap = 0.0 if terminated[s, e] else discount * next_values[s, e]
                expected += weight * (rewards[s, e] + bootstrap - values[s, e])
                if ended[s, e]:
                    break
                weight *= discount * decay
            np.testing.assert_allclose(found[t, e], expected, rtol=1e-5, atol=1e-6)


def test_the_end_of_a_recording_bootstraps_and_the_end_of_the_task_does_not(
    advantages: Any,
) -> None:
    """With V of the endless task, a truncated episode is worth what an endless one is."""
    discount = 0.9
    worth = np.full((STEPS, ENVS), 1 / (1 - discount), np.float32)  # of reward 1 for ever
    ones, no = np.ones((STEPS, ENVS), np.float32), np.zeros((STEPS, ENVS), bool)
    ended = no.copy()
    ended[2] = True

    truncated = advantages(ones, worth, worth, no, ended, discount=discount, decay=1.0)
    terminated = advantages(ones, worth, worth, ended, ended, discount=discount, decay=1.0)

    np.testing.assert_allclose(truncated, 0, atol=2e-5)
    np.testing.assert_allclose(terminated[2], 1 - worth[0], rtol=1e-5)
    np.testing.assert_allclose(terminated[3:], 0, atol=2e-5)
