"""The paper on preferences: plans of labels, runs to the bit, and rewards that nobody sees."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from common import runs
from common.config import load_config
from common.errors import UserError
from common.experiment import build
from common.loop import train
from rlhf.human_preferences import learning, plan
from rlhf.human_preferences.numbers import as_data, numbers_of
from tests.processes import Child
from tests.small_runs import last_metrics, power_cut

CONFIG = "rlhf/human_preferences/configs/control.py"
SMALL = {
    "seed_group": "1",
    "num_steps": "6",
    "steps_per_call": "1",
    "log_every": "1",
    "task.horizon": "20",
    "learner.envs": "8",
    "learner.steps": "20",
    "learner.hidden": "(4,)",
    "labels.total": "6",
    "labels.capacity": "8",
    "labels.slots": "2",
    "clip.length": "3",
    "reward.hidden": "(4,)",
    "reward.batch_size": "4",
    "reward.steps": "2",
    "reward.rounds": "1",
    "evaluation.episodes": "2",
}


def config_of(variant: str = "task=chain", **fields: str) -> ConfigDict:
    """Returns the config of a chain of few steps, with these fields otherwise."""
    changed = {key.replace("__", "."): value for key, value in fields.items()}
    return load_config(f"{CONFIG}:cpu,{variant}", {**SMALL, **changed})


def lowered(parts: learning.Parts, config: ConfigDict) -> str:
    """Returns the program of a step."""
    data = as_data(numbers_of(config))
    batch = {"labels": np.int32(1), "learns": np.float32(1), "rounds": np.int32(1)}
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(lambda key: learning.init(parts, key), key)
    step = lambda *given: learning.step(parts, *given)
    return jax.jit(step).lower(state, data, batch, key).as_text()


@pytest.fixture(scope="module")
def program() -> str:
    """Returns the program of the small config."""
    config = config_of()
    return lowered(learning.parts_of(config), config)


def test_a_reward_that_is_not_a_number_changes_nothing(program: str) -> None:
    config = config_of()
    parts = learning.parts_of(config)
    env = parts.task.env._replace(reward=lambda *_: jnp.full((), jnp.nan))

    # The rater keeps its goal; what the environment would pay is not even in the program.
    assert lowered(parts._replace(task=parts.task._replace(env=env)), config) == program
    blind = parts.task._replace(goal=env.reward)
    assert lowered(parts._replace(task=blind), config) != program  # the test can fail


def test_ablations_in_numbers_are_one_program(program: str) -> None:
    config = config_of(
        reward__used_members="1",
        queries__at_random="True",
        reward__error="0.2",
        reward__factor="0.0",
        learner__entropy="0.0",
        learner__discount="0.9",
        rater__rationality="2.0",
        labels__initial_share="1.0",
    )
    assert lowered(learning.parts_of(config), config) == program


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a run from beginning to end."""
    config, folder = config_of(), tmp_path_factory.mktemp("whole")
    train.fit(build(config), config, folder)
    return folder


def digest(folder: Path) -> str:
    """Returns the digest of the last state of a run."""
    result = runs.read_result(folder)
    assert result is not None
    return result["state_sha256"]


@pytest.mark.slow  # test_labelling_training.py has a power cut
def test_neither_a_power_cut_nor_more_evaluations_change_a_bit(whole: Path, tmp_path: Path) -> None:
    config = config_of(checkpoint_every="2", eval_every="2")
    with pytest.raises(Exception, match="power cut"):
        train.fit(power_cut(build(config), 4), config, tmp_path)
    train.fit(build(config), config, tmp_path)

    assert digest(tmp_path) == digest(whole)


def test_labels_are_those_that_were_asked_and_hold_no_reward(whole: Path) -> None:
    state = runs.load(whole).state
    labels, asked = state.judge.labels, plan.make_plan(config_of()).labels

    assert int(state.judge.asked) == int(labels.count) == asked.sum() == 6
    assert not np.asarray(labels.rows.targets).any()  # told to nobody
    clips = np.asarray(labels.rows.clips)
    held, empty = clips[:6], clips[6:]
    assert np.abs(held).sum(axis=(1, 2, 3)).all()
    assert not empty.any()
    weights = np.asarray(labels.rows.weights)[:6]
    assert (weights == np.round(weights)).all()
    # Observation, and the action as one of three.
    np.testing.assert_allclose(held[..., 1:].sum(axis=-1), 1.0)


def test_a_plan_asks_first_and_then_as_the_schedule_says() -> None:
    config = config_of(labels__total="10", labels__initial_share="0.5", num_steps="9")
    found = plan.make_plan(config)

    assert found.labels[:3].tolist() == [2, 2, 1]  # five at two a step
    assert found.learns.tolist() == [0.0] * 3 + [1.0] * 6
    assert found.labels.sum() == 10
    assert (np.diff(found.labels[3:].cumsum()) >= 0).all()
    offline = plan.make_plan(config_of(labels__initial_share="1.0"))
    assert offline.labels.tolist() == [2, 2, 2, 0, 0, 0]
    true = plan.make_plan(config_of("task=chain,source=true"))
    assert not true.labels.any()
    assert true.learns.all()


def test_epochs_before_the_policy_learns_come_with_the_last_of_the_first_labels() -> None:
    fields = dict(labels__total="10", labels__initial_share="0.5", num_steps="9")
    found = plan.make_plan(config_of("task=chain,pretraining=8", **fields))

    # Eight epochs of five labels in minibatches of four are ten updates: five rounds of two.
    assert found.rounds.tolist() == [0, 0, 5, 1, 1, 1, 1, 1, 1]
    assert plan.make_plan(config_of(**fields)).rounds.tolist() == [1] * 9


def test_a_rollout_is_whole_turns() -> None:
    with pytest.raises(UserError, match="learner.unroll=3: expected a divisor of .*steps=20"):
        build(config_of("task=chain,rl=a2c", learner__unroll="3"))


def test_correlation_is_that_of_pearson() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 30)).astype(np.float32)
    expected = np.corrcoef(a, b)[0, 1]

    assert float(learning.correlation(jnp.asarray(a), jnp.asarray(b))) == pytest.approx(
        expected, abs=1e-6
    )
    assert float(learning.correlation(jnp.asarray(a), jnp.ones(30))) == 0.0


REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "environment": ({"task__name": "unicycle"}, "env='unicycle': no such environment"),
    "goal": ({"task__goal": "spin"}, "config.task.goal='spin': of chain expected one of task"),
    "clip": ({"clip__length": "21"}, "config.clip.length is 21: expected 1 to 20"),
    "slots": ({"labels__total": "60"}, "config.labels"),
    "budget": ({"labels__total": "-5"}, "config.labels.total=-5"),
    "leak": ({"task__leak": "True"}, "config.task.leak=True: chain has no end"),
    "algorithm": ({"learner__algorithm": "dqn"}, "config.learner.algorithm='dqn'"),
    "members": ({"reward__used_members": "4"}, "config.reward.used_members=4"),
    "envs": (
        {"learner__envs": "6", "deterministic": "True"},
        "config.learner.envs=6: expected a m",
    ),
    "capacity": ({"labels__capacity": "1"}, "config.labels.capacity=1"),
    "mistake": ({"rater__mistake": "2.0"}, "mistake=2.0: expected 0 to 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(name: str) -> None:
    fields, message = REFUSED[name]
    with pytest.raises(UserError) as error:
        build(config_of(**fields))

    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_one_and_eight_devices_agree(child: Child, tmp_path: Path) -> None:
    fields: dict[str, Any] = {**SMALL, "num_steps": "3"}
    one, eight = (
        last_metrics(child, f"{CONFIG}:cpu,task=chain", fields, tmp_path, devices=n) for n in (1, 8)
    )

    for name, value in one.items():
        assert eight[name] == pytest.approx(value, rel=1e-3, abs=1e-3), name
