"""What figures share: cells as they are shown, bars, a page that is closed, the run of a cell."""

from pathlib import Path

import numpy as np
import pytest

from common import figures

DATA = {
    "title": "Errors",
    "preset": "cpu",
    "seeds": [0, 1],
    "cells": [
        {"row": "A", "column": "x", "values": {"0": 1.0, "1": 3.0}, "paper": {"value": 2.5}},
        {"row": "A", "column": "y", "values": {"0": 4.0}, "paper": None},
        {"row": "B", "column": "x", "values": {}, "paper": None},
    ],
}


def test_cells_are_shown_by_mean_and_deviation() -> None:
    shown = figures.cells(DATA)

    assert list(shown) == [("A", "x"), ("A", "y"), ("B", "x")]
    assert (shown["A", "x"].mean, shown["A", "x"].spread) == (2.0, 2**0.5)
    assert (shown["A", "x"].published, shown["A", "y"].published) == (2.5, None)
    assert shown["A", "y"].spread == 0 and shown["B", "x"].mean != shown["B", "x"].mean
    assert figures.rows(DATA) == ["A", "B"]
    assert figures.heading(DATA) == "Errors (preset cpu, n = 2)"


def test_bars_stand_side_by_side_in_their_groups_on_a_page_that_is_closed(tmp_path: Path) -> None:
    from matplotlib import pyplot
    from matplotlib.patches import Rectangle

    shown, place = figures.cells(DATA), tmp_path / "figure.png"
    series = {row: [shown.get((row, c), figures.Shown()) for c in "xy"] for row in "AB"}
    with figures.page(place, (3, 2), dpi=40) as figure:
        axis = figure.subplots()
        figures.bars(axis, "xy", series, {"A": "red", "B": "blue"}, published="paper")
        bars = [bar for bar in axis.patches if isinstance(bar, Rectangle)]
        boxes = np.array([(bar.get_x(), bar.get_width(), bar.get_height()) for bar in bars])
        marks = np.asarray(axis.collections[-1].get_offsets())

    np.testing.assert_allclose(boxes[:, 0], [-0.39, 0.61, 0.01, 1.01])
    np.testing.assert_allclose(boxes[:, 1], 0.38)
    np.testing.assert_allclose(boxes[:, 2], [2, 4, np.nan, np.nan])
    np.testing.assert_allclose(marks, [[-0.2, 2.5]])
    assert place.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ZeroDivisionError), figures.page(tmp_path / "none.png", (3, 2)):
        raise ZeroDivisionError
    assert not (tmp_path / "none.png").exists() and pyplot.get_fignums() == []


def test_the_first_seed_of_a_cell_is_the_run_to_draw() -> None:
    folders = {("A", "x"): {}, ("A", "y"): {2: Path("two"), 3: Path("three")}}

    assert figures.first_folder(folders, "A", "y") == (2, Path("two"))
    assert figures.first_folder(folders, "A") == (2, Path("two"))
