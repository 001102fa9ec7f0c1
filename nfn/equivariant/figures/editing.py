"""The figure of Table 6: edited test images of every row, and the errors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories
from nfn.equivariant.tables.editing import DO_NOTHING, IMAGE_COLUMNS, MOVING_COLUMNS, ROWS
from nfn.tasks.figures import draw_editing

COLORS = {
    DO_NOTHING: "#d9d9d9",
    "MLP": "#b8a8c8",
    "MLP_Aug": "#8f7aa8",
    "NFN_PT": "#e08a3c",
    "NFN_HNP": "#6aa56e",
    "NFN_NP": "#2f6db3",
    "NFN_NP, canonical": "#173a63",
}


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws what every row shows for some test images, and the errors with their deviations."""
    draw_editing(
        data,
        run_directories,
        out_path,
        edits=(*IMAGE_COLUMNS, *MOVING_COLUMNS),
        rows=tuple(ROWS),
        colors=COLORS,
        published="paper (MNIST, CIFAR-10)",
    )
