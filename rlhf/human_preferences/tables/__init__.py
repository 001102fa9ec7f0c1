"""The tables of the paper by name."""

from common.tables import named
from rlhf.human_preferences.tables import (
    ablations,
    atari,
    game,
    leak,
    mujoco,
    novel,
    pendulum,
    pretraining,
    reacher,
    segments,
    trap,
)

TABLES = named(
    {
        "pendulum": pendulum,
        "pretraining": pretraining,
        "trap": trap,
        "leak": leak,
        "novel": novel,
        "segments": segments,
        "ablations": ablations,
        "game": game,
        "mujoco": mujoco,
        "reacher": reacher,
        "atari": atari,
    }
)
