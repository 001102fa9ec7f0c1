"""Figure of table pendulum: learning curves, a clip strip, the reward and its calibration."""

from functools import partial

from rlhf.figures import draw_runs
from rlhf.human_preferences.tables.pendulum import MAIN

draw = partial(draw_runs, shown=MAIN)
