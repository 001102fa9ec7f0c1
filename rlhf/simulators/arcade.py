"""The Arcade Learning Environment as a pure function: the bytes of a machine in, the next ones out.

A state holds the machine as the emulator saves it, so that any emulator goes on from it to the bit.
A machine of no bytes is off: its first step switches it on and plays up to 30 steps of doing
nothing. When a game is over the next one begins underneath, and nothing says so.
"""

import atexit
import threading
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from rlhf.host import host_call
from rlhf.simulators.extras import require

HEIGHT, WIDTH = 210, 160  # of a frame
STACK, REPEAT, IDLE = 4, 4, 30  # frames seen, frames of an action, most steps of doing nothing
ROOM = 8192  # bytes; machines take some 7,700

Blank = tuple[int, int, int, int]  # first row, row behind the last, first column, column behind


class ArcadeState(NamedTuple):
    """A machine under way, and what its last step gave.

    Attributes:
        machine: As the emulator saves it, filled up with zeros.
        size: Bytes of it; 0: it is off.
        frames: The last four that were seen, the newest last, score blanked.
        points: Of the last step, as the game counts them.
        is_over: Whether a game ended in it.
    """

    machine: UInt8[Array, " room"]
    size: Int[Array, ""]
    frames: UInt8[Array, "side side stack"]
    points: Float[Array, ""]
    is_over: Bool[Array, ""]


def off(side: int) -> ArcadeState:
    """Returns a machine that is off, in front of a black screen."""
    return ArcadeState(
        jnp.zeros(ROOM, jnp.uint8),
        jnp.zeros((), jnp.int32),
        jnp.zeros((side, side, STACK), jnp.uint8),
        jnp.zeros(()),
        jnp.zeros((), bool),
    )


def actions_of(game: str) -> int:
    """Returns how many actions a game knows."""
    return len(_machine(game, threading.get_ident()).actions)


def played(
    game: str, blanks: tuple[Blank, ...], state: ArcadeState, action: jax.Array, draw: jax.Array
) -> ArcadeState:
    """Returns the state after one action, held for four frames.

    Source: Christiano et al. (2017), App. A.2, their settings: the largest of two adjacent frames,
    84 x 84 shades of gray, four frames at a time.

    Args:
        game: Name of its ROM.
        blanks: What is blanked of a frame.
        state: Before.
        action: Number of one of the game's actions.
        draw: A random number: how long nothing is done where a game begins.
    """
    shapes = (
        jax.ShapeDtypeStruct((ROOM,), jnp.uint8),
        jax.ShapeDtypeStruct((), jnp.int32),
        jax.ShapeDtypeStruct((HEIGHT, WIDTH), jnp.uint8),
        jax.ShapeDtypeStruct((), jnp.float32),
        jax.ShapeDtypeStruct((), jnp.bool_),
    )

    def on_host(*batch: np.ndarray) -> tuple[np.ndarray, ...]:
        return play(game, *batch)

    given = (state.machine, state.size, action.astype(jnp.int32), draw)
    machine, size, screen, points, is_over = host_call(on_host, shapes, *given)
    newest = jnp.expand_dims(seen(screen, blanks, state.frames.shape[0]), -1)
    older = jnp.where(state.size > 0, state.frames[..., 1:], newest)
    return ArcadeState(machine, size, jnp.concatenate([older, newest], -1), points, is_over)


def play(
    game: str, machines: np.ndarray, sizes: np.ndarray, actions: np.ndarray, draws: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Returns machines, their sizes, screens, points and whether a game ended, of a batch.

    Args:
        game: Name of its ROM.
        machines: [batch, room], as saved.
        sizes: Bytes of each.
        actions: Of each.
        draws: Random numbers, see `played`.
    """
    batch, machine = len(sizes), _machine(game, threading.get_ident())
    after = np.zeros_like(machines)
    screens = np.empty((batch, HEIGHT, WIDTH), np.uint8)
    new_sizes, points, is_over = np.empty_like(sizes), np.empty(batch), np.empty(batch, bool)
    for n in range(batch):
        machine.go_on(machines[n, : sizes[n]].tobytes(), int(draws[n]))
        screens[n], points[n], is_over[n] = machine.act(int(actions[n]), int(draws[n]))
        saved = machine.save()
        after[n, : len(saved)] = np.frombuffer(saved, np.uint8)
        new_sizes[n] = len(saved)
    return after, new_sizes, screens, points, is_over


def blanked(
    screen: UInt8[Array, "height width"], blanks: tuple[Blank, ...]
) -> UInt8[Array, "height width"]:
    """Returns a screen with parts of it black."""
    rows, columns = np.indices((HEIGHT, WIDTH))
    is_kept = np.ones((HEIGHT, WIDTH), bool)
    for top, bottom, left, right in blanks:
        is_kept &= ~((top <= rows) & (rows < bottom) & (left <= columns) & (columns < right))
    return jnp.where(is_kept, screen, 0)


def seen(
    screen: UInt8[Array, "height width"], blanks: tuple[Blank, ...], side: int
) -> UInt8[Array, "side side"]:
    """Returns a screen with parts blanked, as a square: means over areas."""
    square = blanked(screen, blanks).astype(jnp.float32)
    for size in (HEIGHT, WIDTH):  # rows, and then columns as rows
        pixels, weights = shares(size, side)
        square = jnp.einsum("stw,st->ws", square[pixels], weights)
    return jnp.round(square).astype(jnp.uint8)


def shares(size: int, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns which of `size` pixels each of equal parts is the mean of, and with what weights.

    Both are [parts, taps]: parts begin and end within a pixel, which counts by its share.
    """
    edges = np.arange(parts + 1) * size / parts
    low, high = np.expand_dims(edges[:-1], 1), np.expand_dims(edges[1:], 1)
    taps = int(np.ceil(size / parts)) + 1
    pixels = np.floor(low).astype(np.int32) + np.expand_dims(np.arange(taps), 0)
    overlap = np.minimum(high, pixels + 1) - np.maximum(low, pixels)
    weights = np.clip(overlap, 0, None) * parts / size
    return np.minimum(pixels, size - 1), weights.astype(np.float32)


class _Machine:
    """An emulator with one game: nothing that it remembers outlasts a step."""

    def __init__(self, game: str) -> None:
        self.package = require("ale_py", game)
        self.package.ALEInterface.setLoggerMode(self.package.LoggerMode.Error)
        self.emulator: Any = self.package.ALEInterface()
        self.emulator.setInt("random_seed", 0)
        self.emulator.setFloat("repeat_action_probability", 0.0)
        self.emulator.loadROM(require("ale_py.roms", game).get_rom_path(game))
        self.actions = self.emulator.getMinimalActionSet()
        self.emulator.reset_game()
        self.fresh = self.save()  # the same for every game, whatever was played before

    def save(self) -> bytes:
        saved = self.emulator.cloneState().serialize()
        assert len(saved) <= ROOM
        return saved

    def go_on(self, saved: bytes, draw: int) -> None:
        """Puts the emulator where a machine was; one that is off begins a game."""
        if not saved:
            self.begin(draw)
            return
        self.emulator.restoreState(self.package.ALEState(saved))

    def begin(self, draw: int) -> None:
        self.emulator.restoreState(self.package.ALEState(self.fresh))
        for _ in range(REPEAT * (draw % (IDLE + 1))):
            self.emulator.act(self.actions[0])

    def act(self, action: int, draw: int) -> tuple[np.ndarray, float, bool]:
        """Returns the screen after an action, its points, and whether the game ended."""
        points, last = 0.0, np.zeros((HEIGHT, WIDTH), np.uint8)
        for number in range(REPEAT):
            points += self.emulator.act(self.actions[action])
            if number == REPEAT - 2:
                last = self.emulator.getScreenGrayscale()
            if self.emulator.game_over():
                self.begin(draw)
                return self.emulator.getScreenGrayscale(), points, True
        screen = self.emulator.getScreenGrayscale()
        return np.maximum(screen, last), points, False


@cache
def _machine(game: str, thread: int) -> _Machine:
    """Returns the emulator of a game, a thread's own; none is left when the process ends."""
    del thread
    atexit.register(_machine.cache_clear)
    return _Machine(game)
