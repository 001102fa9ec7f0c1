"""MuJoCo's tasks: their physics against MuJoCo stepped by hand, and nothing in them that leaks."""

import importlib.util
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.config import load_config
from common.errors import MissingPackage, UserError
from common.experiment import build
from rlhf import simulators
from rlhf.human_preferences.configs import mujoco as config_file
from rlhf.rollouts import collect, start
from rlhf.simulators import physics, robots
from rlhf.simulators.bodies import rods_in_space
from rlhf.simulators.physics import MujocoState
from tests.processes import REPOSITORY

CONFIG = "rlhf/human_preferences/configs/mujoco.py"
NAMES = tuple(robots.ROBOTS)
needs_mujoco = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("mujoco", "gymnasium"))),
    reason="needs MuJoCo: pip install 'jax-paper-lab[rl]'",
)


def by_hand(name: str, state: MujocoState, action: np.ndarray) -> tuple[Any, Any]:
    """Returns MuJoCo's own model and data after one step of a task from a state."""
    mujoco: Any = importlib.import_module("mujoco")
    model = physics._compiled(robots.ROBOTS[name].file)
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = np.asarray(state.positions), np.asarray(state.velocities)
    data.ctrl[:] = np.clip(action, -1, 1) * model.actuator_ctrlrange[:, 1]
    mujoco.mj_step(model, data, robots.ROBOTS[name].substeps)
    mujoco.mj_kinematics(model, data)
    return model, data


def as_state(positions: np.ndarray, velocities: np.ndarray) -> MujocoState:
    return MujocoState(jnp.asarray(positions, jnp.float32), jnp.asarray(velocities, jnp.float32))


def states_of(name: str, count: int, steps: int) -> MujocoState:
    """Returns states [count, ...] after random steps."""
    it, model = robots.ROBOTS[name], physics.load(robots.ROBOTS[name].file, name)
    rng = np.random.default_rng(0)
    positions = model.start + 0.1 * rng.uniform(-1, 1, (count, len(model.start)))
    velocities = 0.1 * rng.normal(size=(count, model.velocities))
    for _ in range(steps):
        controls = model.control * rng.uniform(-1, 1, (count, len(model.control)))
        positions, velocities = physics.advance(
            it.file, positions, velocities, controls, substeps=it.substeps
        )
    return as_state(positions, velocities)


def one(states: MujocoState, number: int) -> MujocoState:
    return MujocoState(*(x[number] for x in states))


def advanced(name: str, states: MujocoState, actions: np.ndarray) -> MujocoState:
    it, model = robots.ROBOTS[name], physics.load(robots.ROBOTS[name].file, name)
    controls = (model.control * np.clip(actions, -1, 1)).astype(np.float32)
    positions, velocities = (np.asarray(x) for x in states)
    found = physics.advance(it.file, positions, velocities, controls, substeps=it.substeps)
    return as_state(*found)


@needs_mujoco
@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_simulators_steps_as_mujoco_does_one_by_one(name: str) -> None:
    states = states_of(name, 3, 20)
    size = len(physics.load(robots.ROBOTS[name].file, name).control)
    actions = np.random.default_rng(1).uniform(-1.5, 1.5, (3, size))
    after = advanced(name, states, actions)

    for n in range(3):
        _, data = by_hand(name, one(states, n), actions[n])
        # The state is rounded to single precision: 2^-24 of numbers up to some tens.
        scale = 1 + np.abs(data.qvel).max()
        np.testing.assert_allclose(after.positions[n], data.qpos, atol=2e-6)
        np.testing.assert_allclose(after.velocities[n], data.qvel, atol=2e-6 * scale)
    # Alone, and after others: nothing is remembered between calls.
    alone = advanced(name, MujocoState(*(x[1:2] for x in states)), actions[1:2])
    assert (alone.positions[0] == after.positions[1]).all()
    assert (alone.velocities[0] == after.velocities[1]).all()


@needs_mujoco
@pytest.mark.parametrize("name", NAMES)
def test_kinematics_are_those_of_mujoco(name: str) -> None:
    states = states_of(name, 1, 20)
    model, data = by_hand(name, one(states, 0), np.zeros(1))
    ours = physics.load(robots.ROBOTS[name].file, name)
    drawn = [n for n in range(model.ngeom) if model.geom_type[n] in (2, 3)]
    along = data.geom_xmat[drawn].reshape(-1, 3, 3)[:, :, 2]
    half = np.where(model.geom_type[drawn] == 3, model.geom_size[drawn, 1], 0.0)
    reach = half.reshape(-1, 1) * along
    expected = np.stack([data.geom_xpos[drawn] - reach, data.geom_xpos[drawn] + reach], axis=1)

    found = rods_in_space(ours.bodies, ours.rods, jnp.asarray(data.qpos, jnp.float32))

    np.testing.assert_allclose(found, expected, atol=3e-6)


def heights_and_speeds(name: str, model: Any, data: Any, before: MujocoState) -> float:
    """Returns the paper's reward of a step, from MuJoCo's own places and velocities."""
    seconds = robots.ROBOTS[name].substeps * model.opt.timestep
    forward = (data.qpos[0] - before.positions[0]) / seconds
    if name == "mujoco_reacher":
        return -float(np.linalg.norm(data.body("fingertip").xpos - data.body("target").xpos))
    if name == "inverted_pendulum":
        return -float(data.joint("hinge").qpos[0] ** 2)
    if name == "inverted_double_pendulum":
        x, _, z = data.site("tip").xpos
        speeds = 1e-3 * data.qvel[1] ** 2 + 5e-3 * data.qvel[2] ** 2
        return float(10 * (z - 1) - 0.01 * x**2 - (z - 2) ** 2 - speeds)
    wanted = {"hopper": 1.0, "walker2d": 2.0, "ant": 1.2}
    return float(forward + (data.body("torso").xpos[2] - wanted[name] if name in wanted else 0.0))


@needs_mujoco
@pytest.mark.parametrize("name", NAMES)
def test_rewards_are_of_states_and_ignore_how_large_actions_are(name: str) -> None:
    env = simulators.make(name)
    states = states_of(name, 1, 20)
    before = one(states, 0)
    action = np.linspace(-1, 1, env.action_size).astype(np.float32)
    model, data = by_hand(name, before, action)
    after = as_state(data.qpos, data.qvel)

    found = float(env.reward(before, jnp.asarray(action), after))

    # Positions in single precision over a step of hundredths of a second.
    assert found == pytest.approx(heights_and_speeds(name, model, data, before), abs=1e-4)
    assert float(env.reward(before, jnp.full_like(action, 1e6), after)) == found
    far = advanced(name, MujocoState(*(x[:1] for x in states)), np.full((1, env.action_size), 1e6))
    edge = advanced(name, MujocoState(*(x[:1] for x in states)), np.ones((1, env.action_size)))
    assert (far.positions == edge.positions).all()


@needs_mujoco
def test_distances_and_speeds_of_the_reacher_are_numbers_of_like_size() -> None:
    env = simulators.make("mujoco_reacher")
    seen = np.asarray(jax.vmap(env.observe)(states_of("mujoco_reacher", 64, 20)))

    spread = np.sqrt((seen**2).mean(axis=0))
    assert seen.shape == (64, 10)
    assert spread.max() < 3 * spread.min()


def ten_thousand_steps(name: str, envs: int) -> Any:
    """Returns 10,000 random steps of a task, as rollouts take them."""
    env = simulators.make(name)
    steps = 10_000 // envs
    begun = start(env, jax.random.key(0), envs)
    run = jax.jit(lambda key: collect(env, lambda _, noise: noise, begun, key, steps)[1])
    return env, run(jax.random.key(1))


@needs_mujoco
def test_ten_thousand_random_steps_end_at_the_horizon_only() -> None:
    env, rollout = ten_thousand_steps("inverted_pendulum", 200)

    assert env.terminates is None
    assert not np.asarray(rollout.terminated).any()
    ends = np.flatnonzero(np.asarray(rollout.truncated)[:, 0])
    assert (np.diff(ends) == env.horizon).all()
    # Where the simulator's own package would have ended episodes.
    assert (np.abs(np.asarray(rollout.states.positions)[..., 1]) > 0.2).mean() > 0.1
    assert np.isfinite(np.asarray(rollout.observations)).all()


@needs_mujoco
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_no_robot_ends_early_in_ten_thousand_steps(name: str) -> None:
    env, rollout = ten_thousand_steps(name, 10)

    assert not np.asarray(rollout.terminated).any()
    assert np.asarray(rollout.truncated).sum() == 10_000 // env.horizon
    assert np.isfinite(np.asarray(rollout.next_observations)).all()


@needs_mujoco
def test_poses_show_the_robot_and_the_ground_that_passes_below() -> None:
    env = simulators.make("half_cheetah")
    state = env.reset(jax.random.key(0))
    moved = state._replace(positions=state.positions.at[0].set(12.25))

    here, there = env.pose(state), env.pose(moved)

    x_min, x_max, z_min, z_max = env.window
    assert here.segments.shape == (8, 5)  # torso, head, and six parts of legs
    xs, zs = np.asarray(here.segments[:, [0, 2]]), np.asarray(here.segments[:, [1, 3]])
    assert x_min < xs.min() and xs.max() < x_max and z_min < zs.min() and zs.max() < z_max
    # It stays in the middle while marks, at whole meters, pass it.
    shift = np.asarray(state.positions[0])
    np.testing.assert_allclose(np.asarray(there.segments), np.asarray(here.segments), atol=1e-5)
    marks = np.asarray(there.circles[:, 0]) + 12.25
    np.testing.assert_allclose(marks, np.round(marks), atol=1e-5)
    np.testing.assert_allclose(np.asarray(here.circles[:, 0]) + shift, np.arange(-2, 3), atol=1e-6)


def test_goals_that_no_task_has() -> None:
    def hopper(turn: float, height: float = 1.2) -> MujocoState:
        return MujocoState(jnp.array([0.0, height, turn]), jnp.zeros(3))

    def worth(*turns: float) -> float:
        steps = zip(turns, turns[1:], strict=False)
        return float(sum(robots.backflip(hopper(a), jnp.zeros(3), hopper(b)) for a, b in steps))

    around = np.linspace(0, -2 * np.pi, 9).tolist()
    assert worth(*around) == pytest.approx(1.0, abs=1e-5)  # backwards, upright again
    assert worth(*reversed(around)) == pytest.approx(-1.0, abs=1e-5)
    assert worth(0.0, 0.4, -0.3, 0.0) == pytest.approx(0.0, abs=1e-6)
    assert worth(*around[:5]) < 0.5  # on its head
    still = MujocoState(jnp.zeros(9), jnp.zeros(9))
    for speed, reward in ((2.0, 0.0), (3.0, -1.0), (0.0, -2.0)):
        after = still._replace(positions=still.positions.at[0].set(0.05 * speed))
        assert float(robots.steady_run(still, jnp.zeros(6), after)) == pytest.approx(
            reward, abs=1e-5
        )


def test_clips_are_of_a_second_and_a_half() -> None:
    assert config_file.CLIPS.keys() == set(NAMES)
    for name, length in config_file.CLIPS.items():
        assert length == robots.clip_length(name)
    assert config_file.CLIPS["hopper"] == 60  # the longest of the paper, and the shortest
    assert config_file.CLIPS["mujoco_reacher"] == 15


def test_a_missing_package_is_one_line_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(MissingPackage) as error:
        simulators.make("hopper")
    assert "pip install 'jax-paper-lab[rl]'" in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(MissingPackage, match="half_cheetah needs the package mujoco"):
        build(load_config(f"{CONFIG}:cpu"))
    with pytest.raises(ValueError, match="simulator='humanoid'"):
        simulators.make("humanoid")


def test_nothing_of_the_extras_is_imported_unasked() -> None:
    code = (
        "import sys, rlhf.simulators, rlhf.human_preferences.experiments\n"
        "print([n for n in ('mujoco', 'gymnasium', 'ale_py') if n in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert found.stdout == "[]\n"


@needs_mujoco
def test_a_task_or_field_that_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match=r"config\.clip\.length is 31: expected 1 to 25"):
        build(load_config(f"{CONFIG}:cpu,task=inverted_pendulum", {"clip.length": "31"}))
