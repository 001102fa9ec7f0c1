"""The figure of Table 2: learning curves of Kendall's tau, and predictions against the truth."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories
from nfn.equivariant.tables.generalization import SIZES
from nfn.tasks.figures import draw_ranking

COLORS = {"NFN_HNP": "#2f6db3", "NFN_NP": "#d9822b", "STATNN": "#6a6a6a"}


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws tau against the number of training networks, and predictions of the largest size."""
    draw_ranking(data, run_directories, out_path, colors=COLORS, sizes=SIZES, rows=tuple(COLORS))
