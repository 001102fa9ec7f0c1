"""The tables of the paper by name."""

from common.tables import named
from rlhf.human_preferences.tables import (
    ablations,
    atari,
    few_labels,
    game,
    leak,
    mujoco,
    novel,
    pendulum,
    pretraining,
    segments,
    speed,
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
        "few_labels": few_labels,
        "speed": speed,
        "atari": atari,
    }
)
