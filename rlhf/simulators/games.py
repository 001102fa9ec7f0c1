"""Seven Atari games without their score: what is to be done has to be learned from comparisons."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from rlhf.envs.environment import Environment, Pose
from rlhf.simulators.arcade import STACK, WIDTH, ArcadeState, Blank, actions_of, off, played

SIDE = 84  # of what is seen
PENALTY = 1.0  # of the end of a game, where it has one
ENDLESS = 2**30  # steps: a horizon that no run reaches


class Game(NamedTuple):
    """A game: its ROM, what is blanked of its frames, and whether its end costs the rater's favor.

    Attributes:
        rom: Name of the ROM.
        blanks: Score, and what else tells how things go: rows and columns.
        has_penalty: Whether the end of a game is worse than nothing; in Pong it is not.
    """

    rom: str
    blanks: tuple[Blank, ...]
    has_penalty: bool = True


def _rows(first: int, last: int, width: int = WIDTH) -> Blank:
    return first, last + 1, 0, width


GAMES: dict[str, Game] = {
    # Score and sector; how many enemies are left.
    "beam_rider": Game("beam_rider", (_rows(8, 30), _rows(31, 42, WIDTH // 3))),
    "breakout": Game("breakout", (_rows(0, 16),)),
    # The whole panel: the way covered, cars left, speed.
    "enduro": Game("enduro", (_rows(158, 209),)),
    "pong": Game("pong", (_rows(0, 23),), has_penalty=False),
    "qbert": Game("qbert", (_rows(3, 14),)),
    "seaquest": Game("seaquest", (_rows(6, 19),)),
    "space_invaders": Game("space_invaders", (_rows(8, 22),)),
}


def game(name: str, *, horizon: int = 1000, side: int = SIDE) -> Environment:
    """Returns a game by its name in `GAMES`, rewarded by its points; nothing ends in it.

    Observations are the last four frames. Nobody is told of a life that is lost or a game that is
    over: the next one begins underneath.

    Source: Christiano et al. (2017), App. A.2.

    Args:
        name: Of the game.
        horizon: Steps of an episode, each of four frames.
        side: Of the square frames.

    Raises:
        MissingPackage: In one line, without the package of the extra `atari`.
    """
    it = GAMES[name]

    def reset(key: PRNGKeyArray) -> ArcadeState:
        del key  # a machine is switched on by its first step
        return off(side)

    def step(state: ArcadeState, action: jax.Array, key: PRNGKeyArray) -> ArcadeState:
        return played(it.rom, it.blanks, state, action, jax.random.bits(key, (), jnp.uint32))

    return Environment(
        name=name,
        reset=reset,
        step=step,
        observe=lambda state: state.frames,
        reward=lambda state, action, after: after.points,
        pose=lambda state: Pose(jnp.zeros((0, 5)), jnp.zeros((0, 3))),
        window=(0.0, 1.0, 0.0, 1.0),
        observation_shape=(side, side, STACK),
        action_size=actions_of(it.rom),
        is_discrete=True,
        horizon=horizon,
        picture=lambda state: state.frames[..., -1],
    )


def clipped_points(
    name: str, state: ArcadeState, action: jax.Array, after: ArcadeState
) -> Float[Array, ""]:
    """Returns what a simulated rater values: the sign of points, and no end of a game.

    Source: Christiano et al. (2017), App. A and A.2, which do not say how large the penalty is.
    """
    del state, action
    points = jnp.clip(after.points, -1.0, 1.0)
    return points - PENALTY * after.is_over if GAMES[name].has_penalty else points
