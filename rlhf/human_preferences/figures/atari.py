"""Figure of table atari: the learning curve of the policy that learned, in clipped points."""

from functools import partial

from rlhf.figures import draw_runs
from rlhf.human_preferences.tables.atari import MAIN

draw = partial(draw_runs, only=("row", MAIN))
