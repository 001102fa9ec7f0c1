"""The figure of Table 3: images beside their SIRENs, and the accuracies of all rows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.config import from_json
from common.figures import RunDirectories, cells, first_folder, page, rows, stacked
from nfn.tasks import sirens
from nfn.tasks.figures import draw_accuracies, draw_pictures

NUM_RENDERINGS = 10
CHANCE = "Chance"


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws test images, their SIRENs below, and accuracies with their deviations."""
    _, folder = first_folder(run_directories, "NFN_NP", "test")
    config = from_json((folder / "config.json").read_text())
    images, renderings, psnr = sirens.examples(
        sirens.siren_set_spec(config.data), count=NUM_RENDERINGS
    )
    title = f"Test images (above) and the SIRENs fitted to them (below; mean PSNR {psnr:.1f} dB)"
    shown = [row for row in rows(data) if row != CHANCE]
    height = 0.96 + 0.36 * len(shown)
    with page(out_path, (9, 2 + height)) as figure:
        top, bottom = stacked(figure, (2, height))
        draw_pictures(top, title, [("", images), ("", renderings)])
        axis = bottom.subplots()
        draw_accuracies(
            axis, data, shown, ("train", "test"), published="paper (10 classes, full size)"
        )
        chance = cells(data)[CHANCE, "test"].mean
        axis.axvline(chance, color="gray", linestyle=":", label="chance")
        axis.legend(fontsize=8, loc="upper right")
