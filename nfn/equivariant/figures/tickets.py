"""The figure of Table 5: which weights the models keep, and what the kept ones reach."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from common.figures import RunDirectories, cells, first_run, heading, page, stacked
from nfn import pruning
from nfn.equivariant.tables.tickets import ROWS, TEST

COLORS = {
    "Dense": "#9a9a9a",
    "IMP": "#333333",
    "Random": "#c9c9c9",
    "NFN_NP": "#2f6db3",
    "NFN_PT": "#e08a2e",
}
PUBLISHED = "#b03030"
NUM_BINS = 20
PROBABILITIES = (0.001, 0.01, 0.1, 0.5, 0.9)


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws the accuracies, and layer by layer the mean logit of the mask against |w_0|."""
    models = {row: first_run(run_directories, row, TEST) for row in ("NFN_NP", "NFN_PT")}
    test = models["NFN_NP"].data["test"]
    weights = [np.abs(np.asarray(x)) for x in pruning.kernels_of(test["weights"])]
    kept = [np.asarray(x) for x in pruning.kernels_of(test["mask"])]
    logits = {
        row: pruning.kernels_of(run.predict(run.data["test"]["weights"]))
        for row, run in models.items()
    }
    with page(out_path, (10, 6.4)) as figure:
        top, bottom = stacked(figure, (1, 1.2))
        _accuracies(top.subplots(), data)
        axes = bottom.subplots(1, len(weights), sharey=True, squeeze=False)[0]
        bottom.suptitle(
            "Mean logit of keeping a weight of test networks, against its initial value, and the "
            "share that IMP keeps",
            fontsize=10,
        )
        for layer, axis in enumerate(axes):
            _curves(axis, weights[layer], kept[layer], {row: x[layer] for row, x in logits.items()})
            axis.set_title(f"kernel of layer {layer + 1}", fontsize=9)
        axes[0].set_ylabel("probability to keep (logit scale)")
        axes[0].legend(fontsize=8)


def _curves(
    axis: Axes, weights: np.ndarray, kept: np.ndarray, logits: Mapping[str, np.ndarray]
) -> None:
    """Draws means over equally filled bins of |w_0|."""
    edges = np.quantile(weights, np.linspace(0, 1, NUM_BINS + 1))
    place = np.clip(np.searchsorted(edges, weights, side="right") - 1, 0, NUM_BINS - 1)

    def means(values: np.ndarray) -> np.ndarray:
        sums = np.bincount(place.ravel(), values.ravel(), NUM_BINS)
        return sums / np.bincount(place.ravel(), minlength=NUM_BINS)

    x, share = means(weights), means(kept.astype(float))
    is_seen = (share > 0) & (share < 1)
    axis.plot(x[is_seen], _logit(share[is_seen]), "o", ms=4, color=COLORS["IMP"], label="IMP")
    for row, values in logits.items():
        axis.plot(x, means(values), color=COLORS[row], label=row)
    axis.set_yticks([float(_logit(p)) for p in PROBABILITIES], [f"{p:.1%}" for p in PROBABILITIES])
    axis.set_xlabel(r"$|w_0|$")


def _logit(p: Any) -> np.ndarray:
    return np.log(p) - np.log1p(-np.asarray(p))


def _accuracies(axis: Axes, data: Mapping[str, Any]) -> None:
    """Draws one bar a row with its value, and the published ones."""
    shown = {row: cells(data)[row, TEST] for row in ROWS}
    for place, (row, cell) in enumerate(shown.items()):
        axis.bar(place, cell.mean, 0.6, yerr=cell.spread, capsize=3, color=COLORS[row])
        axis.annotate(
            f"{cell.mean:.1f}",
            (place, cell.mean),
            ha="center",
            xytext=(0, 6),
            textcoords="offset points",
            fontsize=8,
        )
    published = [cell.published for cell in shown.values()]
    axis.scatter(
        range(len(shown)),
        [np.nan if value is None else value for value in published],
        marker="_",
        s=260,
        color=PUBLISHED,
        zorder=3,
        label="paper (MNIST, full size)",
    )
    axis.legend(fontsize=8, loc="upper right")
    axis.set_xticks(range(len(shown)), list(shown))
    axis.set_ylim(0, 118)
    axis.set_ylabel("test accuracy / %")
    axis.set_title(heading(data), fontsize=10)
