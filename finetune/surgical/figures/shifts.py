"""Figure of table shifts: a group of bars for every shift, accuracies by tuned block."""

from finetune.surgical.bar_figures import bar_figure
from finetune.surgical.tables.shifts import NONE, SHIFTS, WAYS

COLORS = dict(
    zip(
        (NONE, *WAYS),
        ("0.7", "tab:blue", "tab:cyan", "tab:green", "tab:orange", "tab:red"),
        strict=True,
    )
)
draw = bar_figure(
    rows=tuple(SHIFTS),
    columns={way: way for way in COLORS},
    colors=COLORS,
    label="test accuracy (%)",
    size=(10, 4.5),
)
