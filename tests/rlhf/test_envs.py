"""Environments: physics, symmetry, poses, and nothing that tells a learner what the task is."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf.envs import ENVIRONMENTS, bricks, cart_pole, double_pendulum, make, pendulum, reacher
from rlhf.envs.environment import Environment
from rlhf.rollouts import collect, rewards_of, start

NUM_ENVS, NUM_STEPS = 25, 400  # 10,000 random steps
CONTINUOUS = ("pendulum", "double_pendulum", "reacher")


def mirrored(name: str, state: Any) -> Any:
    """Returns a state as seen in a mirror that swaps left and right; not of the chain."""
    if name in ("pendulum", "cart_pole", "double_pendulum"):
        return jax.tree.map(lambda x: -x, state)
    if name == "reacher":
        flipped = state.target * jnp.array([1.0, -1.0])
        return state._replace(angles=-state.angles, velocities=-state.velocities, target=flipped)
    last = bricks.SIZE - 1
    return state._replace(
        ball=jnp.stack([state.ball[0], last - state.ball[1]]),
        before=jnp.stack([state.before[0], last - state.before[1]]),
        velocity=state.velocity * jnp.array([1, -1]),
        paddle=last - state.paddle,
        bricks=state.bricks[:, ::-1],
    )


def mirrored_action(env: Environment, action: jax.Array) -> jax.Array:
    return env.action_size - 1 - action if env.is_discrete else -action


@cache
def played(name: str) -> dict[str, Any]:
    """Returns 10,000 steps of random actions, and all that tests ask of them, by one program."""
    env = make(name)

    def program(key: jax.Array) -> dict[str, Any]:
        def act(observations: jax.Array, noise: jax.Array) -> jax.Array:
            return jnp.argmax(noise, axis=-1) if env.is_discrete else noise

        key_start, key_run = jax.random.split(key)
        states = start(env, key_start, NUM_ENVS)
        _, rollout = collect(env, act, states, key_run, NUM_STEPS)

        def all_of(function: Any) -> Any:
            return jax.vmap(jax.vmap(function))(
                rollout.states, rollout.actions, rollout.next_states
            )

        def seen_in_a_mirror(state: Any, action: jax.Array, after: Any) -> tuple[Any, ...]:
            if name == "chain":
                return ()
            key = jax.random.key(9)  # of what has no sides: a new ball, distractors
            other = env.step(mirrored(name, state), mirrored_action(env, action), key)
            if name == "reacher":
                other = other._replace(distractors=after.distractors)
            same_reward = env.reward(mirrored(name, state), action, other)
            return other, mirrored(name, after), same_reward

        def without_action(state: Any, action: jax.Array, after: Any) -> jax.Array:
            return env.reward(state, jnp.full_like(action, jnp.nan), after)

        return {
            "rollout": rollout,
            "rewards": rewards_of(env.reward, rollout),
            "without_action": all_of(without_action if not env.is_discrete else env.reward),
            "mirror": all_of(seen_in_a_mirror),
            "poses": jax.vmap(jax.vmap(env.pose))(rollout.states),
        }

    return jax.device_get(jax.jit(program)(jax.random.key(3)))


# A program for each; the bricks are an environment of images.
QUICK = ("bricks", "chain", "pendulum")


@pytest.mark.parametrize(
    "name",
    [pytest.param(x, marks=[pytest.mark.slow] * (x not in QUICK)) for x in sorted(ENVIRONMENTS)],
)
def test_random_actions_end_no_episode_before_its_horizon(name: str) -> None:
    env, rollout = make(name), played(name)["rollout"]
    steps = np.arange(1, NUM_STEPS + 1)

    assert rollout.terminated.size == 10_000
    assert not rollout.terminated.any()
    assert (rollout.truncated == (steps % env.horizon == 0)[:, None]).all()
    assert rollout.observations.shape == (NUM_STEPS, NUM_ENVS, *env.observation_shape)
    finite = [np.isfinite(x).all() for x in jax.tree.leaves((rollout, played(name)["rewards"]))]
    assert all(finite)
    # States go on from step to step, but for what is reset.
    goes_on = jax.tree.map(
        lambda a, b: (a[:-1] == b[1:])[~rollout.truncated[:-1]].all(),
        rollout.next_states,
        rollout.states,
    )
    assert all(jax.tree.leaves(goes_on))


@pytest.mark.parametrize("name", CONTINUOUS)
def test_rewards_say_nothing_about_the_size_of_actions(name: str) -> None:
    parts = played(name)

    assert np.std(parts["rewards"]) > 0.01
    np.testing.assert_array_equal(parts["without_action"], parts["rewards"])


@pytest.mark.parametrize("name", sorted({*ENVIRONMENTS} - {"chain"}))
def test_left_and_right_are_alike(name: str) -> None:
    other, plain, reward = played(name)["mirror"]
    # A new ball is served anywhere.
    alike = np.ones((NUM_STEPS, NUM_ENVS), bool)
    if name == "bricks":
        before = played(name)["rollout"].states
        alike = plain.losses == before.losses

    for a, b in zip(jax.tree.leaves(other), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a[alike], b[alike], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(reward[alike], played(name)["rewards"][alike], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(ENVIRONMENTS))
def test_poses_lie_in_the_window_and_links_keep_their_length(name: str) -> None:
    env, poses = make(name), played(name)["poses"]
    left, right, low, high = env.window
    drawn = poses.segments[..., 4] > 0
    ends = poses.segments[..., :4].reshape(*drawn.shape, 2, 2)[drawn]
    points = np.concatenate([ends.reshape(-1, 2), poses.circles[..., :2].reshape(-1, 2)])

    assert (points >= [left, low]).all()
    assert (points <= [right, high]).all()
    if name != "bricks":
        lengths = np.linalg.norm(np.diff(ends, axis=1), axis=-1).reshape(NUM_STEPS, NUM_ENVS, -1)
        assert np.ptp(lengths, axis=(0, 1)).max() < 1e-5
        assert lengths.min() > 0.1


def test_poses_are_those_of_the_states() -> None:
    states = {name: played(name)["rollout"].states for name in ENVIRONMENTS}
    poses = {name: played(name)["poses"] for name in ENVIRONMENTS}
    rewards = {name: played(name)["rewards"] for name in ENVIRONMENTS}

    tip = poses["pendulum"].segments[..., 0, 2:4]
    angle = states["pendulum"].angle
    np.testing.assert_allclose(tip, np.stack([np.sin(angle), np.cos(angle)], -1), atol=1e-5)
    top = poses["cart_pole"].segments[..., 2, 2:4]
    cart = states["cart_pole"]
    np.testing.assert_allclose(top[..., 0], cart.position + np.sin(cart.angle), atol=1e-5)
    height = poses["double_pendulum"].segments[..., 1, 3]
    np.testing.assert_allclose(height / 2, rewards["double_pendulum"], atol=1e-5)
    hand, target = poses["reacher"].segments[..., 1, 2:4], poses["reacher"].circles[..., 0, :2]
    distance = np.linalg.norm(hand - target, axis=-1)
    np.testing.assert_allclose(-distance, rewards["reacher"], atol=1e-5)
    assert (poses["chain"].circles[..., 0, 0] == states["chain"].place).all()
    walls = (poses["bricks"].segments[..., :-1, 4] > 0).sum(-1)
    assert (walls == states["bricks"].bricks.sum((-2, -1))).all()


@pytest.mark.parametrize("name", ["pendulum", "cart_pole", "double_pendulum"])
def test_without_a_motor_energy_is_kept(name: str) -> None:
    """To the order of the method: half the step, half the error (1/16 for Runge and Kutta)."""
    modules: dict[str, Any] = {
        "pendulum": pendulum,
        "cart_pole": cart_pole,
        "double_pendulum": double_pendulum,
    }
    module = modules[name]
    with jax.enable_x64(True):
        starts: dict[str, Any] = {
            "pendulum": pendulum.PendulumState(jnp.asarray(2.0), jnp.asarray(0.3)),
            "cart_pole": cart_pole.CartPoleState(*map(jnp.asarray, (0.0, 0.0, 2.0, 0.3))),
            "double_pendulum": double_pendulum.DoublePendulumState(
                jnp.array([1.2, 0.4]), jnp.array([0.3, -0.5])
            ),
        }
        start = starts[name]
        zero = jnp.zeros(())

        @jax.jit
        def drift(time_step: jax.Array) -> jax.Array:
            """Returns by how much energy changes in 64 steps of this length or less."""

            def step(state: Any, _: None) -> tuple[Any, jax.Array]:
                state = module.advance(state, zero, time_step)
                return state, module.energy(state)

            _, energies = jax.lax.scan(step, start, length=64)
            return jnp.abs(energies - module.energy(start)).max()

        # Over the same time: what 64 steps of h drift, 64 of h/2 drift in half of it.
        coarse, fine = float(drift(jnp.asarray(0.004))), float(drift(jnp.asarray(0.002)))
        scale = abs(float(module.energy(start)))

    order = 4 if name == "double_pendulum" else 1
    assert 0 < coarse < 2e-2 * scale
    assert fine < coarse * 0.5**order * 1.1


def test_upright_is_an_equilibrium_and_gravity_is_half_a_rod() -> None:
    # θ'' = 3 g / (2 l) sin θ + 3 u / (m l²): 15 and 3 here.
    angle, torque = jnp.array([0.0, np.pi / 2, 0.0]), jnp.array([0.0, 0.0, 1.0])

    np.testing.assert_allclose(pendulum.acceleration(angle, torque), [0, 15, 3], rtol=1e-6)


def test_random_walks_never_see_the_best_place_of_the_chain() -> None:
    places = played("chain")["rollout"].states.place

    assert (places >= 18).mean() < 1e-3
    assert (places > 20).sum() == 0
    assert 3.5 < np.std(places) < 4.5  # walks of 0 to 49 steps of variance 2/3: 4.04


def test_bricks_break_once_and_points_are_counted() -> None:
    rollout, rewards = played("bricks")["rollout"], played("bricks")["rewards"]
    before, after = rollout.states, rollout.next_states
    hits, losses = after.hits - before.hits, after.losses - before.losses

    assert (rewards == hits - losses).all()
    assert (hits * losses == 0).all()
    assert min(hits.sum(), losses.sum()) > 100
    gone = before.bricks.sum((-2, -1)) - after.bricks.sum((-2, -1))
    assert (gone[gone >= 0] == hits[gone >= 0]).all()
    board = rollout.observations
    assert board.dtype == bool
    assert (board[..., 1].sum((-2, -1)) == 1).all()  # one ball
    assert (board[..., 0].sum((-2, -1)) == 3).all()  # a paddle of three cells
    assert not (board[..., 1] & board[..., 3]).any()  # no ball in a brick


def test_distractors_wander_and_episodes_differ_in_scale() -> None:
    states = played("reacher")["rollout"].states
    d = states.distractors.reshape(8, 50, NUM_ENVS, 8)

    np.testing.assert_allclose(np.var(d), 1, rtol=0.1)
    np.testing.assert_allclose(np.mean(d[:, 1:] * d[:, :-1]), 0.9, rtol=0.1)
    scale = states.scale.reshape(8, 50, NUM_ENVS)
    assert (np.ptp(scale, axis=1) == 0).all()
    assert 1 <= scale.min() < 3 and 30 < scale.max() <= 100
    first = jax.tree.map(lambda x: jnp.asarray(x[0, 0]), states)
    other = reacher.scaled_reward(first, jnp.zeros(2), first)
    np.testing.assert_allclose(
        other, scale[0, 0, 0] * played("reacher")["rewards"][0, 0], rtol=1e-5
    )


def test_the_leak_ends_episodes_where_the_pole_falls() -> None:
    env = make("cart_pole", ends_on_fall=True)

    def act(observations: jax.Array, noise: jax.Array) -> jax.Array:
        return jnp.argmax(noise, axis=-1)

    def program(key: jax.Array) -> Any:
        return collect(env, act, start(env, key, NUM_ENVS), jax.random.fold_in(key, 1), NUM_STEPS)[
            1
        ]

    rollout = jax.device_get(jax.jit(program)(jax.random.key(0)))
    after = rollout.next_states
    fallen = (np.abs(after.angle) > cart_pole.MAX_ANGLE) | (np.abs(after.position) > 2.4)

    assert (rollout.terminated == fallen).all()
    assert fallen.sum() > 100
    assert not (rollout.truncated & rollout.terminated).any()
    assert (np.abs(rollout.states.angle) < cart_pole.MAX_ANGLE).all()  # a new episode after it
    assert make("bricks", ends_on_loss=True).terminates is not None


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pendulm", {}, "allowed: bricks, cart_pole"),
        ("pendulum", {"horizon": 0}, "horizon=0"),
        ("chain", {"goal": 0}, "goal=0"),
        ("reacher", {"distractors": -1}, "distractors=-1"),
    ],
)
def test_what_cannot_be_played_is_refused(name: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(name, **options)
