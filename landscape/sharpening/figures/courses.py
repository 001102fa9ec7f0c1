"""Figure of all tables of full-batch training: sharpness, its limit and Jacobians, row by row."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.config import load_config
from common.figures import RunDirectories, heading, legend_below, page
from common.tables import Cell
from landscape.sharpening.measures import Course, course
from landscape.sharpening.tables import TABLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_COLUMNS = 4
SHARPNESS, GAUSS_NEWTON, SOFTMAX, OUTPUT = "tab:blue", "tab:cyan", "tab:red", "tab:orange"


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws a panel for every row of a table: the course of its first seed.

    Args:
        data: The table's JSON.
        run_directories: Not used: trainings are in the cache.
        out_path: The PNG to write.
    """
    del run_directories
    rows = {cell.row: cell for cell in TABLES[data["table"]].cells}
    columns = min(len(rows), MOST_COLUMNS)
    lines = -(-len(rows) // columns)
    with page(out_path, (4 * columns, 2.9 * lines + 0.6)) as figure:
        panels = figure.subplots(lines, columns, squeeze=False).reshape(-1)
        for panel, (row, cell) in zip(panels, rows.items(), strict=False):
            panel_of(panel, _course(data, cell), title=row)
        for panel in panels[len(rows) :]:
            panel.set_axis_off()
        legend_below(figure)
        figure.suptitle(heading(data), fontsize=10)


def panel_of(axis: "Axes", found: Course, *, title: str) -> None:
    """Draws sharpness and limit, and on a scale of their own both Jacobians, over updates."""
    at = found.evaluated
    axis.plot(found.updates, found.sharpness, color=SHARPNESS, lw=1, label="sharpness")
    gauss_newton = found.values["gauss_newton"]
    axis.plot(at, gauss_newton, color=GAUSS_NEWTON, lw=1, ls=":", label="of Gauss-Newton")
    if found.limit < 2 * max(found.sharpness):
        axis.axhline(found.limit, color="black", lw=0.8, ls="--")
    axis.plot([], [], color="black", lw=0.8, ls="--", label="limit")
    axis.set_ylim(0, None)
    axis.set_title(title, fontsize=8)
    axis.tick_params(labelsize=7)
    other = axis.twinx()
    for name, color in (("softmax", SOFTMAX), ("output", OUTPUT)):
        jacobian = found.values[f"{name}_jacobian"]
        label = f"Jacobian of the {name} / its largest"
        other.plot(at, jacobian / max(jacobian), color=color, lw=1)
        axis.plot([], [], color=color, lw=1, label=label)
    other.set_ylim(0, 1.05)
    other.tick_params(labelsize=7)


def _course(data: Mapping[str, Any], cell: Cell) -> Course:
    changed = {name: str(value) for name, value in cell.overrides.items()}
    spec = f"{data['config']}:{data['preset']}{f',{cell.variant}' if cell.variant else ''}"
    return course(load_config(spec, {**changed, "seed": str(data["seeds"][0])}))
