"""The paper's own simulators as environments, each behind an extra that nothing else needs.

MuJoCo's eight tasks (`robots`, extra `rl`) and seven Atari games (`games`, extra `atari`) are
`rlhf.envs.Environment`s like those of our own: their steps are calls to the host (`rlhf.host`), one
for all environments and seeds, and their states are arrays of a run.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from rlhf.envs.environment import Environment
from rlhf.simulators.games import GAMES, game
from rlhf.simulators.robots import ROBOTS, robot

__all__ = ["SIMULATORS", "make"]

SIMULATORS: dict[str, Callable[..., Environment]] = {
    **{name: partial(robot, name) for name in ROBOTS},
    **{name: partial(game, name) for name in GAMES},
}


def make(name: str, **options: Any) -> Environment:
    """Returns the simulator of a name; options are those of its function.

    Raises:
        ValueError: For a name that is not in `SIMULATORS`.
        MissingPackage: In one line with what installs it, without its extra.
    """
    if name not in SIMULATORS:
        raise ValueError(
            f"simulator={name!r}: no such simulator; allowed: {', '.join(sorted(SIMULATORS))}"
        )
    return SIMULATORS[name](**options)
