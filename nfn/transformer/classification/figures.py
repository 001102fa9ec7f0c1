"""Figure of the table "classification": accuracies, redrawn test images, ways between arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from common import stages
from common.config import from_json
from nfn.transformer.classification.table import NFN, NFT, NFT_LONG, PROBES
from nfn.transformer.inr2array.experiment import autoencoder

PAPER_COLOR, TRAIN_COLOR, TEST_COLOR = "#333333", "#b9cbe0", "#2f6db3"
NUM_IMAGES, NUM_BETWEEN = 10, 9
REDRAWN = (NFN, NFT, NFT_LONG, PROBES)
PATHS = ((0, 1), (8, 9))  # pairs of classes: from an array of the first to one of the second


def classification(
    data: Mapping[str, Any],
    run_directories: Mapping[tuple[str, str], Mapping[int, Path]],
    out_path: Path,
) -> None:
    """Draws accuracies beside redrawn test images and pictures of arrays between two others.

    Args:
        data: The table's JSON.
        run_directories: Run folders by (row, column) and seed.
        out_path: The PNG to write.
    """
    runs = {row: run_directories[row, "test %"] for row in REDRAWN}
    pictures = {row: _pictures(next(iter(seeds.values()))) for row, seeds in runs.items()}
    first = pictures[REDRAWN[0]]
    rows = [("image", first["image"]), ("SIREN", first["siren"])]
    rows += [(row, found["drawn"]) for row, found in pictures.items()]
    between = pictures[REDRAWN[-1]]["between"]
    num_rows = len({cell["row"] for cell in data["cells"]})
    heights = (1.0 * len(rows), 1.0 * len(between), 1.2 + 0.42 * num_rows)
    figure = plt.figure(figsize=(9.5, sum(heights)), layout="constrained")
    parts = figure.add_gridspec(3, 1, height_ratios=heights)
    top, middle, bottom = (figure.add_subfigure(part) for part in parts)
    _grid(top, "Test images, their SIRENs, and what is redrawn from arrays", rows)
    title = f"Pictures of arrays on the line between those of two test SIRENs ({REDRAWN[-1]})"
    _grid(middle, title, [("", row) for row in between])
    _bars(bottom.subplots(), data)
    figure.savefig(out_path, dpi=130)
    plt.close(figure)


def _pictures(directory: Path) -> dict[str, np.ndarray]:
    """Returns test images, their SIRENs, redrawn ones and ways between arrays, all in [0, 1]."""
    config = from_json((directory / "config.json").read_text())
    stage = stages.section(config, "encoder", seed=config.seed)
    loaded, networks = stages.trained(stage), autoencoder(stage)
    labels = np.asarray(loaded.data["test"]["label"])
    chosen = np.array([np.flatnonzero(labels == c)[0] for c in np.unique(labels)[:NUM_IMAGES]])
    params = jax.tree.map(lambda x: x[chosen], loaded.data["test"]["params"])
    answer = loaded.predict(params)
    shares = jnp.linspace(0, 1, NUM_BETWEEN)[:, None, None]
    z, between = answer["array"], []
    for a, b in PATHS:
        a, b = a % len(chosen), b % len(chosen)
        line = (1 - shares) * z[a][None] + shares * z[b][None]
        between.append(networks.decoder.apply(loaded.state.params.decoder, line))
    return {
        "image": _unit(loaded.data["images"]["test"][chosen]),
        "siren": _unit(networks.picture(params)),
        "drawn": _unit(answer["picture"]),
        "between": np.stack([_unit(x) for x in between]),
    }


def _unit(values: jax.Array) -> np.ndarray:
    """Returns values of the [-1, 1] scale as square images in [0, 1]."""
    pixels = np.clip(np.asarray(values) / 2 + 0.5, 0, 1)
    size = round(pixels.shape[-2] ** 0.5)
    return pixels.reshape(*pixels.shape[:-2], size, size, -1)


def _grid(figure: Any, title: str, rows: list[tuple[str, np.ndarray]]) -> None:
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(len(rows), max(len(images) for _, images in rows), squeeze=False)
    for line, (label, images) in zip(axes, rows, strict=True):
        for axis, image in zip(line, images, strict=True):
            axis.imshow(image, cmap="gray", vmin=0, vmax=1)
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(
            label.replace(", ", ",\n"), fontsize=7, rotation=0, ha="right", va="center"
        )


def _bars(axis: Axes, data: Mapping[str, Any]) -> None:
    cells = {(cell["row"], cell["column"]): cell for cell in data["cells"]}
    rows = list(dict.fromkeys(row for row, _ in cells))
    places = np.arange(len(rows))
    for offset, column, color in ((-0.2, "train %", TRAIN_COLOR), (0.2, "test %", TEST_COLOR)):
        values = [list(cells[row, column]["values"].values()) for row in rows]
        spread = [np.std(v, ddof=1) if len(v) > 1 else 0.0 for v in values]
        label = f"{column[:-2]} (mean and standard deviation, n = {len(data['seeds'])})"
        means = [np.mean(v) for v in values]
        axis.barh(places + offset, means, 0.38, xerr=spread, capsize=2, color=color, label=label)
    published = [cells[row, "test %"]["paper"] for row in rows]
    known = [(p["value"], y + 0.2) for y, p in zip(places, published, strict=True) if p]
    axis.scatter(
        *zip(*known, strict=True),
        marker="|",
        s=110,
        color=PAPER_COLOR,
        zorder=3,
        label="published (full size)",
    )
    axis.set_yticks(places, rows)
    axis.invert_yaxis()
    axis.set_xlim(0, 140)  # room for the legend
    axis.set_xticks(range(0, 101, 20))
    axis.set_xlabel("accuracy / %")
    axis.set_title(f"{data['title']} (preset {data['preset']})", fontsize=10)
    axis.legend(fontsize=8, loc="upper right")
    axis.spines[["top", "right"]].set_visible(False)
