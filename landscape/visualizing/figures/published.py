"""Figure of table published: the planes of two networks, and the numbers of all four."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.config import load_config
from common.figures import RunDirectories, bars, cells, heading, page, rows, stacked
from landscape.visualizing.figures.panels import contours, scale
from landscape.visualizing.measures import planes
from landscape.visualizing.pretrained import pretrained
from landscape.visualizing.tables.published import (
    DEPTHS,
    EIGENVALUE,
    ERROR,
    NONCONVEX,
    SHARPNESS,
    WIDTH,
)

SHOWN = {ERROR: "#333333", SHARPNESS: "#2f6db3", EIGENVALUE: "#7a4fa3", WIDTH: "#e08a3c"}


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws the planes of the first seed, and bars of what is measured of every network.

    Args:
        data: The table's JSON.
        run_directories: Not used: surfaces are in the cache, as the cells left them.
        out_path: The PNG to write.
    """
    del run_directories
    names, shown = rows(data), cells(data)
    with_planes = [row for row in names if (row, NONCONVEX) in shown]
    with page(out_path, (11, 7.5), dpi=120) as figure:
        top, bottom = stacked(figure, (2, 0.8))
        axes = top.subplots(1, len(with_planes), squeeze=False)
        for axis, row in zip(axes[0], with_planes, strict=True):
            spec = f"{data['config']}:{data['preset']},depth={DEPTHS[row]}"
            found = pretrained(load_config(spec, {"seed": str(data["seeds"][0])}))
            contours(axis, planes(found, found.run.state)[0], title=row)
        scale(top, axes)
        top.suptitle(heading(data), fontsize=10)
        for axis, (what, color) in zip(bottom.subplots(1, len(SHOWN)), SHOWN.items(), strict=True):
            series = {what: [shown[row, what] for row in names]}
            bars(axis, [row.removeprefix("ResNet-") for row in names], series, {what: color})
            axis.set_title(what, fontsize=9)
            axis.tick_params(labelsize=8)
