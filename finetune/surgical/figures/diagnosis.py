"""Figure of table diagnosis: profiles of blocks over those of clean images, shift by shift."""

from finetune.surgical.bar_figures import bar_figure
from finetune.surgical.tables.diagnosis import RATIO
from finetune.surgical.tables.shifts import BLOCKS, SHIFTS

draw = bar_figure(
    rows=tuple(SHIFTS),
    columns={block: f"{block}, {RATIO}" for block in BLOCKS},
    colors=dict(zip(BLOCKS, ("tab:blue", "tab:cyan", "tab:green", "tab:orange"), strict=True)),
    label="relative gradient norm over clean images",
    size=(9, 4),
    level=1,
)
