"""Games that people teach: their clips are images, from the rules of a game to the page."""

import base64
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from common import runs
from common.config import load_config
from common.experiment import build
from common.loop import train
from rlhf import simulators
from rlhf.envs import bricks, make
from rlhf.envs.environment import drawn
from rlhf.human_preferences import interview, labeling, learning, people
from rlhf.human_preferences.plan import make_plan
from rlhf.labelling import asking, store
from rlhf.preference import clip_sum
from rlhf.rollouts import collect, start
from rlhf.simulators import arcade
from tests.rlhf.test_games import needs_ale
from tests.rlhf.test_labelling_training import digest, somebody
from tests.rlhf.test_simulator_runs import GAME, SMALL
from tests.small_runs import power_cut

CONFIG = "rlhf/human_preferences/configs/people.py:cpu"
OWN = {"people.undo_seconds": "0.0", "people.ahead": "1", "people.check_share": "1.0"}


def config_of(task: str) -> ConfigDict:
    """Returns the config of a game, with few steps and small networks."""
    lacks = () if task != "bricks" else ("task.side",)
    fields = {name: value for name, value in {**SMALL, **GAME, **OWN}.items() if name not in lacks}
    return load_config(f"{CONFIG},task={task}", fields)


def test_a_board_in_colors_shows_what_a_policy_sees_and_nothing_else() -> None:
    env = make("bricks")
    state = jax.jit(env.reset)(jax.random.key(0))
    state = state._replace(before=state.ball - 1, bricks=state.bricks.at[1, 3].set(False))

    picture = np.asarray(drawn(env, state)["frames"])

    assert picture.dtype == np.uint8 and picture.shape == (bricks.SIZE, bricks.SIZE, 3)
    paddle, ball, before, wall = np.moveaxis(np.asarray(env.observe(state)), -1, 0)
    has = lambda *colors: np.any([(picture == color).all(axis=-1) for color in colors], axis=0)
    np.testing.assert_array_equal(has(bricks.PADDLE), paddle)
    np.testing.assert_array_equal(has(bricks.BALL), ball)
    np.testing.assert_array_equal(has(bricks.TRAIL), before)
    np.testing.assert_array_equal(has(*bricks.BRICK), wall)
    assert wall.sum() == bricks.ROWS * bricks.SIZE - 1
    # What was won and lost so far is not in the picture.
    more = state._replace(hits=jnp.int32(7), losses=jnp.int32(3))
    np.testing.assert_array_equal(drawn(env, more)["frames"], picture)


def pairs_of_random_play(parts: learning.Parts, steps: int = 8) -> people.Shown:
    """Returns the pairs that a step would show, of a policy that plays at random."""
    env, few = parts.task.env, parts.asking.slots + people.CHECK
    act = lambda _, noise: jnp.argmax(noise, axis=-1)

    def program(key: jax.Array) -> people.Shown:
        keys = jax.random.split(key, 3)
        _, rollout = collect(env, act, start(env, keys[0], 3), keys[1], steps)
        found = labeling.candidates(keys[2], people.filmed(parts, rollout), parts.asking)
        shown = people.Shown(found.seen, found.pictures, clip_sum(found.goal))
        return jax.tree.map(lambda x: x[:few], shown)

    return jax.device_get(jax.jit(program)(jax.random.key(0)))


def images_of(clip: dict[str, Any]) -> np.ndarray:
    """Returns the images of a clip as the page gets it."""
    assert {*clip} == {"height", "width", "channels", "count", "frames"}
    content = zlib.decompress(base64.b64decode(clip["frames"]))
    shape = [clip[name] for name in ("count", "height", "width", "channels")]
    return np.frombuffer(content, np.uint8).reshape(shape)


def test_the_page_gets_a_game_as_it_looked_byte_for_byte(tmp_path: Path) -> None:
    pytest.importorskip("starlette", reason="needs the page: pip install 'jax-paper-lab[web]'")
    from tests.rlhf.site import serving_from

    parts = learning.parts_of(config_of("bricks"))
    shown = pairs_of_random_play(parts)
    plan = interview.plan_of_people(make_plan(parts.config))
    pairs = interview.pairs_of(parts, plan, 0, shown)
    with serving_from(tmp_path, pairs=0) as page:
        with store.opened(page.path) as desk:
            asking.ask(desk, page.path, 0, pairs, second_share=0.0)
        status, said = page.post("queue", rater="Ada", held=[])

    assert status == 200 and len(said["showings"]) == len(pairs) > 0
    frames = shown.pictures["frames"]
    assert frames.shape[2:] == (parts.asking.length, bricks.SIZE, bricks.SIZE, 3)
    for one in said["showings"]:
        sides = [images_of(one[side]).tobytes() for side in ("left", "right")]
        assert any(
            sides in ([a.tobytes(), b.tobytes()], [b.tobytes(), a.tobytes()]) for a, b in frames
        )
    assert len({clip.tobytes() for clip in frames.reshape(-1, *frames.shape[2:])}) > 1


@needs_ale
def test_people_see_the_newest_frame_of_atari_its_score_black() -> None:
    frames = jnp.arange(24 * 24 * arcade.STACK).astype(jnp.uint8).reshape(24, 24, arcade.STACK)
    env = simulators.make("space_invaders", side=24)
    seen = drawn(env, arcade.off(24)._replace(frames=frames))
    np.testing.assert_array_equal(seen["frames"], frames[..., -1])


@pytest.mark.slow
@pytest.mark.parametrize("task", ["bricks", pytest.param("space_invaders", marks=needs_ale)])
def test_a_game_is_taught_and_goes_on_to_the_bit(tmp_path: Path, task: str) -> None:
    config = config_of(task)
    with somebody(tmp_path / "cut"):
        with pytest.raises(Exception, match="power cut"):
            train.fit(power_cut(build(config), 3), config, tmp_path / "cut")
        train.fit(build(config), config, tmp_path / "cut")
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / store.NAME).write_bytes((tmp_path / "cut" / store.NAME).read_bytes())
    train.fit(build(config), config, tmp_path / "whole")  # nobody is there to answer

    assert digest(tmp_path / "whole") == digest(tmp_path / "cut")
    labels = runs.load(tmp_path / "cut").state.judge.labels
    assert int(labels.count) == config.labels.total
