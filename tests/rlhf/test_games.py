"""Atari games: an emulator without memory, and scores that nobody sees."""

import importlib.util
import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.errors import MissingPackage
from rlhf import simulators
from rlhf.rollouts import collect, start
from rlhf.simulators import arcade, extras, games

needs_ale = pytest.mark.skipif(
    importlib.util.find_spec("ale_py") is None,
    reason="needs ale-py: pip install 'jax-paper-lab[atari]'",
)
# Where each game counts points, in its memory of 128 bytes: found by changing one byte after the
# other; what only changes the score stays in these rows of the frame.
SCORES = {
    "beam_rider": (9, 10, 11),
    "breakout": (76, 77),
    "enduro": (43, 44),
    "pong": (13, 14),
    "qbert": (89, 90, 91),
    "seaquest": (56, 57, 58),
    "space_invaders": (102, 104),
}


def played_straight(name: str, draw: int, actions: np.ndarray) -> tuple[Any, list[np.ndarray]]:
    """Returns an emulator that never saved after these actions, and its screens."""
    emulator = arcade._Machine(games.GAMES[name].rom)
    emulator.begin(draw)
    return emulator, [emulator.act(int(action), draw)[0] for action in actions]


@needs_ale
@pytest.mark.parametrize("name", ["breakout", "space_invaders"])
def test_a_machine_that_is_saved_at_every_step_plays_on_as_if_it_were_not(name: str) -> None:
    actions = np.random.default_rng(0).integers(0, 4, 150)
    emulator, expected = played_straight(name, 7, actions)
    machines, sizes = np.zeros((2, arcade.ROOM), np.uint8), np.zeros(2, np.int32)
    draws = np.array([7, 3])

    for action, screen in zip(actions, expected, strict=True):
        # The second plays something else on the same emulator in between.
        machines, sizes, screens, *_ = arcade.play(
            name, machines, sizes, np.array([action, 0]), draws
        )
        assert (screens[0] == screen).all()

    assert machines[0, : sizes[0]].tobytes() == emulator.save()
    assert machines[1].tobytes() != machines[0].tobytes()


@needs_ale
@pytest.mark.parametrize("name", SCORES)
def test_frames_with_another_score_are_the_same_once_it_is_blanked(name: str) -> None:
    rng = np.random.default_rng(0)
    emulator, _ = played_straight(name, 3, rng.integers(0, 4, 80))
    at = emulator.save()

    def screens(digit: int) -> np.ndarray:
        emulator.go_on(at, 0)
        for place in SCORES[name]:
            emulator.emulator.setRAM(place, int(emulator.emulator.getRAM()[place]) ^ digit)
        return np.stack([emulator.act(0, 0)[0] for _ in range(3)])

    blanks = games.GAMES[name].blanks
    black = lambda frames: np.stack(
        [np.asarray(arcade.blanked(jnp.asarray(x), blanks)) for x in frames]
    )
    plain = screens(0)
    differ = [not (screens(digit) == plain).all() for digit in (1, 2)]
    assert any(differ)  # the score is seen where nothing is blanked

    for digit in (1, 2):
        assert (black(screens(digit)) == black(plain)).all()
    # Most of the frame is left.
    assert (black(np.full((1, arcade.HEIGHT, arcade.WIDTH), 9, np.uint8)) > 0).mean() > 0.7


def test_squares_are_means_over_areas() -> None:
    screen = np.random.default_rng(0).integers(0, 256, (arcade.HEIGHT, arcade.WIDTH), np.uint8)
    for side in (84, 42):
        # By hand: each pixel `side` times in both directions, then means of whole blocks.
        rows = np.repeat(screen.astype(np.float64), side, axis=0)
        rows = rows.reshape(side, arcade.HEIGHT, arcade.WIDTH).mean(axis=1)
        columns = np.repeat(rows, side, axis=1).reshape(side, side, arcade.WIDTH).mean(axis=2)

        found = np.asarray(arcade.seen(jnp.asarray(screen), (), side))

        assert np.abs(found - columns).max() <= 0.5 + 1e-3  # rounded to whole shades


@needs_ale
def test_a_game_that_is_over_begins_again_and_only_the_rater_hears_of_it() -> None:
    env = simulators.make("breakout", side=42, horizon=200)
    begun = start(env, jax.random.key(0), 4)
    act = lambda _, noise: jnp.argmax(noise, axis=-1)
    run = jax.jit(lambda key: collect(env, act, begun, key, 200)[1])
    rollout = run(jax.random.key(1))
    after = rollout.next_states

    assert env.terminates is None
    assert not np.asarray(rollout.terminated).any()
    over = np.asarray(after.is_over)
    assert over.any()
    step, number = np.argwhere(over[:-10])[0]
    frames = np.asarray(rollout.next_observations)[step : step + 9, number]
    assert frames[..., -1].any(axis=(1, 2)).all()  # it plays on
    assert (frames[1:, ..., :-1] == frames[:-1, ..., 1:]).all()  # the last four, in order
    goal = jax.vmap(lambda after: games.clipped_points("breakout", after, jnp.zeros(()), after))
    worth = np.asarray(goal(jax.tree.map(lambda x: x[:, number], after)))
    points = np.asarray(after.points)[:, number]
    np.testing.assert_array_equal(worth, np.sign(points) - over[:, number])
    assert np.asarray(after.points).max() >= 1.0


def test_the_end_costs_nothing_in_pong_and_points_are_clipped() -> None:
    state = arcade.off(42)._replace(points=jnp.float32(20.0), is_over=jnp.array(True))
    worth = lambda name, points: float(
        games.clipped_points(name, state, jnp.zeros(()), state._replace(points=jnp.float32(points)))
    )
    assert worth("pong", -2.0) == -1.0
    assert worth("seaquest", 20.0) == 0.0  # a point, and the end
    assert worth("seaquest", 0.0) == -games.PENALTY


def test_without_the_emulator_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(extras.importlib, "import_module", gone)
    arcade._machine.cache_clear()
    with pytest.raises(MissingPackage) as error:
        simulators.make("pong")
    assert "pong needs the package ale_py: pip install 'jax-paper-lab[atari]'" in str(error.value)
    assert "\n" not in str(error.value)


@needs_ale
@pytest.mark.slow
@pytest.mark.parametrize("name", games.GAMES)
def test_ten_thousand_random_steps_have_no_end(name: str) -> None:
    machine = arcade._machine(name, threading.get_ident())
    sizes, machines = np.zeros(10, np.int32), np.zeros((10, arcade.ROOM), np.uint8)
    rng, overs = np.random.default_rng(0), 0
    for _ in range(1_000):
        actions = rng.integers(0, len(machine.actions), 10)
        machines, sizes, screens, _, over = arcade.play(name, machines, sizes, actions, sizes)
        overs += int(over.sum())
        assert screens.any(axis=(1, 2)).all()
    assert (sizes > 0).all()
    assert overs > 0 or name in ("enduro", "pong", "beam_rider")
