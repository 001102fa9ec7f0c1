"""A picture of what profiles recommend: every criterion by block, clean data beside target data."""

from typing import TYPE_CHECKING

from common.figures import Shown, bars, legend_below, stacked
from finetune.surgery import TITLES, Recommendation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = {"clean": "#b0b0b0", "target": "#0b6fb8"}


def report(figure: "Figure", found: Recommendation) -> None:
    """Draws a recommendation: the profile of every criterion, and the advice in words above."""
    heading, body = stacked(figure, (0.12, 1))
    words = [f"tune {found.block}"]
    if found.gain is not None and found.confidence is not None:
        words += [f"{100 * found.gain:+.1f} points over tuning everything"]
        words += [f"confidence {found.confidence:.0%}"]
    heading.suptitle(f"{', '.join(words)}\n{found.basis}", fontsize=9)
    axes = body.subplots(1, len(found.profiles), sharey=True, squeeze=False)[0]
    for axis, (name, profile) in zip(axes, found.profiles.items(), strict=True):
        series = {"clean": found.clean[name]} if found.clean else {}
        series |= {"target": profile}
        shown = {kind: [Shown((float(v),)) for v in values] for kind, values in series.items()}
        bars(axis, found.blocks.names, shown, COLORS)
        axis.set_title(TITLES[name], fontsize=9)
        axis.tick_params(axis="x", labelrotation=45, labelsize=8)
        marked = [i for i, block in enumerate(found.blocks.names) if block == found.block]
        for place in marked:
            axis.axvspan(place - 0.5, place + 0.5, color="#f2c14e", alpha=0.25, lw=0)
    axes[0].set_ylabel("over the largest block")
    legend_below(body)
