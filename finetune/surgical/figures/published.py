"""Figure of table published: a group of bars for every shift, accuracies by tuned block."""

from finetune.surgical.bar_figures import bar_figure
from finetune.surgical.figures import shifts
from finetune.surgical.tables.published import SHIFTS, STATISTICS

COLORS = {**shifts.COLORS, STATISTICS: "0.4"}
draw = bar_figure(
    rows=tuple(SHIFTS),
    columns={way: way for way in COLORS},
    colors=COLORS,
    label="test accuracy (%)",
    size=(10, 4.5),
)
