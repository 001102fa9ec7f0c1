"""A game on a small board: a paddle returns a ball that breaks bricks; it never ends.

The rules are our own. The ball moves by one cell in both directions at every step. Walls turn it
around, and so does a brick, which breaks. The paddle is three cells wide; its outer cells send the
ball to their side. A lost ball costs a point and is served again. A wall without bricks is built
anew once the ball is below it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt8

from rlhf.envs.environment import Environment, Pose

SIZE, ROWS, TOP = 10, 3, 1  # of the board; rows of bricks, and the empty ones above
SERVE_ROW, PADDLE_ROW = 5, SIZE - 1
# Of the picture, red, green and blue: what is nothing, paddle, ball, where it was, and bricks, by
# turns so that each is seen.
NOTHING, PADDLE, BALL, TRAIL = (24, 26, 34), (86, 140, 240), (255, 255, 255), (92, 96, 110)
BRICK = ((214, 108, 66), (186, 86, 48))


class BricksState(NamedTuple):
    """The board; rows count from the top.

    Attributes:
        ball: Row and column.
        before: Where the ball was one step earlier.
        velocity: +1 or -1 in both.
        paddle: Column of its middle.
        bricks: Those that are left.
        hits: Bricks broken so far; not observed, as the next.
        losses: Balls lost so far.
    """

    ball: Int[Array, "2"]
    before: Int[Array, "2"]
    velocity: Int[Array, "2"]
    paddle: Int[Array, ""]
    bricks: Bool[Array, "rows columns"]
    hits: Int[Array, ""]
    losses: Int[Array, ""]


def bricks(*, horizon: int = 200, ends_on_loss: bool = False) -> Environment:
    """Returns the game: +1 for a brick, -1 for a lost ball; actions are left, stay, right.

    Observations are four boards of booleans: paddle, ball, where it was, bricks.

    Args:
        horizon: Steps of an episode.
        ends_on_loss: Whether a lost ball ends it, which tells the learner to keep the ball.
    """
    return Environment(
        name="bricks",
        reset=_reset,
        step=_step,
        observe=_observe,
        reward=_reward,
        pose=_pose,
        window=(-0.5, SIZE - 0.5, -0.5, SIZE - 0.5),
        observation_shape=(SIZE, SIZE, 4),
        action_size=3,
        is_discrete=True,
        horizon=horizon,
        terminates=(lambda state: state.losses > 0) if ends_on_loss else None,
        picture=_picture,
    )


def _served(key: PRNGKeyArray) -> tuple[Int[Array, "2"], Int[Array, "2"]]:
    """Returns place and velocity of a new ball: any column, downwards, to either side."""
    number = jax.random.randint(key, (), 0, 2 * SIZE)
    ball = jnp.stack([jnp.full_like(number, SERVE_ROW), number // 2])
    return ball, jnp.stack([jnp.ones_like(number), 2 * (number % 2) - 1])


def _reset(key: PRNGKeyArray) -> BricksState:
    ball, velocity = _served(key)
    zero = jnp.zeros((), jnp.int32)
    wall = jnp.ones((ROWS, SIZE), bool)
    return BricksState(ball, ball, velocity, zero + SIZE // 2, wall, zero, zero)


def _step(state: BricksState, action: jax.Array, key: PRNGKeyArray) -> BricksState:
    paddle = jnp.clip(state.paddle + action.astype(jnp.int32) - 1, 1, SIZE - 2)
    (row, column), (down, right) = state.ball, state.velocity
    right = jnp.where((column + right < 0) | (column + right >= SIZE), -right, right)
    down = jnp.where(row + down < 0, 1, down)
    to = jnp.stack([row + down, column + right])

    cells = jnp.stack(jnp.meshgrid(TOP + jnp.arange(ROWS), jnp.arange(SIZE), indexing="ij"))
    hit = state.bricks & jnp.all(cells == to.reshape(2, 1, 1), axis=0)
    has_hit = jnp.any(hit)
    left = state.bricks & ~hit
    left = left | (~jnp.any(left) & (row >= TOP + ROWS))

    side = to[1] - paddle
    is_down = to[0] == PADDLE_ROW
    is_caught, is_lost = is_down & (jnp.abs(side) <= 1), is_down & (jnp.abs(side) > 1)
    turned = has_hit | is_caught  # in front of a brick, and above the paddle
    velocity = jnp.stack(
        [jnp.where(turned, -down, down), jnp.where(is_caught & (side != 0), side, right)]
    )
    ball = jnp.stack([jnp.where(turned, row, to[0]), jnp.where(has_hit, column, to[1])])
    new_ball, new_velocity = _served(key)
    return BricksState(
        jnp.where(is_lost, new_ball, ball),
        jnp.where(is_lost, new_ball, state.ball),
        jnp.where(is_lost, new_velocity, velocity),
        paddle,
        left,
        state.hits + has_hit,
        state.losses + is_lost,
    )


def _observe(state: BricksState) -> Bool[Array, "size size 4"]:
    rows, columns = np.indices((SIZE, SIZE))

    def at(place: jax.Array) -> jax.Array:
        return (rows == place[0]) & (columns == place[1])

    paddle = (rows == PADDLE_ROW) & (jnp.abs(columns - state.paddle) <= 1)
    wall = jnp.pad(state.bricks, ((TOP, SIZE - TOP - ROWS), (0, 0)))
    return jnp.stack([paddle, at(state.ball), at(state.before), wall], axis=-1)


def _picture(state: BricksState) -> UInt8[Array, "size size 3"]:
    """Returns the board in colors, a pixel for each cell; a ball is in front of where it was."""
    paddle, ball, before, wall = jnp.moveaxis(jnp.expand_dims(_observe(state), -2), -1, 0)
    color = lambda value: jnp.array(value, jnp.uint8)
    is_even = np.expand_dims(np.indices((SIZE, SIZE)).sum(0) % 2 == 0, -1)
    picture = jnp.where(wall, jnp.where(is_even, color(BRICK[0]), color(BRICK[1])), color(NOTHING))
    for layer, value in ((before, TRAIL), (paddle, PADDLE), (ball, BALL)):
        picture = jnp.where(layer, color(value), picture)
    return picture


def _reward(state: BricksState, action: jax.Array, next_state: BricksState) -> Float[Array, ""]:
    del action
    points = (next_state.hits - state.hits) - (next_state.losses - state.losses)
    return points.astype(jnp.float32)


def _pose(state: BricksState) -> Pose:
    """Returns bricks and paddle as segments, the ball as a circle; broken bricks are not drawn."""
    rows, columns = (n.reshape(-1).astype(np.float32) for n in np.indices((ROWS, SIZE)))
    heights = SIZE - 1 - TOP - rows
    radii = jnp.where(state.bricks.reshape(-1), 0.2, -1.0)
    wall = jnp.stack([columns - 0.25, heights, columns + 0.25, heights, radii], axis=1)
    middle = state.paddle.astype(jnp.float32)
    zero = jnp.zeros_like(middle)
    paddle = jnp.stack([middle - 1.2, zero, middle + 1.2, zero, zero + 0.25])
    row, column = state.ball.astype(jnp.float32)
    ball = jnp.stack([column, SIZE - 1 - row, zero + 0.35])
    return Pose(jnp.concatenate([wall, paddle[None]]), ball[None])
