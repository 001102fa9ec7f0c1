"""Figure of table leak: learning curves, a clip strip and the learned reward."""

from functools import partial

from rlhf.figures import draw_runs
from rlhf.human_preferences.tables.pendulum import MAIN

draw = partial(draw_runs, shown=MAIN)
