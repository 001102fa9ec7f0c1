"""Figure of table ablations: learning curves of every ablation."""

from rlhf.figures import draw_runs

draw = draw_runs
