"""Figure of Table 5: which weights the models keep, and what the kept ones reach."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from common import runs
from nfn import pruning
from nfn.equivariant.tickets.table import ROWS, TEST

COLORS = {
    "Dense": "#9a9a9a",
    "IMP": "#333333",
    "Random": "#c9c9c9",
    "NFN_NP": "#2f6db3",
    "NFN_PT": "#e08a2e",
}
NUM_BINS = 20
PROBABILITIES = (0.001, 0.01, 0.1, 0.5, 0.9)


def table_5(
    data: Mapping[str, Any],
    run_directories: Mapping[tuple[str, str], Mapping[int, Path]],
    out_path: Path,
) -> None:
    """Draws the accuracies, and layer by layer the mean logit of the mask against |w_0|.

    Args:
        data: The table's JSON.
        run_directories: Run folders by (row, column) and seed.
        out_path: The PNG to write.
    """
    loaded = {
        row: runs.load(next(iter(run_directories[row, TEST].values())), allow_changed_code=True)
        for row in ("NFN_NP", "NFN_PT")
    }
    test = next(iter(loaded.values())).data["test"]
    weights = [np.abs(np.asarray(x)) for x in pruning.kernels_of(test["weights"])]
    kept = [np.asarray(x) for x in pruning.kernels_of(test["mask"])]
    logits = {
        row: [np.asarray(x) for x in pruning.kernels_of(run.predict(run.data["test"]["weights"]))]
        for row, run in loaded.items()
    }
    figure = plt.figure(figsize=(10, 6.4), layout="constrained")
    halves = figure.add_gridspec(2, 1, height_ratios=(1, 1.2))
    top, bottom = figure.add_subfigure(halves[0]), figure.add_subfigure(halves[1])
    _bars(top.subplots(), data)
    axes = bottom.subplots(1, len(weights), sharey=True, squeeze=False)[0]
    bottom.suptitle(
        "Mean logit of keeping a weight of test networks, against its initial value, and the share "
        "that IMP keeps",
        fontsize=10,
    )
    for layer, axis in enumerate(axes):
        _curves(axis, weights[layer], kept[layer], {row: x[layer] for row, x in logits.items()})
        axis.set_title(f"kernel of layer {layer + 1}", fontsize=9)
    axes[0].set_ylabel("probability to keep (logit scale)")
    axes[0].legend(fontsize=8)
    figure.savefig(out_path, dpi=130)
    plt.close(figure)


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
    axis.spines[["top", "right"]].set_visible(False)


def _logit(p: Any) -> np.ndarray:
    return np.log(p) - np.log1p(-np.asarray(p))


def _bars(axis: Axes, data: Mapping[str, Any]) -> None:
    cells = {cell["row"]: cell for cell in data["cells"] if cell["column"] == TEST}
    values = {row: list(cells[row]["values"].values()) for row in ROWS}
    for place, (row, numbers) in enumerate(values.items()):
        spread = np.std(numbers, ddof=1) if len(numbers) > 1 else 0.0
        axis.bar(place, np.mean(numbers), 0.6, yerr=spread, capsize=3, color=COLORS[row])
        axis.annotate(
            f"{np.mean(numbers):.1f}",
            (place, np.mean(numbers)),
            ha="center",
            xytext=(0, 6),
            textcoords="offset points",
            fontsize=8,
        )
    published = [cells[row]["paper"]["value"] for row in ROWS]
    axis.scatter(range(len(ROWS)), published, marker="_", s=260, color="#b03030", zorder=3)
    axis.annotate(
        "red: paper (MNIST, full size)",
        (0.995, 0.97),
        xycoords="axes fraction",
        ha="right",
        va="top",
        fontsize=8,
        color="#b03030",
    )
    axis.set_xticks(range(len(ROWS)), list(ROWS))
    axis.set_ylim(0, 118)
    axis.set_ylabel("test accuracy / %")
    axis.set_title(
        f"{data['title']} (preset {data['preset']}, n = {len(data['seeds'])})", fontsize=10
    )
    axis.spines[["top", "right"]].set_visible(False)
