"""Environments as pure functions: fixed horizon, no end that tells, poses instead of pixels."""

from collections.abc import Callable
from typing import Any

from rlhf.envs.bricks import bricks
from rlhf.envs.cart_pole import cart_pole
from rlhf.envs.chain import chain
from rlhf.envs.double_pendulum import double_pendulum
from rlhf.envs.environment import Environment, Pose
from rlhf.envs.pendulum import pendulum
from rlhf.envs.reacher import reacher

__all__ = ["ENVIRONMENTS", "Environment", "Pose", "make"]

ENVIRONMENTS: dict[str, Callable[..., Environment]] = {
    "pendulum": pendulum,
    "cart_pole": cart_pole,
    "double_pendulum": double_pendulum,
    "reacher": reacher,
    "chain": chain,
    "bricks": bricks,
}


def make(name: str, **options: Any) -> Environment:
    """Returns the environment of a name; options are those of its function.

    Raises:
        ValueError: For a name that is not in `ENVIRONMENTS`, or a horizon below 1.
    """
    if name not in ENVIRONMENTS:
        raise ValueError(
            f"env={name!r}: no such environment; allowed: {', '.join(sorted(ENVIRONMENTS))}"
        )
    if options.get("horizon", 1) < 1:
        raise ValueError(f"horizon={options['horizon']}: an episode has at least one step")
    return ENVIRONMENTS[name](**options)
