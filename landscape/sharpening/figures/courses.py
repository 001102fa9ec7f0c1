"""Panels that the figures of full-batch training have: sharpness, its limit, and a Jacobian."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.config import load_config
from common.figures import heading, legend_below, page
from landscape.sharpening.measures import Course, course

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHARPNESS, GAUSS_NEWTON, SOFTMAX, OUTPUT = "tab:blue", "tab:cyan", "tab:red", "tab:orange"


def draw_courses(
    data: Mapping[str, Any],
    rows: Mapping[str, Mapping[str, Any]],
    out_path: Path,
    *,
    columns: int,
    variants: Mapping[str, str] | None = None,
) -> None:
    """Draws a panel for every row of a table: the course of its first seed.

    Args:
        data: The table's JSON; trainings are in the cache.
        rows: Fields of the config in which each row differs.
        out_path: The PNG to write.
        columns: Of panels.
        variants: What follows the preset in the config of a row, if anything does.
    """
    lines = -(-len(rows) // columns)
    with page(out_path, (4 * columns, 2.9 * lines + 0.6)) as figure:
        panels = figure.subplots(lines, columns, squeeze=False).reshape(-1)
        for panel, (row, fields) in zip(panels, rows.items(), strict=False):
            panel_of(panel, _course(data, fields, (variants or {}).get(row)), title=row)
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


def _course(data: Mapping[str, Any], fields: Mapping[str, Any], variant: str | None) -> Course:
    changed = {name: str(value) for name, value in fields.items()}
    spec = f"{data['config']}:{data['preset']}{f',{variant}' if variant else ''}"
    return course(load_config(spec, {**changed, "seed": str(data["seeds"][0])}))
