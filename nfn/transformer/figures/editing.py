"""The figure of table "editing": edited test images of every row, and the errors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories
from nfn.tasks.figures import draw_editing
from nfn.transformer.tables.editing import (
    DO_NOTHING,
    EDITS,
    NFN_ROWS,
    NFT,
    NO_NEURONS,
    NO_TENSORS,
)

COLORS = {
    DO_NOTHING: "#d9d9d9",
    "NFN_PT": "#e08a3c",
    "NFN_HNP": "#6aa56e",
    "NFN_NP": "#2f6db3",
    NFT: "#a3324b",
    NO_NEURONS: "#d99aa6",
    NO_TENSORS: "#c46a7b",
}


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws what every row shows for some test images, and the errors with their deviations."""
    rows = (*NFN_ROWS, NFT)
    draw_editing(data, run_directories, out_path, edits=EDITS, rows=rows, colors=COLORS, height=9.5)
