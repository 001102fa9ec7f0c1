"""Figure of table mujoco: learning curves of the half-cheetah, with its reward and from labels."""

from functools import partial

from rlhf.figures import draw_runs
from rlhf.human_preferences.tables.mujoco import CHEETAH

draw = partial(draw_runs, only=("column", CHEETAH))
