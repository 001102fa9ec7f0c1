"""Figure of table paths: the paths of all networks over the contours of their planes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories, heading, page
from landscape import figures
from landscape.trajectories import path_axes
from landscape.visualizing.figures.panels import contours, networks, scale
from landscape.visualizing.measures import FROZEN
from landscape.visualizing.paths import paths_of, picture
from landscape.visualizing.tables.batch_size import ROWS
from landscape.visualizing.tables.paths import VARIANTS


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws the paths of the first seed, with red dots where the learning rate drops.

    Args:
        data: The table's JSON.
        run_directories: Not used: networks and their states are in the cache.
        out_path: The PNG to write.
    """
    del run_directories
    with page(out_path, (13, 6.6), dpi=120) as figure:
        axes = figure.subplots(len(ROWS), len(VARIANTS), squeeze=False)
        for column, ((optimizer, setting), variant) in enumerate(VARIANTS.items()):
            found = networks(data, variant)
            for line, (size, path) in zip(axes, paths_of(found.config).items(), strict=True):
                flat = path_axes(path.variables, frozen=FROZEN.frozen)
                first, second = (f"{share:.1%}" for share in flat.explained)
                axis = line[column]
                contours(
                    axis, picture(found, path, flat), title=f"{optimizer}, {setting}, {size} batch"
                )
                figures.path(axis, flat.coordinates, drops=path.drops)
                axis.set_aspect("auto")
                axis.set_xlabel(f"first axis: {first}", fontsize=7)
                axis.set_ylabel(f"second axis: {second}", fontsize=7)
        scale(figure, axes)
        figure.suptitle(heading(data), fontsize=10)
