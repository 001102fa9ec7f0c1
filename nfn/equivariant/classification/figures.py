"""Figures of the paper's tables, drawn from their JSON and from the run folders."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from common.config import from_json
from nfn.tasks import sirens

PAPER_COLOR, TRAIN_COLOR, TEST_COLOR = "#333333", "#b9cbe0", "#2f6db3"
NUM_RENDERINGS = 10


def table_3(
    data: Mapping[str, Any],
    run_directories: Mapping[tuple[str, str], Mapping[int, Path]],
    out_path: Path,
) -> None:
    """Draws images beside their SIRENs, and the accuracies of all rows with their deviations.

    Args:
        data: The table's JSON.
        run_directories: Run folders by (row, column) and seed.
        out_path: The PNG to write.
    """
    directory = next(iter(run_directories["NFN_NP", "test"].values()))
    config = from_json((directory / "config.json").read_text())
    images, renderings, psnr = sirens.examples(
        sirens.siren_set_spec(config.data), count=NUM_RENDERINGS
    )
    num_rows = len({cell["row"] for cell in data["cells"]})
    figure = plt.figure(figsize=(9, 2.6 + 0.36 * num_rows), layout="constrained")
    halves = figure.add_gridspec(2, 1, height_ratios=(2, 0.6 + 0.36 * num_rows))
    top, bottom = figure.add_subfigure(halves[0]), figure.add_subfigure(halves[1])
    _renderings(top, images, renderings, psnr)
    _bars(bottom.subplots(), data)
    figure.savefig(out_path, dpi=130)
    plt.close(figure)


def _renderings(figure: Any, images: np.ndarray, renderings: np.ndarray, psnr: float) -> None:
    figure.suptitle(
        f"Test images (above) and the SIRENs fitted to them (below; mean PSNR {psnr:.1f} dB)",
        fontsize=10,
    )
    axes = figure.subplots(2, len(images))
    for row, pictures in zip(axes, (images, renderings), strict=True):
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=1)
            axis.set_axis_off()


def _bars(axis: Axes, data: Mapping[str, Any]) -> None:
    cells = {(cell["row"], cell["column"]): cell for cell in data["cells"]}
    rows = [row for row in dict.fromkeys(row for row, _ in cells) if row != "Chance"]
    places = np.arange(len(rows))
    for offset, column, color in ((-0.2, "train", TRAIN_COLOR), (0.2, "test", TEST_COLOR)):
        values = [list(cells[row, column]["values"].values()) for row in rows]
        spread = [np.std(v, ddof=1) if len(v) > 1 else 0.0 for v in values]
        axis.barh(
            places + offset,
            [np.mean(v) for v in values],
            0.38,
            xerr=spread,
            capsize=2,
            color=color,
            label=f"{column} (mean and standard deviation, n = {len(data['seeds'])})",
        )
        published = [cells[row, column]["paper"] for row in rows]
        known = [(p["value"], y) for y, p in zip(places + offset, published, strict=True) if p]
        axis.scatter(
            *zip(*known, strict=True),
            marker="|",
            s=110,
            color=PAPER_COLOR,
            zorder=3,
            label="paper (10 classes, full size)" if column == "test" else None,
        )
    chance = next(iter(cells["Chance", "test"]["values"].values()))
    axis.axvline(chance, color="gray", linestyle=":", label="chance")
    axis.set_yticks(places, rows)
    axis.invert_yaxis()
    axis.set_xlim(0, 155)  # room for the legend
    axis.set_xticks(range(0, 101, 20))
    axis.set_xlabel("accuracy / %")
    axis.set_title(f"{data['title']} (preset {data['preset']})", fontsize=10)
    axis.legend(fontsize=8, loc="upper right")
    axis.spines[["top", "right"]].set_visible(False)
