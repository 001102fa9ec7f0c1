"""The figure of the size curve: accuracy by steps of the encoder, to the paper's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories, size_curves
from nfn.transformer.tables.classification import NFT

COLORS = {NFT: "#2f6db3"}


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws the curve; it needs no run."""
    del run_directories
    size_curves(data, out_path, COLORS, ylabel="test accuracy / %")
