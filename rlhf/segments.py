"""Clips: short pieces of what a policy did, cut where nothing was reset."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray

PyTree = Any


class Places(NamedTuple):
    """Where clips are in a rollout: their first steps, and whose they are."""

    start: Int[Array, " clips"]
    env: Int[Array, " clips"]


def check_length(length: int, horizon: int, name: str = "the clip length") -> None:
    """Checks that a clip fits into an episode.

    Raises:
        ValueError: If it does not.
    """
    if not 1 <= length <= horizon:
        raise ValueError(f"{name} is {length}: expected 1 to {horizon}, the steps of an episode")


def valid_starts(is_first: Bool[Array, "time envs"], length: int) -> Bool[Array, "starts envs"]:
    """Returns where clips may begin: no reset lies between their first and their last step.

    Args:
        is_first: Whether a step is the first of its episode.
        length: Of clips, in steps.
    """
    resets = jnp.cumsum(is_first.astype(jnp.int32), axis=0)
    starts = resets.shape[0] - length + 1
    return resets[:starts] == resets[length - 1 :]


def draw_places(key: PRNGKeyArray, is_valid: Bool[Array, "starts envs"], count: int) -> Places:
    """Draws where clips begin, uniformly and with replacement among the places that are valid."""
    ends = jnp.cumsum(is_valid.ravel().astype(jnp.int32))
    rank = jax.random.randint(key, (count,), 0, jnp.maximum(ends[-1], 1))
    flat = jnp.searchsorted(ends, rank, side="right")
    return Places(*jnp.unravel_index(flat, is_valid.shape))


def cut(rollout: PyTree, places: Places, length: int) -> PyTree:
    """Returns the clips at `places`: arrays [time, envs, ...] become [clips, length, ...]."""
    at = jnp.expand_dims(places.start, -1) + jnp.expand_dims(jnp.arange(length), 0)
    env = jnp.expand_dims(places.env, -1)
    return jax.tree.map(lambda x: x[at, env], rollout)


def pairs(clips: PyTree) -> PyTree:
    """Returns [2 n, ...] clips as n pairs [n, 2, ...]: the first n beside the others."""

    def paired(x: Array) -> Array:
        return jnp.moveaxis(x.reshape(2, -1, *x.shape[1:]), 0, 1)

    return jax.tree.map(paired, clips)
