"""What the figures of the tables show: learning curves, clips drawn from poses, learned rewards."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common import runs
from common.figures import (
    RunDirectories,
    first_folder,
    first_run,
    heading,
    legend_below,
    page,
    rows,
    stacked,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

COLORS = (
    "tab:blue",
    "tab:orange",
    "tab:green",
    "tab:red",
    "tab:purple",
    "tab:brown",
    "tab:pink",
    "tab:gray",
    "tab:olive",
)
FRAMES = 12  # of a strip
EVERY = 4  # steps between two of them
BINS = np.linspace(0, 1, 6)  # of predicted probabilities
PAIRS = 2_000


def draw_runs(
    data: Mapping[str, Any],
    run_directories: RunDirectories,
    out_path: Path,
    *,
    shown: str = "",
    only: tuple[str, str] | None = None,
) -> None:
    """Draws curves of every row over the strip and the reward of one of them.

    Args:
        data: The table's JSON.
        run_directories: Where the runs are.
        out_path: The PNG to write.
        shown: The row whose first seed is drawn step by step; "" for none.
        only: ("row" or "column", its name) of the cells that are drawn; None: all.
    """
    if only is not None:
        kind, name = only
        data = {**data, "cells": [cell for cell in data["cells"] if cell[kind] == name]}
    with page(out_path, (9, 7.5 if shown else 4)) as figure:
        top, *below = stacked(figure, (3, 1, 2.6) if shown else (1,))
        axis = top.subplots()
        for color, row in zip(COLORS, rows(data), strict=False):
            _curve(axis, run_directories, row, color)
        axis.set(xlabel="environment steps", ylabel="return per episode")
        legend_below(top)
        if shown:
            _episodes(below, run_directories, shown)
        figure.suptitle(heading(data), fontsize=10)


def returns(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns steps [n] and returns [n, seeds] that the run of a result folder has logged."""
    lines = runs.read_metrics(_run_folder(folder) / "metrics.jsonl")
    train = [line for line in lines if line["kind"] == "train"]
    steps = np.array([line["step"] for line in train])
    return steps, np.array([np.ravel(line["return"]) for line in train])


def _run_folder(folder: Path) -> Path:
    """Returns the folder of the run that a seed was trained in."""
    group = (runs.read_result(folder) or {}).get("group")
    return folder.parent / group if group else folder


def _curve(axis: "Axes", run_directories: RunDirectories, row: str, color: str) -> None:
    """Draws the median of all seeds on a band from the lowest to the highest."""
    _, folder = first_folder(run_directories, row)
    learner = runs.read(_run_folder(folder)).config["learner"]
    steps, values = returns(folder)
    x = steps * learner["envs"] * learner["steps"]
    axis.fill_between(x, values.min(axis=1), values.max(axis=1), color=color, alpha=0.12, lw=0)
    axis.plot(x, np.median(values, axis=1), color=color, label=row)


def _episodes(parts: "list[SubFigure]", run_directories: RunDirectories, row: str) -> None:
    """Draws the beginning of an episode frame by frame, and what the reward model says of all."""
    run = first_run(run_directories, row)
    found = run.predict(np.uint32(0))
    strip, reward = parts
    for number, axis in enumerate(strip.subplots(1, FRAMES)):
        step = min(number * EVERY, len(found["goal"]) - 1)
        _frame(axis, found["segments"][step, 0], found["circles"][step, 0])
    left, right = reward.subplots(1, 2)
    left.scatter(found["goal"], found["reward"], s=2, alpha=0.3)
    left.set(xlabel="true reward of a step", ylabel="learned reward")
    error = run.config["reward"]["error"]
    chance, share = calibration(found, run.config["clip"]["length"], error)
    right.plot([0, 1], [0, 1], color="#333333", lw=0.8)
    right.plot(chance, share, marker="o")
    right.set(xlabel="predicted chance of the first clip", ylabel="share it is better in")


def calibration(
    found: Mapping[str, np.ndarray], length: int, error: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns predicted chances and how often the first clip is better, by bins of the chance.

    Pairs are cut at random from the episodes; the chance is the members' mean.
    """
    random = np.random.default_rng(0)
    steps, count = found["goal"].shape
    start = random.integers(steps - length + 1, size=(2, PAIRS))
    which = random.integers(count, size=(2, PAIRS))
    at = start[..., None] + np.arange(length)[None, None]
    goal = found["goal"][at, which[..., None]].sum(axis=-1)
    sums = found["members"][:, at, which[..., None]].sum(axis=-1)
    with np.errstate(over="ignore"):
        sure = 1 / (1 + np.exp(sums[:, 1] - sums[:, 0]))
    chance = np.mean(error / 2 + (1 - error) * sure, axis=0)
    place = np.clip(np.digitize(chance, BINS) - 1, 0, len(BINS) - 2)
    used = [number for number in range(len(BINS) - 1) if (place == number).any()]
    first = (1 + np.sign(goal[0] - goal[1])) / 2  # a tie is half of each
    means = [(chance[place == number].mean(), first[place == number].mean()) for number in used]
    predicted, share = np.array(means).T
    return predicted, share


def _frame(axis: "Axes", segments: np.ndarray, circles: np.ndarray) -> None:
    """Draws one pose: capsules as thick lines, discs as circles."""
    from matplotlib.patches import Circle

    for x0, y0, x1, y1, radius in segments:
        if radius >= 0:
            width = max(1.0, 40 * radius / max(np.ptp(segments[:, :4]), 1.0))
            axis.plot([x0, x1], [y0, y1], color="tab:blue", lw=width, solid_capstyle="round")
    for x, y, radius in circles:
        if radius >= 0:
            axis.add_patch(Circle((x, y), radius, color="tab:red"))
    axis.set_aspect("equal")
    axis.set_axis_off()
