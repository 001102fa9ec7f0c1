"""Figure of table speed: learning curves, rewarded by the distance and taught by labels."""

from rlhf.figures import draw_runs

draw = draw_runs
