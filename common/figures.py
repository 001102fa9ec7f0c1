"""What the figures of all papers share: a page, bars and curves with their spread, runs to draw.

`draw(data, run_directories, out_path)` of a table's figure module gets the table's JSON and writes
one PNG. What is here takes cells as `cells(data)` gives them. Axes made inside `page` have no upper
and no right spine. Matplotlib is imported when something is drawn.
"""

import statistics
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from common import runs
from common.seeds import seeds_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

PyTree = Any
RunDirectories = Mapping[tuple[str, str], Mapping[int, Path]]  # folders by (row, column) and seed
PUBLISHED = "#333333"
NAMES_IN_LINE = 5  # more would leave the page


class Shown(NamedTuple):
    """A cell as figures show it.

    Attributes:
        values: What its seeds measured; nothing where the table has no such cell.
        published: The paper's value, if there is one.
    """

    values: tuple[float, ...] = ()
    published: float | None = None

    @property
    def mean(self) -> float:
        """Returns the mean of the seeds, nan without any."""
        return statistics.fmean(self.values) if self.values else float("nan")

    @property
    def spread(self) -> float:
        """Returns the standard deviation of the seeds, 0 of one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0


def cells(data: Mapping[str, Any]) -> dict[tuple[str, str], Shown]:
    """Returns the cells of a table's JSON by (row, column), in the order of the table."""
    return {
        (cell["row"], cell["column"]): Shown(
            tuple(cell["values"].values()), cell["paper"] and cell["paper"]["value"]
        )
        for cell in data["cells"]
    }


def rows(data: Mapping[str, Any]) -> list[str]:
    """Returns the rows of a table's JSON, in its order."""
    return list(dict.fromkeys(cell["row"] for cell in data["cells"]))


def heading(data: Mapping[str, Any]) -> str:
    """Returns "title (preset cpu, n = 3)", in lines that a narrow figure holds."""
    text = f"{data['title']} (preset {data['preset']}, n = {len(data['seeds'])})"
    return textwrap.fill(text, 60)


@contextmanager
def page(out_path: Path, size: tuple[float, float], *, dpi: int = 130) -> "Iterator[Figure]":
    """Gives an empty figure that is written to `out_path` at the end, and closed in any case.

    Args:
        out_path: The PNG to write.
        size: Width and height in inches.
        dpi: Dots per inch.
    """
    from matplotlib import pyplot

    with pyplot.rc_context({"axes.spines.top": False, "axes.spines.right": False}):
        figure = pyplot.figure(figsize=size, layout="constrained")
        try:
            yield figure
            figure.savefig(out_path, dpi=dpi)
        finally:
            pyplot.close(figure)


def stacked(figure: "Figure", heights: Sequence[float]) -> "list[SubFigure]":
    """Returns parts of a figure below one another, of these relative heights."""
    grid = figure.add_gridspec(len(heights), 1, height_ratios=list(heights))
    return [figure.add_subfigure(part) for part in grid]


def bars(
    axis: "Axes",
    groups: Sequence[str],
    series: Mapping[str, Sequence[Shown]],
    colors: Mapping[str, str],
    *,
    width: float = 0.8,
    horizontal: bool = False,
    labels: Mapping[str, str] | None = None,
    published: str = "",
) -> None:
    """Draws a bar for every cell, mean and standard deviation, side by side in its group.

    Args:
        axis: Where; horizontal bars go from top to bottom.
        groups: Names of the groups, in order.
        series: Cells of every group, by the name of the series.
        colors: Color of every series.
        width: Of all bars of a group together.
        horizontal: Bars go to the right instead of up.
        labels: What the legend calls a series, if not by its name.
        published: What the legend calls the paper's values; "": they are not drawn.
    """
    places, each = np.arange(len(groups)), width / len(series)
    marks: list[tuple[float, float]] = []
    for number, (name, shown) in enumerate(series.items()):
        at = places + (number - (len(series) - 1) / 2) * each
        means = [cell.mean for cell in shown]
        spreads = [cell.spread for cell in shown] if any(cell.spread for cell in shown) else None
        look = {"capsize": 2, "color": colors[name], "label": (labels or {}).get(name, name)}
        if horizontal:
            axis.barh(at, means, each * 0.95, xerr=spreads, **look)
        else:
            axis.bar(at, means, each * 0.95, yerr=spreads, **look)
        known = [(x, cell.published) for x, cell in zip(at, shown, strict=True)]
        marks += [(x, value) for x, value in known if value is not None]
    if published and marks:
        at, values = zip(*marks, strict=True)
        look = {"s": 90, "color": PUBLISHED, "zorder": 3, "label": published}
        if horizontal:
            axis.scatter(values, at, marker="|", **look)
        else:
            axis.scatter(at, values, marker="_", **look)
    if horizontal:
        axis.set_yticks(places, list(groups))
        axis.invert_yaxis()
    else:
        axis.set_xticks(places, list(groups))


def curve(axis: "Axes", x: Sequence[Any], shown: Sequence[Shown], *, name: str, color: str) -> None:
    """Draws means over `x` with bars of one standard deviation."""
    means, spreads = [cell.mean for cell in shown], [cell.spread for cell in shown]
    axis.errorbar(x, means, yerr=spreads, marker="o", capsize=3, color=color, label=name)


def band(
    axis: "Axes", x: Sequence[Any], shown: Sequence[Shown], *, name: str, color: str, **line: Any
) -> None:
    """Draws means over `x` on a band from the lowest to the highest seed; `line` is its style."""
    low, high = [min(cell.values) for cell in shown], [max(cell.values) for cell in shown]
    axis.fill_between(x, low, high, color=color, alpha=0.2, lw=0)
    axis.plot(x, [cell.mean for cell in shown], color=color, label=name, **line)


def size_curve(
    axis: "Axes", data: Mapping[str, Any], name: str, along: int, *, color: str, label: str = ""
) -> None:
    """Draws a size curve of a table's JSON (`common.curves`) to the published size, log size.

    Points are means over seeds with their deviation, the band the interval of the fitted curve if
    nothing else grows, the mark at the end the published number.

    Args:
        axis: Where.
        data: The table's JSON.
        name: Of the curve.
        along: Which of its sizes, counted from 0.
        color: Of points, line and band.
        label: In the legend, if not the name.
    """
    found = next(curve for curve in data["curves"] if curve["name"] == name)
    axis.set_xscale("log")
    if found["problem"]:
        return
    one, measured = found["along"][along], cells(data)
    line = {key: [point[key] for point in one["line"]] for key in ("size", "value", "low", "high")}
    axis.fill_between(line["size"], line["low"], line["high"], color=color, alpha=0.15, lw=0)
    axis.plot(line["size"], line["value"], color=color, lw=1)
    shown = [measured[cell["row"], cell["column"]] for cell in one["cells"]]
    scale = data["scale"]
    axis.errorbar(
        [cell["size"] for cell in one["cells"]],
        [scale * cell.mean for cell in shown],
        yerr=[scale * cell.spread for cell in shown],
        fmt="o",
        capsize=3,
        color=color,
        label=label or name,
    )
    if found["published"]:
        axis.scatter([one["at"]], [found["published"]["value"]], marker="*", s=90, color=color)
    axis.set_xlabel(one["name"])


def size_curves(
    data: Mapping[str, Any],
    out_path: Path,
    colors: Mapping[str, str],
    *,
    ylabel: str,
    yscale: str = "linear",
) -> None:
    """Draws the first size of every curve of a table's JSON on one axis, and writes the file.

    Args:
        data: The table's JSON.
        out_path: The file.
        colors: Of every curve, by name.
        ylabel: Of the axis.
        yscale: Of the axis, as Matplotlib names it.
    """
    with page(out_path, (6, 4)) as figure:
        axis = figure.subplots()
        for curve in data["curves"]:
            size_curve(axis, data, curve["name"], 0, color=colors[curve["name"]])
        axis.set_yscale(yscale)
        axis.set_ylabel(ylabel)
        axis.set_title(f"{heading(data)}; star: the paper", fontsize=9)
        axis.legend(fontsize=8)


def legend_below(part: "Figure | SubFigure") -> None:
    """Names what the first axis shows, once for all axes and below them."""
    handles, names = part.axes[0].get_legend_handles_labels()
    columns = min(len(names), NAMES_IN_LINE)
    part.legend(handles, names, loc="outside lower center", ncols=columns, fontsize=8)


def picture(axis: "Axes", pixels: np.ndarray) -> None:
    """Draws pixels in [0, 1], gray or in color, in a frame without ticks."""
    axis.imshow(pixels, cmap="gray", vmin=0, vmax=1)
    axis.spines[:].set_visible(True)
    axis.set_xticks([])
    axis.set_yticks([])


class Drawn(NamedTuple):
    """A run as figures use it.

    Attributes:
        config: Its config.
        seed: Its seed.
        data: The data of its experiment.
        predict: Its predictions for new inputs, as NumPy arrays.
    """

    config: ConfigDict
    seed: int
    data: PyTree
    predict: Callable[[PyTree], PyTree]


def first_folder(
    run_directories: RunDirectories, row: str, column: str | None = None
) -> tuple[int, Path]:
    """Returns the first seed of a cell and its folder; without a column of the row's first cell."""
    found = next(
        seeds
        for (a, b), seeds in run_directories.items()
        if a == row and seeds and column in (None, b)
    )
    return next(iter(found.items()))


def first_run(run_directories: RunDirectories, row: str, column: str | None = None) -> Drawn:
    """Returns the run of the first seed of a cell, ready to predict; places as in `first_folder`.

    Seeds that were trained together are saved together: the run answers as its seed does.
    """
    seed, folder = first_folder(run_directories, row, column)
    group = (runs.read_result(folder) or {}).get("group")
    loaded = runs.load(folder.parent / group if group else folder, allow_changed_code=True)
    member = seeds_of(loaded.config).index(seed)

    def predict(inputs: PyTree) -> PyTree:
        found = jax.tree.map(np.asarray, loaded.predict(inputs))
        return jax.tree.map(lambda x: x[member], found) if group else found

    return Drawn(loaded.config, seed, loaded.data, predict)
