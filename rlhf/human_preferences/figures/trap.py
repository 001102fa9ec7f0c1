"""Figure of table trap: learning curves, a clip strip and the learned reward."""

from functools import partial

from rlhf.figures import draw_runs
from rlhf.human_preferences.tables.trap import ONLINE

draw = partial(draw_runs, shown=ONLINE)
