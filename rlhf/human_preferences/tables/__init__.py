"""The tables of the paper by name."""

from common.tables import named
from rlhf.human_preferences.tables import ablations, leak, mujoco, novel, pendulum, trap

TABLES = named(
    {
        "pendulum": pendulum,
        "trap": trap,
        "leak": leak,
        "novel": novel,
        "ablations": ablations,
        "mujoco": mujoco,
    }
)
