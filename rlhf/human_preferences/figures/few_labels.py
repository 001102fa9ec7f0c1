"""Figure of table few_labels: learning curves of the reacher."""

from functools import partial

from rlhf.figures import draw_runs
from rlhf.human_preferences.tables.few_labels import REACHER

draw = partial(draw_runs, only=("column", REACHER))
