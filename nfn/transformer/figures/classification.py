"""The figure of table "classification": accuracies, redrawn images, ways between arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from common import stages
from common.config import from_json
from common.figures import RunDirectories, first_folder, page, rows, stacked
from nfn.tasks.figures import draw_accuracies, draw_pictures
from nfn.transformer.inr2array.experiment import autoencoder
from nfn.transformer.tables.classification import NFN, NFT, NFT_LONG, PROBES

NUM_IMAGES, NUM_BETWEEN = 10, 9
REDRAWN = (NFN, NFT, NFT_LONG, PROBES)
PATHS = ((0, 1), (8, 9))  # pairs of classes: from an array of the first to one of the second


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws accuracies beside redrawn test images and pictures of arrays between two others."""
    folders = {row: first_folder(run_directories, row, "test %")[1] for row in REDRAWN}
    pictures = {row: _pictures(folder) for row, folder in folders.items()}
    first = pictures[REDRAWN[0]]
    redrawn = [("image", first["image"]), ("SIREN", first["siren"])]
    redrawn += [(row, found["drawn"]) for row, found in pictures.items()]
    between = [("", line) for line in pictures[REDRAWN[-1]]["between"]]
    heights = (len(redrawn), len(between), 1.2 + 0.42 * len(rows(data)))
    with page(out_path, (9.5, sum(heights))) as figure:
        top, middle, bottom = stacked(figure, heights)
        draw_pictures(top, "Test images, their SIRENs, and what is redrawn from arrays", redrawn)
        title = f"Pictures of arrays on the line between those of two test SIRENs ({REDRAWN[-1]})"
        draw_pictures(middle, title, between)
        axis = bottom.subplots()
        columns = ("train %", "test %")
        draw_accuracies(axis, data, rows(data), columns, published="published (full size)")


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
