"""Learning curves of the runs in a work folder, as inline SVG for the HTML report."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from absl import logging

from common import metric_names
from common.errors import DataError
from common.files.json_files import is_number
from common.loop.metrics import read_metrics
from common.run_folders.records import Run, find

MOST_CARDS = 60
MOST_POINTS = 200
WIDTH, HEIGHT, MARGIN = 240, 110, 6
Curve = list[tuple[int, float]]  # (step, value)


def runs_html(workdir: Path) -> str:
    """Returns a section with one small plot for each configuration, a curve for each seed.

    "" if there are no runs. Of more than 60 configurations, the newest 60 are shown.
    """
    groups: dict[Path, list[Run]] = {}
    for run in find(workdir):
        groups[run.path.parent] = [*groups.pop(run.path.parent, []), run]
    newest = list(groups.items())[::-1]
    cards = [_card(workdir, folder, members) for folder, members in newest[:MOST_CARDS]]
    if not cards:
        return ""
    hidden = len(newest) - len(cards)
    more = f'<p class="soft">{hidden} older configurations are not shown.</p>' if hidden else ""
    return (
        f'<section>\n<h2>Runs</h2>\n<div class="curves">\n{"".join(cards)}</div>{more}\n</section>'
    )


def curve(metrics: Sequence[Mapping[str, Any]], name: str) -> Curve:
    """Returns at most 200 points of a metric; of a seed group, the mean over its seeds."""
    points = []
    for entry in metrics:
        values = entry.get(name)
        numbers = [v for v in (values if isinstance(values, list) else [values]) if is_number(v)]
        if numbers:
            points.append((entry["step"], sum(numbers) / len(numbers)))
    stride = -(-len(points) // MOST_POINTS) or 1
    return points[::stride]


def svg(curves: Sequence[Curve], label: str) -> str:
    """Returns a small plot of curves over a common range, its extremes written into the title."""
    steps = [step for points in curves for step, _ in points]
    values = [value for points in curves for _, value in points]
    if not steps:
        return ""
    x0, x1, y0, y1 = min(steps), max(steps), min(values), max(values)
    lines = ""
    for points in curves:
        at = " ".join(
            f"{_scaled(x, x0, x1, WIDTH):.1f},{HEIGHT - _scaled(y, y0, y1, HEIGHT):.1f}"
            for x, y in points
        )
        lines += f'<polyline points="{at}"/>'
    title = f"{label}: {y0:.4g} to {y1:.4g}, steps {x0} to {x1}"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" fill="none" stroke="currentColor" '
        f'stroke-width="1.5" stroke-opacity=".7"><title>{escape(title)}</title>{lines}</svg>'
        f"<p>{escape(title)}</p>"
    )


def _card(workdir: Path, folder: Path, members: Sequence[Run]) -> str:
    done = sum(run.result is not None for run in members)
    logs = [_log(run) for run in members]
    name = _metric(members[0], logs)
    plot = svg([curve(log, name) for log in logs], name) if name else ""
    where = escape(str(folder.relative_to(workdir)))
    return f'<div>{plot}<p class="soft">{where}: {done} of {len(members)} runs complete</p></div>\n'


def _metric(run: Run, logs: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    """Returns what to plot: the metric by which a checkpoint is best, else the first there is."""
    known = [
        name for log in logs for entry in log for name in entry if name not in ("step", "kind")
    ]
    return metric_names.shown(str(run.config.get("best_metric", "")), known)


def _log(run: Run) -> list[dict[str, Any]]:
    """Returns the metrics of a run; none, with a warning, of one whose file is damaged."""
    path = run.path / "metrics.jsonl"
    try:
        return read_metrics(path) if path.exists() else []  # before its first step there is none
    except DataError as error:
        logging.warning("learning curve left out: %s", error)
        return []


def _scaled(value: float, low: float, high: float, size: int) -> float:
    share = (value - low) / (high - low) if high > low else 0.5
    return MARGIN + share * (size - 2 * MARGIN)
