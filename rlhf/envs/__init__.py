"""Environments as pure functions: fixed horizon, no end that tells, poses instead of pixels."""

from collections.abc import Callable
from typing import Any

from rlhf.envs import bricks, cart_pole, chain, double_pendulum, pendulum, reacher
from rlhf.envs.environment import Environment, Pose

__all__ = ["ENVIRONMENTS", "Environment", "Pose", "make"]

ENVIRONMENTS: dict[str, Callable[..., Environment]] = {
    "bricks": bricks.bricks,
    "cart_pole": cart_pole.cart_pole,
    "chain": chain.chain,
    "double_pendulum": double_pendulum.double_pendulum,
    "pendulum": pendulum.pendulum,
    "reacher": reacher.reacher,
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
