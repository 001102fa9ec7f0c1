"""Figure of table reacher: learning curves of all rows."""

from rlhf.figures import draw_runs

draw = draw_runs
