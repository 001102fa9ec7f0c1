"""The figure of table "generalization": learning curves, and predictions against the truth."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories
from nfn.tasks.figures import draw_ranking
from nfn.transformer.tables.generalization import NFT, SIZES

COLORS = {"NFN_HNP": "#2f6db3", "NFN_NP": "#d9822b", "STATNN": "#6a6a6a", NFT: "#a3324b"}
SHOWN = ("NFN_HNP", "NFN_NP", NFT)


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws tau against the number of training networks, and predictions of the largest size."""
    draw_ranking(data, run_directories, out_path, colors=COLORS, sizes=SIZES, rows=SHOWN)
