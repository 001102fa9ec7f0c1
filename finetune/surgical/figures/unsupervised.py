"""Figure of table unsupervised: accuracies by tuned block, episodic and online."""

from finetune.surgical.bar_figures import bar_figure
from finetune.surgical.streams import CHOICES
from finetune.surgical.tables.unsupervised import EPISODIC, ONLINE

draw = bar_figure(
    rows=tuple(CHOICES),
    columns={kind: kind for kind in (EPISODIC, ONLINE)},
    colors={EPISODIC: "tab:blue", ONLINE: "tab:orange"},
    label="accuracy (%)",
    size=(7, 4),
)
