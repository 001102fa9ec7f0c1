"""Figure of table game: learning curves, a clip strip and the learned reward."""

from functools import partial

from rlhf.figures import draw_runs
from rlhf.human_preferences.tables.game import MAIN

draw = partial(draw_runs, shown=MAIN)
