"""Figure of table methods: accuracies of every way, shift by shift."""

from finetune.surgical.bar_figures import bar_figure
from finetune.surgical.tables.methods import NAMES, SHOWN

draw = bar_figure(
    rows=tuple(NAMES.values()),
    columns={name: name for name in SHOWN},
    colors=dict(zip(SHOWN, ("tab:blue", "tab:orange"), strict=True)),
    label="test accuracy (%)",
    size=(7, 6),
    horizontal=True,
)
